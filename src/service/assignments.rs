//! Role assignments: made, shown, listed, taken away, at every scope. A change is in force when it is answered.
//!
//! Whoever may assign roles at a scope may do so within it, and gives nobody what administers more than he does
//! himself there. An assignment is named by its id alone: to who may not see it, or not take it away, an id that
//! exists and one that does not are the same.

use std::sync::{Arc, OnceLock, atomic::Ordering};

use super::{
    Caller, ChangeOptions, NewAssignment, Page, Paged, Service, bounds,
    catalog::Checked,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    scopes::{Making, NewRow, Put},
};
use crate::{
    access::{Action, Op as _, Permit, Policy, RoleDefinition, Where, ops},
    model::{AssignmentId, AssignmentRow, Principal, RoleId, Scope, VersionId},
    store::HeadScope,
};

/// Which assignments a list shows; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct AssignmentFilter {
    /// Of this principal or group itself.
    pub principal: Option<Principal>,
    /// At this scope or within it.
    pub scope: Option<Scope>,
    /// Of this role.
    pub role: Option<RoleId>,
}

impl AssignmentFilter {
    fn shows(&self, row: &AssignmentRow) -> bool {
        self.principal.as_ref().is_none_or(|principal| row.principal == *principal)
            && self.scope.as_ref().is_none_or(|scope| scope.contains(&row.scope))
            && self.role.is_none_or(|role| row.role == role)
    }
}

impl Service {
    /// Assigns a role.
    ///
    /// # Errors
    /// [`Problem::Exists`] when the principal has it there; [`Problem::Invalid`] for a role that does not exist or
    /// is not for that scope; [`Problem::BeyondOwnRights`].
    pub async fn create_assignment(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewAssignment,
        options: ChangeOptions,
    ) -> Result<AssignmentRow, ServiceError> {
        let (id, scope) = (new.id.unwrap_or_else(|| VersionId::from_bytes(super::fresh_id())), new.scope.clone());
        self.change(caller, resource(id), scope, options, Assign { new, id }).await
    }

    /// Shows an assignment.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn get_assignment(&self, caller: &Caller, id: AssignmentId) -> Result<AssignmentRow, ServiceError> {
        self.catch_up(&Where::Anywhere, caller.deadline).await?;
        let scope = self.asked_at(caller, id, Action::RoleAssignmentsRead);
        let note = Note::default();
        self.plain(caller, resource(id), scope, &note, |_: Permit<ops::RoleAssignmentsRead>| async {
            Ok(AssignmentRow::clone(&self.catalog.assignment(id, caller.deadline).await?.row))
        })
        .await
    }

    /// Lists the assignments that the caller may see, in the order of their ids.
    ///
    /// # Errors
    /// When the caller may see none.
    pub async fn list_assignments(
        &self,
        caller: &Caller,
        page: Page<AssignmentId>,
        filter: AssignmentFilter,
    ) -> Result<Paged<AssignmentRow>, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::RoleAssignmentsRead>| async {
            let policy = self.policy.now();
            let sees = |scope: &Scope| policy.allows(&caller.identity, Action::RoleAssignmentsRead, scope);
            let mut found: Vec<&Arc<AssignmentRow>> = match &filter.principal {
                Some(principal) => policy.of_principal(principal).iter().collect(),
                None => policy.assignments().collect(),
            };
            found.retain(|row| page.after.is_none_or(|after| row.id > after) && filter.shows(row) && sees(&row.scope));
            found.sort_unstable_by_key(|row| row.id);
            let size = usize::try_from(page.size).unwrap_or(usize::MAX);
            let more = found.len() > size;
            Ok(Paged { items: found.into_iter().take(size).map(|row| AssignmentRow::clone(row)).collect(), more })
        };
        self.plain(caller, "roleAssignments".to_owned(), Where::Anywhere, &note, work).await
    }

    /// Takes an assignment away.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::BeyondOwnRights`]; [`Problem::Precondition`] for the last by which
    /// somebody may give every role.
    pub async fn delete_assignment(
        self: &Arc<Self>,
        caller: &Caller,
        id: AssignmentId,
        options: ChangeOptions,
    ) -> Result<AssignmentRow, ServiceError> {
        self.catch_up(&Where::Anywhere, caller.deadline).await?;
        let scope = self.asked_at(caller, id, Action::RoleAssignmentsDelete);
        self.change(caller, resource(id), scope, options, Revoke { id, found: OnceLock::new() }).await
    }

    /// The scope at which somebody asks for an assignment that is named by its id: its own, for those who have
    /// the right there; for all others the service, whether it exists or not.
    fn asked_at(&self, caller: &Caller, id: AssignmentId, action: Action) -> Scope {
        let policy = self.policy.now();
        let found = policy.assignment(id).map(|row| &row.scope);
        found.filter(|scope| policy.allows(&caller.identity, action, scope)).cloned().unwrap_or(Scope::Service)
    }

    /// The name of a role, for people; empty when it is gone.
    #[must_use]
    pub fn role_name(&self, id: RoleId) -> String {
        self.policy.now().definition(id).map(|role| role.name.clone()).unwrap_or_default()
    }

    /// After a commit of unknown fate nobody knows what is in force.
    pub(super) fn note_policy<T>(&self, committed: Result<T, ServiceError>) -> Result<T, ServiceError> {
        if let Err(ServiceError { problem: Problem::Unknown { .. }, .. }) = &committed {
            self.policy_in_doubt.store(true, Ordering::Release);
        }
        committed
    }
}

