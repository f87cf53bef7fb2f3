//! Who may do what. Pure: a policy, a principal, an action and a scope in; a [`Permit`] or [`Denied`] out.
//!
//! A [`Permit`] says that a principal may do one kind of operation in one scope. Joined with the checked
//! thing it is to be done to, it becomes a [`Grant`], and only a grant can be acted with
//! (`service::hands`): an operation that forgets its authorisation does not compile. Permits are made here
//! and nowhere else. A grant can be asked again whether it still holds; the lanes do so when the work
//! leaves their queue.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use arc_swap::ArcSwap;

use crate::model::{AssignmentId, AssignmentRow, Identity, Origin, Principal, Role, Scope, VaultName};

pub mod state;

/// Something that can be done. The name is what audit records, metrics and errors show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is its name below")]
pub enum Action {
    VaultsCreate,
    VaultsRead,
    VaultsUpdate,
    VaultsDelete,
    VaultsUndelete,
    KeysCreate,
    KeysImport,
    KeysRead,
    KeysUpdate,
    KeysDelete,
    KeysUndelete,
    KeysSign,
    KeysVerify,
    KeysEncrypt,
    KeysDecrypt,
    KeysWrap,
    KeysUnwrap,
    DataKeysGenerate,
    DataKeysGenerateWrapped,
    RandomGenerate,
    RolesRead,
    RolesAssign,
    RolesRevoke,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 23] = [
        Self::VaultsCreate,
        Self::VaultsRead,
        Self::VaultsUpdate,
        Self::VaultsDelete,
        Self::VaultsUndelete,
        Self::KeysCreate,
        Self::KeysImport,
        Self::KeysRead,
        Self::KeysUpdate,
        Self::KeysDelete,
        Self::KeysUndelete,
        Self::KeysSign,
        Self::KeysVerify,
        Self::KeysEncrypt,
        Self::KeysDecrypt,
        Self::KeysWrap,
        Self::KeysUnwrap,
        Self::DataKeysGenerate,
        Self::DataKeysGenerateWrapped,
        Self::RandomGenerate,
        Self::RolesRead,
        Self::RolesAssign,
        Self::RolesRevoke,
    ];

    /// The name, `{noun}.{verb}`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VaultsCreate => "vaults.create",
            Self::VaultsRead => "vaults.read",
            Self::VaultsUpdate => "vaults.update",
            Self::VaultsDelete => "vaults.delete",
            Self::VaultsUndelete => "vaults.undelete",
            Self::KeysCreate => "keys.create",
            Self::KeysImport => "keys.import",
            Self::KeysRead => "keys.read",
            Self::KeysUpdate => "keys.update",
            Self::KeysDelete => "keys.delete",
            Self::KeysUndelete => "keys.undelete",
            Self::KeysSign => "keys.sign",
            Self::KeysVerify => "keys.verify",
            Self::KeysEncrypt => "keys.encrypt",
            Self::KeysDecrypt => "keys.decrypt",
            Self::KeysWrap => "keys.wrap",
            Self::KeysUnwrap => "keys.unwrap",
            Self::DataKeysGenerate => "dataKeys.generate",
            Self::DataKeysGenerateWrapped => "dataKeys.generateWrapped",
            Self::RandomGenerate => "random.generate",
            Self::RolesRead => "roles.read",
            Self::RolesAssign => "roles.assign",
            Self::RolesRevoke => "roles.revoke",
        }
    }

    /// Whether it hands out a secret that the service made: its record is on the disk before the answer.
    #[must_use]
    pub const fn releases_secret(self) -> bool {
        matches!(self, Self::DataKeysGenerate)
    }

    /// Whether the role `user` of a vault permits it there.
    const fn is_for_users(self) -> bool {
        match self {
            Self::VaultsRead
            | Self::KeysCreate
            | Self::KeysImport
            | Self::KeysRead
            | Self::KeysUpdate
            | Self::KeysDelete
            | Self::KeysUndelete
            | Self::KeysSign
            | Self::KeysVerify
            | Self::KeysEncrypt
            | Self::KeysDecrypt
            | Self::KeysWrap
            | Self::KeysUnwrap
            | Self::DataKeysGenerate
            | Self::DataKeysGenerateWrapped
            | Self::RandomGenerate => true,
            Self::VaultsCreate
            | Self::VaultsUpdate
            | Self::VaultsDelete
            | Self::VaultsUndelete
            | Self::RolesRead
            | Self::RolesAssign
            | Self::RolesRevoke => false,
        }
    }
}

