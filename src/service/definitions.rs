//! Roles: the built-in ones are shown, others made, changed and deleted. A change is in force when it is answered,
//! also for what was assigned before.
//!
//! Roles belong to the service, not to a vault: who changes them holds the right at `/`. Nobody gives a role what
//! administers and he does not hold there himself, or a role of his own could be widened to anything.

use std::sync::{Arc, OnceLock};

use super::{
    Caller, ChangeOptions, Page, Paged, Service, bounds,
    catalog::Checked,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    scopes::{Locked, Making, NewRow, Put},
};
use crate::{
    access::{Op, Permit, Policy, RoleDefinition, Where, ops, roles},
    audit::HeadMark,
    model::{ActionPattern, RoleDefinitionRow, RoleId, RolePatterns, Row as _, Scope, Timestamp},
    store::HeadScope,
};

/// What a role is to be.
#[derive(Clone, Debug)]
pub struct NewRole {
    /// Its id; one is made when absent.
    pub id: Option<RoleId>,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it permits.
    pub patterns: RolePatterns,
    /// Where it can be assigned.
    pub assignable_scopes: Vec<Scope>,
}

/// What to change of a role; what is absent stays.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is its field of the role")]
pub struct RolePatch {
    pub name: Option<String>,
    pub description: Option<String>,
    pub actions: Option<Vec<ActionPattern>>,
    pub not_actions: Option<Vec<ActionPattern>>,
    pub data_actions: Option<Vec<ActionPattern>>,
    pub not_data_actions: Option<Vec<ActionPattern>>,
    pub assignable_scopes: Option<Vec<Scope>>,
}

impl RolePatch {
    /// The role with this changed.
    #[must_use]
    pub fn of(&self, role: &RoleDefinition) -> RoleDefinition {
        let mut role = role.clone();
        self.apply(&mut role.name, &mut role.description, &mut role.patterns, &mut role.assignable_scopes);
        role
    }

    fn apply(
        &self,
        name: &mut String,
        description: &mut String,
        patterns: &mut RolePatterns,
        assignable_scopes: &mut Vec<Scope>,
    ) {
        fn put<T: Clone>(new: &Option<T>, old: &mut T) {
            if let Some(new) = new {
                old.clone_from(new);
            }
        }
        put(&self.name, name);
        put(&self.description, description);
        put(&self.actions, &mut patterns.actions);
        put(&self.not_actions, &mut patterns.not_actions);
        put(&self.data_actions, &mut patterns.data_actions);
        put(&self.not_data_actions, &mut patterns.not_data_actions);
        put(&self.assignable_scopes, assignable_scopes);
    }
}

impl Service {
    /// Makes a role.
    ///
    /// # Errors
    /// [`Problem::Exists`] when the id or name is taken, by a built-in role too; [`Problem::BeyondOwnRights`].
    pub async fn create_role(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewRole,
        options: ChangeOptions,
    ) -> Result<RoleDefinition, ServiceError> {
        let id = new.id.unwrap_or_else(|| RoleId::from_bytes(super::fresh_id()));
        let work = CreateRole { id, new };
        self.change(caller, resource(id), Scope::Service, options, work).await
    }

    /// Shows a role.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn get_role(&self, caller: &Caller, id: RoleId) -> Result<RoleDefinition, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::RoleDefinitionsRead>| async {
            let policy = self.policy.now();
            let found = policy.definition(id).ok_or_else(|| Problem::NotFound { name: resource(id) })?;
            Ok(RoleDefinition::clone(found))
        };
        self.plain(caller, resource(id), Where::Anywhere, &note, work).await
    }

    /// Lists the roles, in the order of their ids.
    ///
    /// # Errors
    /// When the caller may not read roles.
    pub async fn list_roles(&self, caller: &Caller, page: Page<RoleId>) -> Result<Paged<RoleDefinition>, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::RoleDefinitionsRead>| async {
            let policy = self.policy.now();
            let mut found: Vec<&Arc<RoleDefinition>> =
                policy.definitions().filter(|role| page.after.is_none_or(|after| role.id > after)).collect();
            found.sort_unstable_by_key(|role| role.id);
            let size = usize::try_from(page.size).unwrap_or(usize::MAX);
            let more = found.len() > size;
            Ok(Paged { items: found.into_iter().take(size).map(|role| RoleDefinition::clone(role)).collect(), more })
        };
        self.plain(caller, "roleDefinitions".to_owned(), Where::Anywhere, &note, work).await
    }

    /// Changes a role.
    ///
    /// # Errors
    /// [`Problem::Precondition`] for a built-in role, and where somebody has the role and would no longer fit it;
    /// [`Problem::BeyondOwnRights`].
    pub async fn update_role(
        self: &Arc<Self>,
        caller: &Caller,
        id: RoleId,
        patch: RolePatch,
        options: ChangeOptions,
    ) -> Result<RoleDefinition, ServiceError> {
        self.change(caller, resource(id), Scope::Service, options, UpdateRole { id, patch, becomes: OnceLock::new() })
            .await
    }

    /// Deletes a role that nobody has.
    ///
    /// # Errors
    /// [`Problem::Precondition`] for a built-in role and for one that is assigned.
    pub async fn delete_role(
        self: &Arc<Self>,
        caller: &Caller,
        id: RoleId,
        options: ChangeOptions,
    ) -> Result<RoleDefinition, ServiceError> {
        let work = DeleteRole { id, found: OnceLock::new() };
        self.change(caller, resource(id), Scope::Service, options, work).await
    }

    /// A role of one's own with its seal, for a change of it.
    async fn own_role(&self, id: RoleId, context: &Context) -> Result<Checked<RoleDefinitionRow>, ServiceError> {
        if let Some(role) = roles::built_in_by_id(id) {
            let why = format!("{} is a built-in role and stays as it is", role.name);
            return Err(Problem::Precondition { reason: "BUILT_IN_ROLE", why }.into());
        }
        let rows = self.catalog.role_definitions(context.caller.deadline).await?;
        let found = rows.into_iter().find(|checked| checked.row.id == id);
        let found = found.ok_or_else(|| Problem::NotFound { name: resource(id) })?;
        context.check_etag(&found.row.etag(), &resource(id))?;
        Ok(found)
    }
}

