//! The policy: everything that decides who may do what, at one moment, made for deciding.
//!
//! A decision is a few hash look-ups: who, then the service, the vault, the type, the object, with a set of rights as
//! bits at each. It allocates nothing and walks no list, however many roles somebody has. A role's rights are
//! worked out when it changes, not when somebody asks.
//!
//! A policy is made of rows alone and never changes: what changes is a copy of it, which shares what is the same.
//! Whoever wants to know what a change would mean makes the copy and asks both.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use super::{
    action::{Action, Rights},
    roles::{self, RoleDefinition},
    shards::Shards,
};
use crate::model::{
    AccessPolicyRow, AssignmentId, AssignmentRow, Identity, MaxStaleness, NetworkRules, ObjectName, ObjectType,
    Permissions, Principal, RoleId, Scope, VaultAuthorization, VaultName,
};

/// What a policy says to a question. Conditions and approvals by others have their place here; there are none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allowed,
    /// It may not.
    Refused,
}

/// What a policy is made of.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The roles that did not come with the program.
    pub definitions: Vec<RoleDefinition>,
    /// Who has which role where.
    pub assignments: Vec<AssignmentRow>,
    /// What vaults decide beside roles; those that decide nothing can be left out.
    pub vaults: HashMap<VaultName, VaultAccess>,
    /// The access policies of all vaults, also of those that decide by roles.
    pub policies: Vec<AccessPolicyRow>,
}

/// What is decided for one vault beside roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultAccess {
    /// From where what is in it may be used.
    pub network: NetworkRules,
    /// What decides who may use what is in it.
    pub authorization: VaultAuthorization,
    /// How old what is known of it may be.
    pub max_staleness: MaxStaleness,
    /// What its access policies come to, whether they decide or not, by whose they are.
    pub policies: HashMap<Principal, Rights>,
}

/// What permissions of an access policy come to: an action needs all that it answers to.
#[must_use]
pub fn rights_of(permissions: &Permissions) -> Rights {
    let has = |name: &&str| {
        let (kind, name) = name.split_once('/').expect("the table of actions says {type}/{permission}");
        let kind = ObjectType::ALL.into_iter().find(|known| known.name() == kind);
        kind.is_some_and(|kind| permissions.permits(kind, name))
    };
    let given = |action: &Action| !action.policy().is_empty() && action.policy().iter().all(has);
    Action::ALL.into_iter().filter(given).collect()
}

/// Every rule at one moment.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    epoch: u64,
    /// Roles that did not come with the program.
    custom: Arc<HashMap<RoleId, Role>>,
    assignments: Shards<AssignmentId, Arc<AssignmentRow>>,
    subjects: Shards<Principal, Arc<Subject>>,
    /// Vaults that have anything but roles.
    pub(super) vaults: Arc<HashMap<VaultName, VaultAccess>>,
    /// The access policies themselves.
    access_policies: Arc<HashMap<VaultName, HashMap<Principal, Arc<AccessPolicyRow>>>>,
}

/// A role with its rights worked out.
#[derive(Clone, Debug)]
struct Role {
    definition: Arc<RoleDefinition>,
    rights: Rights,
}

impl Role {
    fn new(definition: Arc<RoleDefinition>) -> Self {
        Self { rights: definition.rights(), definition }
    }
}

/// What somebody has by roles.
#[derive(Clone, Debug, Default)]
struct Subject {
    assignments: Vec<Arc<AssignmentRow>>,
    service: Rights,
    /// At any scope at all.
    anywhere: Rights,
    vaults: HashMap<VaultName, InVault>,
}

/// What somebody has by roles within a vault; what is held at a wider scope is not repeated.
#[derive(Clone, Debug, Default)]
struct InVault {
    vault: Rights,
    types: [Rights; ObjectType::ALL.len()],
    objects: [HashMap<ObjectName, Rights>; ObjectType::ALL.len()],
}

impl Subject {
    fn add(&mut self, row: &Arc<AssignmentRow>, rights: Rights) {
        self.assignments.push(Arc::clone(row));
        self.anywhere = self.anywhere.union(rights);
        let place = match &row.scope {
            Scope::Service => &mut self.service,
            Scope::Vault(vault) => &mut self.vaults.entry(vault.clone()).or_default().vault,
            Scope::Type(vault, kind) => &mut self.vaults.entry(vault.clone()).or_default().types[*kind as usize],
            Scope::Object(vault, kind, name) => {
                let in_vault = self.vaults.entry(vault.clone()).or_default();
                in_vault.objects[*kind as usize].entry(name.clone()).or_default()
            }
        };
        *place = place.union(rights);
    }

