//! Who asks: a principal as it was authenticated, the groups it is in, and for how long that holds.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use strongroom_hsm::protocol::Moment;

use super::Principal;

/// Whether an authentication still holds: until a moment, and until it is ended. Shared by everyone who acts on
/// it, so that ending it stops an open stream and queued work too.
#[derive(Clone, Debug)]
pub struct Lease(Arc<LeaseState>);

#[derive(Debug)]
struct LeaseState {
    until: Option<Moment>,
    ended: AtomicBool,
}

impl Lease {
    /// Holds until that moment, or, without one, until it is ended.
    #[must_use]
    pub fn until(until: Option<Moment>) -> Self {
        Self(Arc::new(LeaseState { until, ended: AtomicBool::new(false) }))
    }

    /// Holds no more, from now on: what it stood on was taken back.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        let in_time = || self.0.until.is_none_or(|until| Moment::now() < until);
        !self.0.ended.load(Ordering::Acquire) && in_time()
    }
}

/// A principal as it was authenticated. Made by a face; shared by all requests of a connection or token.
#[derive(Debug)]
pub struct Identity {
    principal: Principal,
    groups: Box<[Principal]>,
    lease: Lease,
}

impl Identity {
    /// A principal in those groups, as long as the lease holds.
    #[must_use]
    pub fn new(principal: Principal, mut groups: Vec<Principal>, lease: Lease) -> Self {
        groups.sort_unstable();
        groups.dedup();
        Self { principal, groups: groups.into(), lease }
    }

    /// A principal by itself, for as long as it is there.
    #[must_use]
    pub fn alone(principal: Principal) -> Self {
        Self::new(principal, Vec::new(), Lease::until(None))
    }

    /// Who.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// In which groups; in order, each once.
    #[must_use]
    pub fn groups(&self) -> &[Principal] {
        &self.groups
    }

    /// Every name under which rights may be held: the principal's, then its groups'.
    pub fn names(&self) -> impl Iterator<Item = &Principal> {
        std::iter::once(&self.principal).chain(&self.groups)
    }

    /// Whether it is still who it was.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lease.holds()
    }

    /// What it stands on.
    #[must_use]
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// Where a request comes from, as network rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An address: of the peer, or, behind a trusted proxy, the one that the proxy gives.
    Address(IpAddr),
    /// This machine, by a Unix socket or from inside the service.
    Local,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_ends_at_its_moment_or_when_it_is_ended() {
        assert!(Lease::until(None).holds());
        assert!(Lease::until(Some(Moment::now().after(Duration::from_secs(60)))).holds());
        assert!(!Lease::until(Some(Moment::now())).holds());
        let lease = Lease::until(None);
        let identity = Identity::new("spiffe://a/b".parse().expect("right"), Vec::new(), lease.clone());
        assert!(identity.holds());
        lease.end();
        assert!(!identity.holds());
    }

    #[test]
    fn groups_are_there_once_and_after_the_principal() {
        let name = |text: &str| text.parse::<Principal>().expect("right");
        let identity = Identity::new(name("a:1"), vec![name("g:2"), name("g:1"), name("g:2")], Lease::until(None));
        assert_eq!(identity.names().map(Principal::as_str).collect::<Vec<_>>(), ["a:1", "g:1", "g:2"]);
    }
}