/// A role's resource name.
#[must_use]
pub fn resource(id: RoleId) -> String {
    format!("roleDefinitions/{id}")
}

/// Refuses what no role can be, and what the caller may not make of one.
fn check_role(row: &RoleDefinitionRow, policy: &Policy, context: &Context) -> Result<RoleDefinition, ServiceError> {
    row.check().map_err(|error| Problem::Invalid { field: "role_definition", why: error.to_string() })?;
    let folded = row.folded_name();
    let same = |role: &&Arc<RoleDefinition>| role.id != row.id && role.name.to_lowercase() == folded;
    if let Some(other) = policy.definitions().find(same) {
        return Err(Problem::Exists { name: resource(other.id) }.into());
    }
    let role = RoleDefinition::from(row);
    let before = policy.role_rights(row.id);
    let lacking = policy.lacks_to_give(&context.caller.identity, role.rights().union(before), &Scope::Service);
    if lacking.is_empty() {
        return Ok(role);
    }
    let (name, scope) = (row.name.clone(), Scope::Service.to_string());
    Err(Problem::BeyondOwnRights { role: name, scope, lacking: lacking.to_string() }.into())
}

/// What a role is, in the words of a record.
fn described(row: &RoleDefinitionRow) -> String {
    let rights = RoleDefinition::from(row).rights();
    let scopes: Vec<String> = row.assignable_scopes.iter().map(Scope::to_string).collect();
    format!("{:?} permits {rights} within {}", row.name, scopes.join(", "))
}

/// Commits a change of a role and puts it in force.
async fn commit<O: Op>(
    service: &Service,
    locked: &Locked,
    (permit, context): (&Permit<O>, &Context),
    (id, put): (RoleId, Put),
    next: impl FnOnce(&Policy) -> Policy,
) -> Result<HeadMark, ServiceError> {
    let (deadline, request) = (context.caller.deadline, context.request_record(resource(id)));
    let making = Making { name: O::ACTION.name(), right: permit, intent: context.intent, request, deadline };
    let committed = service.note_policy(service.catalog.scopes.commit(locked, making, vec![put]).await)?;
    service.policy.set(next(&service.policy.now()));
    Ok(committed.mark)
}

/// The answer to a change that was made before.
fn made_before(service: &Service, name: &str) -> Result<RoleDefinition, ServiceError> {
    let id = name.strip_prefix("roleDefinitions/").and_then(|id| id.parse().ok());
    let policy = service.policy.now();
    let found = id.and_then(|id| policy.definition(id));
    Ok(RoleDefinition::clone(found.ok_or_else(|| Problem::NotFound { name: name.to_owned() })?))
}

struct CreateRole {
    id: RoleId,
    new: NewRole,
}

impl CreateRole {
    fn plan(&self, service: &Service, context: &Context) -> Result<(RoleDefinitionRow, RoleDefinition), ServiceError> {
        let policy = service.policy.now();
        if policy.definition(self.id).is_some() {
            return Err(Problem::Exists { name: resource(self.id) }.into());
        }
        bounds::check_roles(&policy)?;
        let row = self.row(context.now, context.intent);
        let role = check_role(&row, &policy, context)?;
        Ok((row, role))
    }

    fn row(&self, now: Timestamp, intent: u64) -> RoleDefinitionRow {
        RoleDefinitionRow {
            id: self.id,
            name: self.new.name.clone(),
            description: self.new.description.clone(),
            patterns: self.new.patterns.clone(),
            assignable_scopes: self.new.assignable_scopes.clone(),
            created: now,
            updated: now,
            intent,
            revision: 1,
        }
    }
}

impl Work for CreateRole {
    type Op = ops::RoleDefinitionsCreate;
    type Out = RoleDefinition;