    /// What was given at exactly that scope.
    fn exactly(&self, scope: &Scope) -> Rights {
        match scope {
            Scope::Service => self.service,
            Scope::Vault(vault) => self.vaults.get(vault).map_or(Rights::NONE, |found| found.vault),
            Scope::Type(vault, kind) => {
                self.vaults.get(vault).map_or(Rights::NONE, |found| found.types[*kind as usize])
            }
            Scope::Object(vault, kind, name) => {
                let objects = self.vaults.get(vault).map(|found| &found.objects[*kind as usize]);
                objects.and_then(|objects| objects.get(name)).copied().unwrap_or(Rights::NONE)
            }
        }
    }

    /// What holds at that scope, wherever it was given.
    fn rights(&self, scope: &Scope) -> Rights {
        let Some(found) = scope.vault().and_then(|vault| self.vaults.get(vault)) else { return self.service };
        let in_vault = self.service.union(found.vault);
        match scope {
            Scope::Service | Scope::Vault(_) => in_vault,
            Scope::Type(_, kind) => in_vault.union(found.types[*kind as usize]),
            Scope::Object(_, kind, name) => {
                let object = found.objects[*kind as usize].get(name).copied().unwrap_or(Rights::NONE);
                in_vault.union(found.types[*kind as usize]).union(object)
            }
        }
    }
}

impl Policy {
    /// The policy of these rows; `epoch` grows with every change of them.
    #[must_use]
    pub fn new(epoch: u64, rows: Rows) -> Self {
        let custom = rows.definitions.into_iter().map(|role| (role.id, Role::new(Arc::new(role)))).collect();
        let mut policy = Self { epoch, custom: Arc::new(custom), vaults: Arc::new(rows.vaults), ..Self::default() };
        let mut subjects: HashMap<Principal, Subject> = HashMap::new();
        for row in rows.assignments.into_iter().map(Arc::new) {
            subjects.entry(row.principal.clone()).or_default().add(&row, policy.role_rights(row.role));
            policy.assignments.set(row.id, row);
        }
        for (principal, subject) in subjects {
            policy.subjects.set(principal, Arc::new(subject));
        }
        for row in rows.policies {
            policy.put_access_policy(row);
        }
        policy
    }

    /// Grows with every change.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next policy, of other rows altogether.
    #[must_use]
    pub fn replaced(&self, rows: Rows) -> Self {
        Self::new(self.epoch + 1, rows)
    }

    fn next(&self) -> Self {
        Self { epoch: self.epoch + 1, ..self.clone() }
    }

    /// The next policy: with one more assignment.
    #[must_use]
    pub fn with_assignment(&self, row: AssignmentRow) -> Self {
        let (mut next, row) = (self.next(), Arc::new(row));
        let mut subject = next.subjects.get(&row.principal).map(|found| Subject::clone(found)).unwrap_or_default();
        subject.add(&row, self.role_rights(row.role));
        next.subjects.set(row.principal.clone(), Arc::new(subject));
        next.assignments.set(row.id, row);
        next
    }

    /// The next policy: without that assignment.
    #[must_use]
    pub fn without_assignment(&self, id: AssignmentId) -> Self {
        let mut next = self.next();
        let Some(row) = self.assignments.get(&id) else { return next };
        next.assignments.remove(&id);
        let rest = self.of_principal(&row.principal).iter().filter(|other| other.id != id);
        next.put_subject(&row.principal, rest);
        next
    }

    /// The next policy: with that role, in place of the one with its id if there is one.
    #[must_use]
    pub fn with_definition(&self, role: RoleDefinition) -> Self {
        let (mut next, id) = (self.next(), role.id);
        Arc::make_mut(&mut next.custom).insert(id, Role::new(Arc::new(role)));
        next.compile_again(id);
        next
    }

    /// The next policy: without that role. Who has it assigned has nothing by it.
    #[must_use]
    pub fn without_definition(&self, id: RoleId) -> Self {
        let mut next = self.next();
        Arc::make_mut(&mut next.custom).remove(&id);
        next.compile_again(id);
        next
    }

    /// The next policy: with that of a vault.
    #[must_use]
    pub fn with_vault(&self, vault: VaultName, access: VaultAccess) -> Self {
        let mut next = self.next();
        Arc::make_mut(&mut next.vaults).insert(vault, access);
        next
    }

    /// The next policy: with that access policy, in place of the one that its principal has there.
    #[must_use]
    pub fn with_access_policy(&self, row: AccessPolicyRow) -> Self {
        let mut next = self.next();
        next.put_access_policy(row);
        next
    }