/// An operation as a type: what a grant is for.
pub trait Op: Send + Sync + 'static {
    /// The action it needs.
    const ACTION: Action;
}

macro_rules! ops {
    ($($name:ident),* $(,)?) => {
        /// The operations as types.
        pub mod ops {
            $(
                #[doc = concat!("The operation `", stringify!($name), "`.")]
                #[derive(Debug)]
                pub struct $name;

                impl super::Op for $name {
                    const ACTION: super::Action = super::Action::$name;
                }
            )*
        }
    };
}

ops!(
    VaultsCreate,
    VaultsRead,
    VaultsUpdate,
    VaultsDelete,
    VaultsUndelete,
    KeysCreate,
    KeysImport,
    KeysRead,
    KeysUpdate,
    KeysDelete,
    KeysUndelete,
    KeysSign,
    KeysVerify,
    KeysEncrypt,
    KeysDecrypt,
    KeysWrap,
    KeysUnwrap,
    DataKeysGenerate,
    DataKeysGenerateWrapped,
    RandomGenerate,
    RolesRead,
    RolesAssign,
    RolesRevoke,
);

/// A refusal. It says what was asked, never what exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{principal} may not do {} at {scope}", action.name())]
pub struct Denied {
    /// Who asked.
    pub principal: Principal,
    /// What for.
    pub action: Action,
    /// Where.
    pub scope: Scope,
}

/// Every assignment at one moment.
#[derive(Debug, Default)]
pub struct Policy {
    epoch: u64,
    rows: Vec<AssignmentRow>,
    roles: HashMap<Principal, Vec<(Role, Scope)>>,
}

impl Policy {
    /// The policy of these assignments; `epoch` grows with every change of them.
    #[must_use]
    pub fn new(epoch: u64, rows: Vec<AssignmentRow>) -> Self {
        let mut roles: HashMap<Principal, Vec<(Role, Scope)>> = HashMap::new();
        for row in &rows {
            roles.entry(row.principal.clone()).or_default().push((row.role, row.scope.clone()));
        }
        Self { epoch, rows, roles }
    }

    /// The next policy: with one more assignment.
    #[must_use]
    pub fn with(&self, row: AssignmentRow) -> Self {
        Self::new(self.epoch + 1, self.rows.iter().cloned().chain([row]).collect())
    }

    /// The next policy: without that assignment.
    #[must_use]
    pub fn without(&self, id: AssignmentId) -> Self {
        Self::new(self.epoch + 1, self.rows.iter().filter(|row| row.id != id).cloned().collect())
    }

    /// The next policy: these assignments.
    #[must_use]
    pub fn replaced(&self, rows: Vec<AssignmentRow>) -> Self {
        Self::new(self.epoch + 1, rows)
    }

    /// Whether the principal may do it there. Random bytes belong to no vault: a role in any will do.
    #[must_use]
    pub fn allows(&self, identity: &Identity, action: Action, scope: &Scope) -> bool {
        self.held(identity).any(|(role, at)| match (role, at) {
            (Role::Administrator, Scope::Service) => true,
            (Role::User, Scope::Vault(_)) => action.is_for_users() && (at == scope || action == Action::RandomGenerate),
            // Neither can be assigned; a row that says so gives nothing.
            (Role::Administrator, Scope::Vault(_)) | (Role::User, Scope::Service) => false,
        })
    }

    /// The roles of a principal and of its groups.
    fn held<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a (Role, Scope)> {
        identity.names().filter_map(|name| self.roles.get(name)).flatten()
    }

    /// Whether the principal may see that vault in a list.
    #[must_use]
    pub fn sees(&self, identity: &Identity, vault: &VaultName) -> bool {
        self.allows(identity, Action::VaultsRead, &Scope::Vault(vault.clone()))
    }

    /// The widest scope at which the principal may read vaults: the service for an administrator, else
    /// any vault of its roles. Without a role it is the service, where it will be refused.
    #[must_use]
    pub fn reading_scope(&self, identity: &Identity) -> Scope {
        if self.allows(identity, Action::VaultsRead, &Scope::Service) {
            return Scope::Service;
        }
        self.held(identity).map(|(_, scope)| scope.clone()).next().unwrap_or(Scope::Service)
    }
}

/// The newest policy, shared by everyone who decides.
#[derive(Debug, Default)]
pub struct PolicyCell(ArcSwap<Policy>);