    fn detail(&self) -> Option<String> {
        Some(described(&self.row(Timestamp(0), 0)))
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<RoleDefinition, ServiceError> {
        Ok(self.plan(service, context)?.1)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<RoleDefinition>, ServiceError> {
        let locked = service.catalog.scopes.lock(HeadScope::Service, context.caller.deadline).await?;
        let (row, role) = self.plan(service, context)?;
        let put = (row.id, Put::insert(NewRow::RoleDefinition(Box::new(row))));
        let next = |policy: &Policy| policy.with_definition(role.clone());
        let mark = commit(service, &locked, (&permit, context), put, next).await?;
        Ok(Applied { out: role, heads: vec![mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        _: &Context,
    ) -> Result<RoleDefinition, ServiceError> {
        made_before(service, name)
    }
}

struct UpdateRole {
    id: RoleId,
    patch: RolePatch,
    /// What it is changed to, for the record.
    becomes: OnceLock<String>,
}

impl UpdateRole {
    async fn plan(
        &self,
        service: &Service,
        context: &Context,
    ) -> Result<(Checked<RoleDefinitionRow>, RoleDefinitionRow, RoleDefinition), ServiceError> {
        let old = service.own_role(self.id, context).await?;
        let mut new = RoleDefinitionRow::clone(&old.row);
        self.patch.apply(&mut new.name, &mut new.description, &mut new.patterns, &mut new.assignable_scopes);
        (new.updated, new.intent, new.revision) = (context.now, context.intent, old.row.revision + 1);
        let policy = service.policy.now();
        let role = check_role(&new, &policy, context)?;
        if let Some(row) = policy.assignments().find(|row| row.role == self.id && !role.is_assignable_at(&row.scope)) {
            let why = format!("the role is assigned at {}, outside of its new assignable_scopes", row.scope);
            return Err(Problem::Precondition { reason: "ROLE_ASSIGNED", why }.into());
        }
        if policy.is_administered() && !policy.with_definition(role.clone()).is_administered() {
            let why = "with this change nobody could give every role at / any more".to_owned();
            return Err(Problem::Precondition { reason: "LAST_ADMINISTRATOR", why }.into());
        }
        self.becomes.get_or_init(|| described(&new));
        Ok((old, new, role))
    }
}

impl Work for UpdateRole {
    type Op = ops::RoleDefinitionsUpdate;
    type Out = RoleDefinition;

    fn detail(&self) -> Option<String> {
        self.becomes.get().cloned()
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<RoleDefinition, ServiceError> {
        Ok(self.plan(service, context).await?.2)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<RoleDefinition>, ServiceError> {
        let locked = service.catalog.scopes.lock(HeadScope::Service, context.caller.deadline).await?;
        let (old, new, role) = self.plan(service, context).await?;
        let put = (new.id, Put::replace(old.row.as_ref(), old.seal, NewRow::RoleDefinition(Box::new(new))));
        let next = |policy: &Policy| policy.with_definition(role.clone());
        let mark = commit(service, &locked, (&permit, context), put, next).await?;
        Ok(Applied { out: role, heads: vec![mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        _: &Context,
    ) -> Result<RoleDefinition, ServiceError> {
        made_before(service, name)
    }
}

struct DeleteRole {
    id: RoleId,
    /// What is deleted, for the record: the row will be gone.
    found: OnceLock<String>,
}

impl DeleteRole {
    async fn plan(&self, service: &Service, context: &Context) -> Result<Checked<RoleDefinitionRow>, ServiceError> {
        let old = service.own_role(self.id, context).await?;
        let policy = service.policy.now();
        if let Some(row) = policy.assignments().find(|row| row.role == self.id) {
            let why = format!("the role is assigned (roleAssignments/{}): take its assignments away first", row.id);
            return Err(Problem::Precondition { reason: "ROLE_ASSIGNED", why }.into());
        }
        self.found.get_or_init(|| described(&old.row));
        Ok(old)
    }
}

impl Work for DeleteRole {
    type Op = ops::RoleDefinitionsDelete;
    type Out = RoleDefinition;

    fn detail(&self) -> Option<String> {
        self.found.get().cloned()
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<RoleDefinition, ServiceError> {
        Ok(RoleDefinition::from(self.plan(service, context).await?.row.as_ref()))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<RoleDefinition>, ServiceError> {
        let locked = service.catalog.scopes.lock(HeadScope::Service, context.caller.deadline).await?;
        let old = self.plan(service, context).await?;
        let row = RoleDefinitionRow::clone(&old.row);
        let role = RoleDefinition::from(&row);
        let put = (self.id, Put::remove(NewRow::RemoveRoleDefinition(Box::new(row)), old.seal));
        let next = |policy: &Policy| policy.without_definition(self.id);
        let mark = commit(service, &locked, (&permit, context), put, next).await?;
        Ok(Applied { out: role, heads: vec![mark] })
    }

    async fn again(
        &self,
        _: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        _: &Context,
    ) -> Result<RoleDefinition, ServiceError> {
        // It is gone, as was asked; there is nothing left to show.
        Err(Problem::NotFound { name: name.to_owned() }.into())
    }
}