/// An assignment's resource name.
#[must_use]
pub fn resource(id: AssignmentId) -> String {
    format!("roleAssignments/{id}")
}

/// Refuses to give, or to take away, what administers more than the caller does there.
fn check_own_rights(
    policy: &Policy,
    context: &Context,
    role: &RoleDefinition,
    scope: &Scope,
) -> Result<(), ServiceError> {
    let lacking = policy.lacks_to_give(&context.caller.identity, role.rights(), scope);
    if lacking.is_empty() {
        return Ok(());
    }
    let (role, scope, lacking) = (role.name.clone(), scope.to_string(), lacking.to_string());
    Err(Problem::BeyondOwnRights { role, scope, lacking }.into())
}

struct Assign {
    new: NewAssignment,
    id: AssignmentId,
}

impl Assign {
    async fn plan(&self, service: &Service, context: &Context) -> Result<AssignmentRow, ServiceError> {
        let NewAssignment { id: _, principal, role, scope } = &self.new;
        if let Some(vault) = scope.vault() {
            service.catalog.live_vault(vault, context.caller.deadline).await?;
        }
        let policy = service.policy.now();
        let Some(definition) = policy.definition(*role) else {
            let why = format!("roleDefinitions/{role} does not exist");
            return Err(Problem::Invalid { field: "role_assignment.role", why }.into());
        };
        if !definition.is_assignable_at(scope) {
            let scopes: Vec<String> = definition.assignable_scopes.iter().map(Scope::to_string).collect();
            let why = match scopes.is_empty() {
                true => format!("the role {} is given at the console, and by no request", definition.name),
                false => format!("the role {} can be assigned within {} only", definition.name, scopes.join(", ")),
            };
            return Err(Problem::Invalid { field: "role_assignment.scope", why }.into());
        }
        check_own_rights(&policy, context, definition, scope)?;
        let same = |row: &&Arc<AssignmentRow>| row.role == *role && row.scope == *scope;
        if let Some(found) = policy.of_principal(principal).iter().find(same) {
            return Err(Problem::Exists { name: resource(found.id) }.into());
        }
        if policy.assignment(self.id).is_some() {
            return Err(Problem::Exists { name: resource(self.id) }.into());
        }
        bounds::check_assignments(&policy)?;
        Ok(AssignmentRow {
            id: self.id,
            principal: principal.clone(),
            role: *role,
            scope: scope.clone(),
            created: context.now,
            intent: context.intent,
            revision: 1,
        })
    }
}