impl PolicyCell {
    /// A cell with that policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(ArcSwap::from_pointee(policy))
    }

    /// Puts a newer policy in force, at once.
    pub fn set(&self, policy: Policy) {
        self.0.store(Arc::new(policy));
    }

    /// The policy in force.
    #[must_use]
    pub fn now(&self) -> Arc<Policy> {
        self.0.load_full()
    }

    /// Decides, and gives a permit for exactly this.
    ///
    /// # Errors
    /// When no assignment permits it.
    pub fn permit<O: Op>(
        self: &Arc<Self>,
        identity: &Arc<Identity>,
        origin: Origin,
        scope: Scope,
    ) -> Result<Permit<O>, Denied> {
        let policy = self.0.load();
        if !identity.holds() || !policy.allows(identity, O::ACTION, &scope) {
            return Err(Denied { principal: identity.principal().clone(), action: O::ACTION, scope });
        }
        let identity = Arc::clone(identity);
        let claim = Claim { cell: Arc::clone(self), epoch: policy.epoch, identity, origin, scope };
        Ok(Permit { claim, op: PhantomData })
    }
}

/// What a decision was about, to be asked again.
#[derive(Clone, Debug)]
struct Claim {
    cell: Arc<PolicyCell>,
    epoch: u64,
    identity: Arc<Identity>,
    #[expect(dead_code, reason = "network rules will ask")]
    origin: Origin,
    scope: Scope,
}

impl Claim {
    fn still_holds(&self, action: Action) -> bool {
        let policy = self.cell.0.load();
        self.identity.holds() && (policy.epoch == self.epoch || policy.allows(&self.identity, action, &self.scope))
    }

    /// The refusal that takes the place of what does not hold.
    fn denied(&self, action: Action) -> Denied {
        Denied { principal: self.identity.principal().clone(), action, scope: self.scope.clone() }
    }
}

/// That a principal may do one operation in one scope. Made by [`PolicyCell::permit`] only.
#[derive(Debug)]
pub struct Permit<O: Op> {
    claim: Claim,
    op: PhantomData<O>,
}

impl<O: Op> Permit<O> {
    /// Where it holds.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.claim.scope
    }

    /// Whether it would be given now.
    #[must_use]
    pub fn still_holds(&self) -> bool {
        self.claim.still_holds(O::ACTION)
    }

    /// The refusal that takes its place once it does not hold any more.
    #[must_use]
    pub fn denied(&self) -> Denied {
        self.claim.denied(O::ACTION)
    }

    /// Joins the permit with what it is to be done to.
    ///
    /// # Errors
    /// When that thing lies in another scope.
    pub fn grant<T: Target>(self, target: Arc<T>) -> Result<Grant<O, T>, Denied> {
        if target.scope() != self.claim.scope {
            return Err(self.claim.denied(O::ACTION));
        }
        Ok(Grant { held: Arc::new(Held { claim: self.claim, target, op: PhantomData }) })
    }
}

/// Something that operations are done to.
pub trait Target: Send + Sync + 'static {
    /// The scope it lies in.
    fn scope(&self) -> Scope;
    /// Whether the operation may still be done to it, as it was found when it was checked.
    fn still_stands(&self) -> bool;
}

/// That an operation may be done to exactly this thing, in the state it was checked in.
#[derive(Debug)]
pub struct Grant<O: Op, T: Target> {
    held: Arc<Held<O, T>>,
}

#[derive(Debug)]
struct Held<O: Op, T: Target> {
    claim: Claim,
    target: Arc<T>,
    op: PhantomData<O>,
}

impl<O: Op, T: Target> Grant<O, T> {
    /// What it is for.
    #[must_use]
    pub fn target(&self) -> &Arc<T> {
        &self.held.target
    }

    /// Who may do it.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        self.held.claim.identity.principal()
    }

    /// The question the lanes ask again when the work leaves their queue.
    #[must_use]
    pub fn admission(&self) -> Arc<dyn strongroom_hsm::Admission> {
        Arc::clone(&self.held) as Arc<dyn strongroom_hsm::Admission>
    }

    /// Whether the right itself still holds, whatever became of the target.
    #[must_use]
    pub fn right_still_holds(&self) -> bool {
        self.held.claim.still_holds(O::ACTION)
    }
}

