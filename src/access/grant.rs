//! Permits and grants: decisions that cannot be forgotten.
//!
//! A [`Permit`] says that a principal may do one kind of operation in one place. Joined with the checked thing it is
//! to be done to, it becomes a [`Grant`], and only with a grant can anything be done (`service::hands`): an
//! operation that forgets its authorisation does not compile. Permits are made here and nowhere else. A grant can be
//! asked again whether it still holds; the lanes do so when the work leaves their queue.

use std::{marker::PhantomData, sync::Arc};

use arc_swap::ArcSwap;
use strongroom_hsm::Tenant;

use super::{
    action::{Action, Op, Rights, ops},
    policy::{Decision, Policy},
};
use crate::model::{Identity, Origin, Principal, Scope, VaultName};

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
    /// What refuses it: for the record, and for nobody else.
    pub by: Barrier,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// A right is missing.
    Rights,
    /// The rights are there; the vault's network rules admit nobody from there.
    Network,
}

impl Barrier {
    /// The reason that a record gives.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Rights => "PERMISSION_DENIED",
            Self::Network => "NETWORK",
        }
    }
}

/// Where something is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// At this scope.
    At(Scope),
    /// At no scope of its own, so a right at any will do: random bytes belong to no vault, and of a list
    /// everybody gets what they may see.
    Anywhere,
}

impl Where {
    /// The scope that refusals name.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::At(scope) => scope.clone(),
            Self::Anywhere => Scope::Service,
        }
    }
}

impl From<Scope> for Where {
    fn from(scope: Scope) -> Self {
        Self::At(scope)
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
    /// When nothing permits it.
    pub fn permit<O: Op>(
        self: &Arc<Self>,
        identity: &Arc<Identity>,
        origin: Origin,
        place: impl Into<Where>,
    ) -> Result<Permit<O>, Denied> {
        let place = place.into();
        let policy = self.0.load();
        let epoch = policy.epoch();
        let (cell, identity) = (Arc::clone(self), Arc::clone(identity));
        let claim = Claim { cell, epoch, identity, origin, place, is_scheduled: false };
        if claim.identity.holds() && claim.is_allowed(&policy, O::ACTION) {
            Ok(Permit { claim, op: PhantomData })
        } else {
            Err(claim.denied_by(&policy, O::ACTION))
        }
    }

    /// A permit of the service itself for scheduled work: the right is that of whoever has set the schedule, and the lease
    /// under which the work is committed says whose turn it is.
    #[must_use]
    pub fn scheduled<O: Scheduled>(self: &Arc<Self>, identity: &Arc<Identity>, scope: Scope) -> Permit<O> {
        let (cell, identity) = (Arc::clone(self), Arc::clone(identity));
        let (epoch, place) = (self.0.load().epoch(), Where::At(scope));
        let claim = Claim { cell, epoch, identity, origin: Origin::Local, place, is_scheduled: true };
        Permit { claim, op: PhantomData }
    }
}

/// An operation that the service does by itself, when what somebody with the right has set says so.
pub trait Scheduled: Op {}

impl Scheduled for ops::KeysRotate {}
impl Scheduled for ops::KeysPurge {}
impl Scheduled for ops::SecretsPurge {}
impl Scheduled for ops::VaultsPurge {}
impl Scheduled for ops::OwnKeysRotateRoot {}
impl Scheduled for ops::OwnKeysRotateLog {}

/// What a decision was made for, and under which policy.
#[derive(Clone, Debug)]
struct Claim {
    cell: Arc<PolicyCell>,
    epoch: u64,
    identity: Arc<Identity>,
    origin: Origin,
    place: Where,
    /// Of scheduled work: nobody's role decides.
    is_scheduled: bool,
}

impl Claim {
    fn is_allowed(&self, policy: &Policy, action: Action) -> bool {
        if self.is_scheduled {
            return true;
        }
        match &self.place {
            Where::At(scope) => {
                policy.decide(&self.identity, action, scope) == Decision::Allowed
                    && policy.admits(&self.identity, self.origin, action, scope)
            }
            Where::Anywhere => policy.allows_anywhere(&self.identity, action),
        }
    }

    fn still_holds(&self, actions: Rights) -> bool {
        let policy = self.cell.0.load();
        self.identity.holds()
            && (policy.epoch() == self.epoch || actions.iter().all(|action| self.is_allowed(&policy, action)))
    }

    /// The refusal that takes the place of what does not hold.
    fn denied(&self, action: Action) -> Denied {
        self.denied_by(&self.cell.0.load(), action)
    }