impl Work for Assign {
    type Op = ops::RoleAssignmentsCreate;
    type Out = AssignmentRow;

    fn detail(&self) -> Option<String> {
        Some(described(self.new.role, &self.new.scope, &self.new.principal))
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<AssignmentRow, ServiceError> {
        self.plan(service, context).await
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<AssignmentRow>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let row = self.plan(service, context).await?;
        let put = Put::insert(NewRow::Assignment(row.clone()));
        let request = context.request_record(resource(row.id));
        let name = Self::Op::ACTION.name();
        let making = Making { name, right: &permit, intent: context.intent, request, deadline };
        let committed = service.note_policy(service.catalog.scopes.commit(&locked, making, vec![put]).await)?;
        service.policy.set(service.policy.now().with_assignment(row.clone()));
        Ok(Applied { out: row, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        context: &Context,
    ) -> Result<AssignmentRow, ServiceError> {
        let not_found = || Problem::NotFound { name: name.to_owned() };
        let id = name.strip_prefix("roleAssignments/").and_then(|id| id.parse().ok()).ok_or_else(not_found)?;
        Ok(AssignmentRow::clone(&service.catalog.assignment(id, context.caller.deadline).await?.row))
    }
}

struct Revoke {
    id: AssignmentId,
    /// What is taken away, as the check found it: the record must say it, for the row will be gone.
    found: OnceLock<String>,
}

/// A role in the words of a record.
pub(super) fn described(role: RoleId, scope: &Scope, principal: &Principal) -> String {
    format!("roleDefinitions/{role} at {scope} for {principal}")
}

impl Revoke {
    async fn plan(&self, service: &Service, context: &Context) -> Result<Checked<AssignmentRow>, ServiceError> {
        let found = service.catalog.assignment(self.id, context.caller.deadline).await?;
        let policy = service.policy.now();
        // A role that is gone permits nothing, so anybody who may take roles away may take it away.
        if let Some(role) = policy.definition(found.row.role) {
            check_own_rights(&policy, context, role, &found.row.scope)?;
        }
        if policy.gives_everything(&found.row) && !policy.without_assignment(self.id).is_administered() {
            let why = "the last assignment by which somebody may give every role at / cannot be taken away; assign \
                       another first";
            return Err(Problem::Precondition { reason: "LAST_ADMINISTRATOR", why: why.to_owned() }.into());
        }
        self.found.get_or_init(|| described(found.row.role, &found.row.scope, &found.row.principal));
        Ok(found)
    }
}

impl Work for Revoke {
    type Op = ops::RoleAssignmentsDelete;
    type Out = AssignmentRow;

    fn detail(&self) -> Option<String> {
        self.found.get().cloned()
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<AssignmentRow, ServiceError> {
        Ok(AssignmentRow::clone(&self.plan(service, context).await?.row))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<AssignmentRow>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let found = self.plan(service, context).await?;
        let row = AssignmentRow::clone(&found.row);
        let request = context.request_record(resource(row.id));
        let put = Put::remove(NewRow::RemoveAssignment(row.clone()), found.seal);
        let name = Self::Op::ACTION.name();
        let making = Making { name, right: &permit, intent: context.intent, request, deadline };
        let committed = service.note_policy(service.catalog.scopes.commit(&locked, making, vec![put]).await)?;
        service.policy.set(service.policy.now().without_assignment(row.id));
        Ok(Applied { out: row, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        _: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        _: &Context,
    ) -> Result<AssignmentRow, ServiceError> {
        // It is gone, as was asked; there is nothing left to show.
        Err(Problem::NotFound { name: name.to_owned() }.into())
    }
}