impl<O: Op, T: Target> strongroom_hsm::Admission for Held<O, T> {
    fn still_holds(&self) -> bool {
        self.claim.still_holds(O::ACTION) && self.target.still_stands()
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::model::{Timestamp, VersionId};

    fn assignment(principal: &str, role: Role, scope: &str) -> AssignmentRow {
        AssignmentRow {
            id: VersionId::from_bytes([1; 16]),
            principal: principal.parse().expect("right"),
            role,
            scope: scope.parse().expect("right"),
            created: Timestamp(0),
            intent: 0,
            revision: 1,
        }
    }

    fn cell(rows: &[AssignmentRow]) -> Arc<PolicyCell> {
        Arc::new(PolicyCell::new(Policy::new(1, rows.to_vec())))
    }

    fn who(name: &str) -> Arc<Identity> {
        Arc::new(Identity::alone(name.parse().expect("right")))
    }

    fn vault(name: &str) -> Scope {
        Scope::Vault(name.parse().expect("right"))
    }

    #[derive(Debug)]
    struct Thing(Scope);

    impl Target for Thing {
        fn scope(&self) -> Scope {
            self.0.clone()
        }

        fn still_stands(&self) -> bool {
            true
        }
    }

    #[test]
    fn nobody_may_do_anything_without_a_role() {
        let policy = Policy::default();
        for action in Action::ALL {
            assert!(!policy.allows(&who("spiffe://a/b"), action, &Scope::Service), "{}", action.name());
        }
    }

    #[test]
    fn administrators_may_do_everything_everywhere() {
        let rows = [assignment("spiffe://a/admin", Role::Administrator, "/")];
        let policy = Policy::new(1, rows.to_vec());
        for action in Action::ALL {
            assert!(policy.allows(&who("spiffe://a/admin"), action, &Scope::Service));
            assert!(policy.allows(&who("spiffe://a/admin"), action, &vault("dev")));
        }
    }

    #[test]
    fn users_may_use_keys_of_their_vault_only() {
        let rows = [assignment("spiffe://a/user", Role::User, "vaults/dev")];
        let policy = Policy::new(1, rows.to_vec());
        let user = who("spiffe://a/user");
        assert!(policy.allows(&user, Action::KeysSign, &vault("dev")));
        assert!(policy.allows(&user, Action::RandomGenerate, &Scope::Service));
        for action in [Action::KeysImport, Action::DataKeysGenerate, Action::DataKeysGenerateWrapped] {
            assert!(policy.allows(&user, action, &vault("dev")));
            assert!(!policy.allows(&user, action, &vault("other")) && !policy.allows(&user, action, &Scope::Service));
        }
        assert!(!policy.allows(&user, Action::KeysSign, &vault("other")));
        assert!(!policy.allows(&user, Action::KeysSign, &Scope::Service));
        for action in [Action::VaultsCreate, Action::VaultsDelete, Action::RolesAssign, Action::RolesRead] {
            assert!(!policy.allows(&user, action, &vault("dev")));
        }
    }

    #[test]
    fn the_two_forms_of_a_data_key_are_two_rights() {
        assert_ne!(ops::DataKeysGenerate::ACTION, ops::DataKeysGenerateWrapped::ACTION);
        let secret: Vec<&str> =
            Action::ALL.into_iter().filter(|action| action.releases_secret()).map(Action::name).collect();
        assert_eq!(secret, ["dataKeys.generate"]);
    }

    #[test]
    fn a_grant_for_another_scope_is_refused() {
        let cell = cell(&[assignment("spiffe://a/user", Role::User, "vaults/dev")]);
        let permit =
            cell.permit::<ops::KeysSign>(&who("spiffe://a/user"), Origin::Local, vault("dev")).expect("permitted");
        assert!(permit.grant(Arc::new(Thing(vault("other")))).is_err());
    }

    #[test]
    fn a_grant_ends_with_the_role_and_outlives_other_changes() {
        let rows = [assignment("spiffe://a/user", Role::User, "vaults/dev")];
        let cell = cell(&rows);
        let permit =
            cell.permit::<ops::KeysSign>(&who("spiffe://a/user"), Origin::Local, vault("dev")).expect("permitted");
        let grant = permit.grant(Arc::new(Thing(vault("dev")))).expect("same scope");
        assert!(grant.admission().still_holds());
        cell.set(Policy::new(2, rows.to_vec()));
        assert!(grant.admission().still_holds());
        cell.set(Policy::new(3, Vec::new()));
        assert!(!grant.admission().still_holds());
    }
}