    /// The same, by a policy at hand.
    fn denied_by(&self, policy: &Policy, action: Action) -> Denied {
        let by = match &self.place {
            Where::At(scope) if policy.allows(&self.identity, action, scope) => {
                if policy.admits(&self.identity, self.origin, action, scope) {
                    Barrier::Rights
                } else {
                    Barrier::Network
                }
            }
            _ => Barrier::Rights,
        };
        self.refusal(action, by)
    }

    fn refusal(&self, action: Action, by: Barrier) -> Denied {
        Denied { principal: self.identity.principal().clone(), action, scope: self.place.scope(), by }
    }
}

/// What asks again for a permit that was given away.
pub struct Renewal<O: Op> {
    claim: Claim,
    op: PhantomData<O>,
}

impl<O: Op> Renewal<O> {
    /// The permit, if it would be given now.
    ///
    /// # Errors
    /// When it would not.
    pub fn permit(&self) -> Result<Permit<O>, Denied> {
        let policy = self.claim.cell.0.load();
        let claim = Claim { epoch: policy.epoch(), ..self.claim.clone() };
        if claim.identity.holds() && claim.is_allowed(&policy, O::ACTION) {
            Ok(Permit { claim, op: PhantomData })
        } else {
            Err(claim.denied_by(&policy, O::ACTION))
        }
    }
}

/// That a principal may do one operation in one place. Made by [`PolicyCell`] only.
#[derive(Debug)]
pub struct Permit<O: Op> {
    claim: Claim,
    op: PhantomData<O>,
}

impl<O: Op> Permit<O> {
    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        self.claim.identity.tenant()
    }

    /// The vault it is about, if it is about one.
    #[must_use]
    pub fn vault(&self) -> Option<&VaultName> {
        match &self.claim.place {
            Where::At(scope) => scope.vault(),
            Where::Anywhere => None,
        }
    }

    /// What asks for it again, once it was given away.
    #[must_use]
    pub fn renewal(&self) -> Renewal<O> {
        Renewal { claim: self.claim.clone(), op: PhantomData }
    }

    /// Whether it would be given now.
    #[must_use]
    pub fn still_holds(&self) -> bool {
        self.claim.still_holds(Rights::of(O::ACTION))
    }

    /// The refusal that takes its place once it does not hold any more.
    #[must_use]
    pub fn denied(&self) -> Denied {
        self.claim.denied(O::ACTION)
    }

    /// The refusal of one who may not know what there is.
    #[must_use]
    pub fn untold(&self) -> Denied {
        self.claim.refusal(O::ACTION, Barrier::Rights)
    }

    /// Joins the permit with what it is to be done to.
    ///
    /// # Errors
    /// When that thing is at another scope.
    pub fn grant<T: Target>(self, target: Arc<T>) -> Result<Grant<O, T>, Denied> {
        if self.claim.place != Where::At(target.scope()) {
            return Err(self.denied());
        }
        let rights = Rights::of(O::ACTION);
        Ok(Grant { held: Arc::new(Held { claim: self.claim, rights, target, op: PhantomData }) })
    }
}

/// Something that operations are done to.
pub trait Target: Send + Sync + 'static {
    /// Its own scope.
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
    /// What must be held: the operation's own right, and what [`Grant::demanding`] added.
    rights: Rights,
    target: Arc<T>,
    op: PhantomData<O>,
}

impl<O: Op, T: Target> Grant<O, T> {
    /// What it is for.
    #[must_use]
    pub fn target(&self) -> &Arc<T> {
        &self.held.target
    }

    /// Which of these rights the principal does not hold there now.
    #[must_use]
    pub fn lacks(&self, rights: Rights) -> Rights {
        let (claim, policy) = (&self.held.claim, self.held.claim.cell.0.load());
        rights.iter().filter(|action| !claim.is_allowed(&policy, *action)).collect()
    }

    /// The grant that holds only while the principal also has these rights there, which it has.
    #[must_use]
    pub fn demanding(&self, rights: Rights) -> Self {
        let held = &self.held;
        if held.rights.contains(rights) {
            return Self { held: Arc::clone(held) };
        }
        let (claim, target) = (held.claim.clone(), Arc::clone(&held.target));
        Self { held: Arc::new(Held { claim, rights: held.rights.union(rights), target, op: PhantomData }) }
    }

