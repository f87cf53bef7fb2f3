//! Role assignments: made, listed, taken away. A change is in force when it is answered.

use std::sync::{Arc, OnceLock, atomic::Ordering};

use super::{
    Caller, ChangeOptions, NewAssignment, Page, Paged, Service,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    scopes::{Making, NewRow, Put},
};
use crate::{
    access::{Permit, ops},
    model::{AssignmentId, AssignmentRow, Principal, Role, Scope, VersionId},
    store::HeadScope,
};

impl Service {
    /// Assigns a role.
    ///
    /// # Errors
    /// [`Problem::Exists`] when the principal has it there; [`Problem::Invalid`] for a role at a scope it
    /// is not for.
    pub async fn create_assignment(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewAssignment,
        options: ChangeOptions,
    ) -> Result<AssignmentRow, ServiceError> {
        let id = VersionId::from_bytes(super::fresh_id());
        self.change(caller, resource(id), Scope::Service, options, Assign { new, id }).await
    }

    /// Lists the assignments in the order of their ids.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list_assignments(
        &self,
        caller: &Caller,
        page: Page<AssignmentId>,
    ) -> Result<Paged<AssignmentRow>, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::RolesRead>| async {
            let rows = self.catalog.assignments(caller.deadline).await?;
            let mut items: Vec<AssignmentRow> = rows
                .into_iter()
                .map(|checked| AssignmentRow::clone(&checked.row))
                .filter(|row| page.after.is_none_or(|after| row.id > after))
                .collect();
            items.sort_by_key(|row| row.id);
            let size = usize::try_from(page.size).unwrap_or(usize::MAX);
            let more = items.len() > size;
            items.truncate(size);
            Ok(Paged { items, more })
        };
        self.plain(caller, "roleAssignments".to_owned(), Scope::Service, &note, work).await
    }

    /// After a commit of unknown fate nobody knows which roles are in force.
    fn note_policy<T>(&self, committed: Result<T, ServiceError>) -> Result<T, ServiceError> {
        if let Err(ServiceError { problem: Problem::Unknown { .. }, .. }) = &committed {
            self.policy_in_doubt.store(true, Ordering::Release);
        }
        committed
    }

    /// Takes an assignment away.
    ///
    /// # Errors
    /// [`Problem::Precondition`] for the last administrator.
    pub async fn delete_assignment(
        self: &Arc<Self>,
        caller: &Caller,
        id: AssignmentId,
        options: ChangeOptions,
    ) -> Result<AssignmentRow, ServiceError> {
        self.change(caller, resource(id), Scope::Service, options, Revoke { id, found: OnceLock::new() }).await
    }
}

/// An assignment's resource name.
#[must_use]
pub fn resource(id: AssignmentId) -> String {
    format!("roleAssignments/{id}")
}

struct Assign {
    new: NewAssignment,
    id: AssignmentId,
}

impl Assign {
    async fn plan(&self, service: &Service, context: &Context) -> Result<AssignmentRow, ServiceError> {
        let NewAssignment { principal, role, scope } = &self.new;
        match (role, scope) {
            (Role::Administrator, Scope::Service) => {}
            (Role::User, Scope::Vault(vault)) => {
                service.catalog.live_vault(vault, context.caller.deadline).await?;
            }
            (Role::Administrator, Scope::Vault(_)) => {
                let why = "the role administrator is assigned at the scope `/`".to_owned();
                return Err(Problem::Invalid { field: "role_assignment.scope", why }.into());
            }
            (Role::User, Scope::Service) => {
                let why = "the role user is assigned at the scope `vaults/{vault}`".to_owned();
                return Err(Problem::Invalid { field: "role_assignment.scope", why }.into());
            }
        }
        let rows = service.catalog.assignments(context.caller.deadline).await?;
        let same = |row: &AssignmentRow| row.principal == *principal && row.role == *role && row.scope == *scope;
        if let Some(found) = rows.iter().find(|checked| same(&checked.row)) {
            return Err(Problem::Exists { name: resource(found.row.id) }.into());
        }
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
    type Op = ops::RolesAssign;
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
        let committed = service
            .catalog
            .scopes
            .commit(
                &locked,
                Making { name: "roles.assign", right: &permit, intent: context.intent, request, deadline },
                vec![put],
            )
            .await;
        let committed = service.note_policy(committed)?;
        service.policy.set(service.policy.now().with(row.clone()));
        Ok(Applied { out: row, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        context: &Context,
    ) -> Result<AssignmentRow, ServiceError> {
        let rows = service.catalog.assignments(context.caller.deadline).await?;
        let found = rows.iter().find(|checked| resource(checked.row.id) == name);
        found
            .map(|checked| AssignmentRow::clone(&checked.row))
            .ok_or_else(|| Problem::NotFound { name: name.to_owned() }.into())
    }
}

struct Revoke {
    id: AssignmentId,
    /// What is taken away, as the check found it: the record must say it, for the row will be gone.
    found: OnceLock<String>,
}

/// A role in the words of a record.
fn described(role: Role, scope: &Scope, principal: &Principal) -> String {
    format!("{} at {scope} for {principal}", role.name())
}

impl Revoke {
    async fn plan(
        &self,
        service: &Service,
        context: &Context,
    ) -> Result<(AssignmentRow, strongroom_hsm::Seal), ServiceError> {
        let rows = service.catalog.assignments(context.caller.deadline).await?;
        let found = rows.iter().find(|checked| checked.row.id == self.id);
        let found = found.ok_or_else(|| Problem::NotFound { name: resource(self.id) })?;
        let administrators = rows.iter().filter(|checked| checked.row.role == Role::Administrator).count();
        if found.row.role == Role::Administrator && administrators == 1 {
            let why = "the last administrator cannot be taken away; assign another first".to_owned();
            return Err(Problem::Precondition { reason: "LAST_ADMINISTRATOR", why }.into());
        }
        self.found.get_or_init(|| described(found.row.role, &found.row.scope, &found.row.principal));
        Ok((AssignmentRow::clone(&found.row), found.seal))
    }
}

impl Work for Revoke {
    type Op = ops::RolesRevoke;
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
        Ok(self.plan(service, context).await?.0)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<AssignmentRow>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (row, seal) = self.plan(service, context).await?;
        let request = context.request_record(resource(row.id));
        let put = Put::remove(row.clone(), seal);
        let committed = service
            .catalog
            .scopes
            .commit(
                &locked,
                Making { name: "roles.revoke", right: &permit, intent: context.intent, request, deadline },
                vec![put],
            )
            .await;
        let committed = service.note_policy(committed)?;
        service.policy.set(service.policy.now().without(row.id));
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