    fn put_access_policy(&mut self, row: AccessPolicyRow) {
        let access = Arc::make_mut(&mut self.vaults).entry(row.vault.clone()).or_default();
        access.policies.insert(row.principal.clone(), rights_of(&row.permissions));
        let of_vault = Arc::make_mut(&mut self.access_policies).entry(row.vault.clone()).or_default();
        of_vault.insert(row.principal.clone(), Arc::new(row));
    }

    /// The next policy: without the access policy that somebody has there.
    #[must_use]
    pub fn without_access_policy(&self, vault: &VaultName, principal: &Principal) -> Self {
        let mut next = self.next();
        if let Some(access) = Arc::make_mut(&mut next.vaults).get_mut(vault) {
            access.policies.remove(principal);
        }
        if let Some(of_vault) = Arc::make_mut(&mut next.access_policies).get_mut(vault) {
            of_vault.remove(principal);
        }
        next
    }

    fn compile_again(&mut self, role: RoleId) {
        let concerned = |subject: &Arc<Subject>| subject.assignments.iter().any(|row| row.role == role);
        let concerned: Vec<(Principal, Arc<Subject>)> = self
            .subjects
            .iter()
            .filter(|(_, subject)| concerned(subject))
            .map(|(principal, subject)| (principal.clone(), Arc::clone(subject)))
            .collect();
        for (principal, subject) in concerned {
            self.put_subject(&principal, subject.assignments.iter());
        }
    }