    /// The refusal that takes its place once it does not hold any more.
    #[must_use]
    pub fn denied(&self) -> Denied {
        self.held.claim.denied(O::ACTION)
    }

    /// The question the lanes ask again when the work leaves their queue.
    #[must_use]
    pub fn admission(&self) -> Arc<dyn strongroom_hsm::Admission> {
        Arc::clone(&self.held) as Arc<dyn strongroom_hsm::Admission>
    }

    /// Whether the right itself still holds, whatever became of the target.
    #[must_use]
    pub fn right_still_holds(&self) -> bool {
        self.held.claim.still_holds(self.held.rights)
    }
}

impl<O: Op, T: Target> strongroom_hsm::Admission for Held<O, T> {
    fn tenant(&self) -> Tenant {
        self.claim.identity.tenant()
    }

    fn still_holds(&self) -> bool {
        self.claim.still_holds(self.rights) && self.target.still_stands()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{fixtures::*, ops};

    fn cell(roles: &[(&str, &str, &str)]) -> Arc<PolicyCell> {
        Arc::new(PolicyCell::new(policy(roles)))
    }

    fn permit<O: Op>(cell: &Arc<PolicyCell>, name: &str, scope: &str) -> Result<Permit<O>, Denied> {
        cell.permit(&Arc::new(who(name)), Origin::Local, at(scope))
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

    const USER: (&str, &str, &str) = ("a:user", "Key Vault Crypto User", "vaults/dev");

    #[test]
    fn a_grant_for_another_scope_is_refused() {
        let cell = cell(&[USER]);
        let permitted = || permit::<ops::KeysSign>(&cell, "a:user", "vaults/dev/keys/k").expect("permitted");
        for other in ["vaults/dev/keys/l", "vaults/dev/keys", "vaults/dev", "vaults/dev/secrets/k"] {
            assert!(permitted().grant(Arc::new(Thing(at(other)))).is_err(), "{other}");
        }
        assert!(permitted().grant(Arc::new(Thing(at("vaults/dev/keys/K")))).is_ok());
        let anywhere = cell.permit::<ops::RandomGenerate>(&Arc::new(who("a:user")), Origin::Local, Where::Anywhere);
        assert!(anywhere.expect("permitted").grant(Arc::new(Thing(Scope::Service))).is_err());
    }

    #[test]
    fn a_grant_ends_with_the_role_and_outlives_other_changes() {
        let cell = cell(&[USER]);
        let permit = permit::<ops::KeysSign>(&cell, "a:user", "vaults/dev/keys/k").expect("permitted");
        let grant = permit.grant(Arc::new(Thing(at("vaults/dev/keys/k")))).expect("same scope");
        assert!(grant.admission().still_holds());
        cell.set(cell.now().with_assignment(assignment(9, "a:other", "administrator", "/")));
        assert!(grant.admission().still_holds());
        cell.set(cell.now().without_assignment(assignment(0, "a:user", "administrator", "/").id));
        assert!(!grant.admission().still_holds() && !grant.right_still_holds());
    }

    #[test]
    fn a_grant_ends_with_the_lease_of_who_has_it() {
        let cell = cell(&[USER]);
        let identity = Arc::new(who("a:user"));
        let permit = cell.permit::<ops::KeysSign>(&identity, Origin::Local, at("vaults/dev/keys/k"));
        let permit = permit.expect("permitted");
        assert!(permit.still_holds());
        identity.lease().end();
        assert!(!permit.still_holds());
        assert!(cell.permit::<ops::KeysSign>(&identity, Origin::Local, at("vaults/dev/keys/k")).is_err());
    }

    #[test]
    fn a_demanding_grant_ends_with_any_of_its_rights() {
        let both = [USER, ("a:user", "Key Vault Crypto Officer", "vaults/dev/keys/k")];
        let cell = cell(&both);
        let permit = permit::<ops::KeysSign>(&cell, "a:user", "vaults/dev/keys/k").expect("permitted");
        let grant = permit.grant(Arc::new(Thing(at("vaults/dev/keys/k")))).expect("same scope");
        let more: Rights = [Action::KeysDelete, Action::VaultsDelete].into_iter().collect();
        assert_eq!(grant.lacks(more), Rights::of(Action::VaultsDelete));
        let demanding = grant.demanding(Rights::of(Action::KeysDelete));
        assert!(demanding.admission().still_holds());
        cell.set(cell.now().without_assignment(assignment(1, "a:user", "administrator", "/").id));
        assert!(grant.admission().still_holds() && !demanding.admission().still_holds());
    }
}
