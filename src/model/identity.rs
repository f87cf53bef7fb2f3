//! Who asks: a principal as it was authenticated, the groups it is in, and for how long that holds.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use strongroom_hsm::Tenant;

use super::{Lease, Principal};

/// A principal as it was authenticated. Made by a face; shared by all requests of a connection or token.
#[derive(Clone, Debug)]
pub struct Identity {
    principal: Principal,
    groups: Box<[Principal]>,
    lease: Lease,
    tenant: Tenant,
}

impl Identity {
    /// A principal in those groups, as long as the lease holds.
    #[must_use]
    pub fn new(principal: Principal, mut groups: Vec<Principal>, lease: Lease) -> Self {
        groups.sort_unstable();
        groups.dedup();
        let tenant = tenant(&principal);
        Self { principal, groups: groups.into(), lease, tenant }
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

    /// Who it is where callers share the lanes of the HSM and the room for requests.
    #[must_use]
    pub const fn tenant(&self) -> Tenant {
        self.tenant
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

/// A principal is one tenant, from however many places and in however many vaults it works: what starves others is
/// a caller. So short a digest will do: who finds another name with the same one shares with it, and gains nothing.
fn tenant(principal: &Principal) -> Tenant {
    let digest = Sha256::digest(principal.as_str());
    Tenant::new(u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes")))
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
    use super::*;

    #[test]
    fn an_identity_holds_as_long_as_its_lease() {
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