    fn put_subject<'a>(&mut self, principal: &Principal, rows: impl Iterator<Item = &'a Arc<AssignmentRow>>) {
        let mut subject = Subject::default();
        for row in rows {
            subject.add(row, self.role_rights(row.role));
        }
        if subject.assignments.is_empty() {
            self.subjects.remove(principal);
        } else {
            self.subjects.set(principal.clone(), Arc::new(subject));
        }
    }

    /// What a role permits; nothing when there is no such role.
    #[must_use]
    pub fn role_rights(&self, id: RoleId) -> Rights {
        static BUILT_IN: LazyLock<HashMap<RoleId, Rights>> =
            LazyLock::new(|| roles::built_in().iter().map(|role| (role.id, role.rights())).collect());
        let built_in = BUILT_IN.get(&id).copied();
        built_in.or_else(|| self.custom.get(&id).map(|role| role.rights)).unwrap_or(Rights::NONE)
    }

    /// The role of that id.
    #[must_use]
    pub fn definition(&self, id: RoleId) -> Option<&Arc<RoleDefinition>> {
        roles::built_in_by_id(id).or_else(|| self.custom.get(&id).map(|role| &role.definition))
    }

    /// Every role: the built-in ones, then the others in no order.
    pub fn definitions(&self) -> impl Iterator<Item = &Arc<RoleDefinition>> {
        roles::built_in().iter().chain(self.custom.values().map(|role| &role.definition))
    }

    /// How many roles there are beside the built-in ones.
    #[must_use]
    pub fn custom_len(&self) -> usize {
        self.custom.len()
    }

    /// The assignment of that id.
    #[must_use]
    pub fn assignment(&self, id: AssignmentId) -> Option<&Arc<AssignmentRow>> {
        self.assignments.get(&id)
    }

    /// Every assignment, in no order.
    pub fn assignments(&self) -> impl Iterator<Item = &Arc<AssignmentRow>> {
        self.assignments.iter().map(|(_, row)| row)
    }

    /// How many assignments there are.
    #[must_use]
    pub const fn assignments_len(&self) -> usize {
        self.assignments.len()
    }

    /// The assignments of a principal, or of a group, itself.
    #[must_use]
    pub fn of_principal(&self, principal: &Principal) -> &[Arc<AssignmentRow>] {
        self.subjects.get(principal).map_or(&[], |subject| &subject.assignments)
    }

    /// Vaults that have anything but roles, in no order.
    pub fn vaults(&self) -> impl Iterator<Item = (&VaultName, &VaultAccess)> {
        self.vaults.iter()
    }

    /// The access policies of a vault, whether they decide or not, in no order.
    pub fn access_policies(&self, vault: &VaultName) -> impl ExactSizeIterator<Item = &Arc<AccessPolicyRow>> {
        static NONE: LazyLock<HashMap<Principal, Arc<AccessPolicyRow>>> = LazyLock::new(HashMap::new);
        self.access_policies.get(vault).unwrap_or(&NONE).values()
    }

    /// What is decided for a vault beside roles, if anything is.
    #[must_use]
    pub fn vault(&self, vault: &VaultName) -> Option<&VaultAccess> {
        self.vaults.get(vault)
    }

    /// What it says to a question.
    #[must_use]
    pub fn decide(&self, identity: &Identity, action: Action, scope: &Scope) -> Decision {
        if self.rights(identity, scope).has(action) { Decision::Allowed } else { Decision::Refused }
    }

    /// Whether it may be done.
    #[must_use]
    pub fn allows(&self, identity: &Identity, action: Action, scope: &Scope) -> bool {
        self.decide(identity, action, scope) == Decision::Allowed
    }

    /// Whether it may be done somewhere.
    #[must_use]
    pub fn allows_anywhere(&self, identity: &Identity, action: Action) -> bool {
        self.subjects_of(identity).any(|subject| subject.anywhere.has(action))
    }

    /// Everything that may be done there.
    #[must_use]
    pub fn rights(&self, identity: &Identity, scope: &Scope) -> Rights {
        let by_roles = union(self.subjects_of(identity).map(|subject| subject.rights(scope)));
        self.governed(identity, scope, by_roles)
    }

    /// What was given to somebody at exactly that scope. Access policies name no single object.
    fn exactly(&self, identity: &Identity, scope: &Scope) -> Rights {
        let by_roles = union(self.subjects_of(identity).map(|subject| subject.exactly(scope)));
        let held = self.governed(identity, scope, by_roles);
        if matches!(scope, Scope::Object(..)) { held.intersection(by_roles) } else { held }
    }

    /// What is left of rights by roles, and what comes to them, in a vault that decides otherwise.
    fn governed(&self, identity: &Identity, scope: &Scope, by_roles: Rights) -> Rights {
        match scope.vault().and_then(|vault| self.vaults.get(vault)) {
            Some(access) if access.authorization == VaultAuthorization::AccessPolicies => {
                let given = identity.names().filter_map(|name| access.policies.get(name).copied());
                by_roles.intersection(Rights::CONTROL).union(union(given))
            }
            _ => by_roles,
        }
    }

    fn subjects_of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a Arc<Subject>> {
        identity.names().filter_map(|name| self.subjects.get(name))
    }

    /// Whether somebody may see that vault in a list.
    #[must_use]
    pub fn sees(&self, identity: &Identity, vault: &VaultName) -> bool {
        self.allows(identity, Action::VaultsRead, &Scope::Vault(vault.clone()))
    }

    /// Whether somebody who asked for something at that scope may be told that it is not there, or is deleted:
    /// those who could see so in a list, and those who were given a right at exactly that scope.
    #[must_use]
    pub fn may_know(&self, identity: &Identity, scope: &Scope) -> bool {
        let lists = match scope {
            Scope::Service => true,
            Scope::Vault(_) | Scope::Type(..) => self.allows(identity, Action::VaultsRead, &Scope::Service),
            Scope::Object(vault, kind, _) => match kind {
                ObjectType::Keys => self.allows(identity, Action::KeysList, &Scope::Type(vault.clone(), *kind)),
                ObjectType::Secrets => self.allows(identity, Action::SecretsList, &Scope::Type(vault.clone(), *kind)),
                ObjectType::Certificates => false,
            },
        };
        let held = || match scope {
            // Whether the vault is there is all that can be asked of a type.
            Scope::Type(vault, _) => {
                let vault = Scope::Vault(vault.clone());
                self.exactly(identity, &vault).union(self.exactly(identity, scope))
            }
            scope => self.exactly(identity, scope),
        };
        lists || !held().is_empty()
    }

    /// What keeps somebody from handing out these rights there, or from taking them away: what he lacks himself.
    /// Nobody gives what administers without holding it, and the right to delegate.
    #[must_use]
    pub fn lacks_to_give(&self, identity: &Identity, rights: Rights, scope: &Scope) -> Rights {
        let administrative = rights.intersection(Rights::ADMINISTRATIVE);
        if administrative.is_empty() {
            return Rights::NONE;
        }
        let needed = administrative.union(Rights::of(Action::RoleAssignmentsDelegate));
        needed.without(self.rights(identity, scope))
    }

    /// Whether who has this assigned may give every right there is: everything that administers, at `/`.
    #[must_use]
    pub fn gives_everything(&self, row: &AssignmentRow) -> bool {
        row.scope == Scope::Service && self.role_rights(row.role).contains(Rights::ADMINISTRATIVE)
    }

    /// Whether anybody may give every right there is: if nobody may, nobody ever will.
    #[must_use]
    pub fn is_administered(&self) -> bool {
        self.assignments().any(|row| self.gives_everything(row))
    }
}

fn union(rights: impl Iterator<Item = Rights>) -> Rights {
    rights.fold(Rights::NONE, Rights::union)
}
