//! Who is let in by a certificate, and for how long: until it expires, or is covered no more by what is trusted.
//!
//! All that is trusted is replaced in one piece ([`Gate::replace`]). Then, and again and again ([`Gate::recheck`]), every
//! open connection is looked at as if it came now: one whose certificate would not be let in, or would get another name,
//! loses its lease, and with it everything that it has under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls_pki_types::CertificateDer;
use strongroom_hsm::protocol::Moment;

use super::{
    identity::{IdentityError, Named},
    tls::Credentials,
    trust::Trust,
};
use crate::model::{Clock, Identity, Lease, Timestamp};

/// What is trusted, and who was let in by it.
pub struct Gate {
    credentials: ArcSwap<Credentials>,
    clock: Arc<dyn Clock>,
    inside: Mutex<Inside>,
}

/// Who is inside.
#[derive(Default)]
struct Inside {
    next: u64,
    admitted: HashMap<u64, Arc<Pass>>,
}

/// What somebody was let in by.
struct Pass {
    chain: Box<[CertificateDer<'static>]>,
    identity: Arc<Identity>,
}

/// Somebody who was let in, until it is dropped.
pub(super) struct Admitted {
    gate: Arc<Gate>,
    number: u64,
    pass: Arc<Pass>,
}

impl Admitted {
    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.pass.identity)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.gate.inside().admitted.remove(&self.number);
    }
}

impl Gate {
    /// Trusts that.
    #[must_use]
    pub fn new(credentials: Credentials, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { credentials: ArcSwap::from_pointee(credentials), clock, inside: Mutex::default() })
    }

    /// What is in force.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.load_full()
    }

    /// Trusts that from now on. How many lost their lease by it.
    pub fn replace(&self, credentials: Credentials) -> usize {
        self.credentials.store(Arc::new(credentials));
        self.recheck()
    }

    /// Takes the lease of everybody who would not be let in any more. How many these are. It takes the time of a chain's
    /// check for each of them.
    pub fn recheck(&self) -> usize {
        let trust = Arc::clone(&self.credentials.load().trust);
        let passes: Vec<Arc<Pass>> = self.inside().admitted.values().cloned().collect();
        let over = passes.iter().filter(|pass| pass.identity.holds() && !self.is_covered(pass, &trust));
        over.map(|pass| {
            tracing::info!(
                principal = pass.identity.principal().as_str(),
                "a certificate is covered no more: its connection ends"
            );
            pass.identity.lease().end();
        })
        .count()
    }

    fn is_covered(&self, pass: &Pass, trust: &Trust) -> bool {
        trust.identify(&pass.chain, self.clock.now()).is_ok_and(|named| {
            let now = Identity::new(named.principal, named.groups, Lease::until(None));
            now.principal() == pass.identity.principal() && now.groups() == pass.identity.groups()
        })
    }

    /// Lets in whom a chain names, its own certificate first.
    pub(super) fn admit(self: &Arc<Self>, chain: &[CertificateDer<'static>]) -> Result<Admitted, IdentityError> {
        loop {
            let trust = Arc::clone(&self.credentials.load().trust);
            let now = self.clock.now();
            let pass =
                Arc::new(Pass { chain: chain.into(), identity: Arc::new(identity(trust.identify(chain, now)?, now)) });
            let number = {
                let mut inside = self.inside();
                inside.next += 1;
                let number = inside.next;
                inside.admitted.insert(number, Arc::clone(&pass));
                number
            };
            let admitted = Admitted { gate: Arc::clone(self), number, pass };
            // Whoever replaces what is trusted looks at those inside afterwards: we are among them, or see it here.
            if Arc::ptr_eq(&trust, &self.credentials.load().trust) {
                return Ok(admitted);
            }
        }
    }

    /// How many are inside.
    #[cfg(test)]
    pub(super) fn inside_count(&self) -> usize {
        self.inside().admitted.len()
    }

    /// What is in it is right at every moment, whoever panicked.
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An identity for as long as its certificate is valid.
fn identity(named: Named, now: Timestamp) -> Identity {
    let left = Duration::from_secs(u64::try_from(named.ends.0.saturating_sub(now.0)).unwrap_or_default());
    Identity::new(named.principal, named.groups, Lease::until(Some(Moment::now().after(left))))
}
