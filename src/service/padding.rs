//! Decryptions that tell right padding from wrong: RSA1_5 and A*CBCPAD.
//!
//! That the padding was wrong is no secret that could be kept: the caller gets a plaintext or does not. Who
//! may ask often enough decrypts what they were not given, or signs (Bleichenbacher, CRYPTO 1998: about a
//! million questions, some thousands for variants; Vaudenay, EUROCRYPT 2002: 128 for each byte). So two bounds:
//!
//! * the vault must say that it wants such decryptions at all, and
//! * a version tells of so many failures within an hour, and then tries no more until the hour is over.
//!
//! Failures are counted in memory: a restart forgets them. Each is in the audit log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use strongroom_hsm::protocol::Moment;

use super::{
    Service,
    catalog::VersionEntry,
    error::{Problem, ServiceError},
    version_name,
};
use crate::model::{Algorithm, VaultRow, VersionId, VersionRow};

/// The most failures of one version that are told of within [`WINDOW`].
const FAILURES_MAX: u32 = 100;
/// From the first failure on.
const WINDOW: Duration = Duration::from_secs(3600);
/// The most versions that are watched: about a megabyte.
const VERSIONS_MAX: usize = 16_384;

/// The failures of each version.
#[derive(Default)]
pub struct PaddingFailures {
    windows: Mutex<HashMap<VersionId, Window>>,
}

#[derive(Clone, Copy)]
struct Window {
    began: Moment,
    failures: u32,
}

impl Window {
    /// How long it still lasts; `None` when it is over.
    fn left(&self, now: Moment) -> Option<Duration> {
        WINDOW.checked_sub(now.since(self.began)).filter(|left| !left.is_zero())
    }
}

impl PaddingFailures {
    /// When the version tries again, if it tries no more now.
    fn refused_for(&self, version: VersionId, now: Moment) -> Option<Duration> {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.get(&version).filter(|window| window.failures >= FAILURES_MAX).and_then(|window| window.left(now))
    }

    /// Notes a failure, unless so many were told of already that this one may not be: then says for how long.
    /// Because it is asked after the decryption, those under way at once cannot pass the bound together.
    fn note(&self, version: VersionId, now: Moment) -> Option<Duration> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if !windows.contains_key(&version) && windows.len() >= VERSIONS_MAX {
            make_room(&mut windows, now);
        }
        let window = windows.entry(version).or_insert(Window { began: now, failures: 0 });
        let Some(left) = window.left(now) else {
            *window = Window { began: now, failures: 1 };
            return None;
        };
        if window.failures >= FAILURES_MAX {
            return Some(left);
        }
        window.failures += 1;
        None
    }
}

/// Forgets what is over, or else the version with the fewest failures: who wants one forgotten must bring as
/// many failures to all the others.
fn make_room(windows: &mut HashMap<VersionId, Window>, now: Moment) {
    windows.retain(|_, window| window.left(now).is_some());
    if windows.len() >= VERSIONS_MAX {
        let fewest = windows.iter().min_by_key(|(_, window)| window.failures).map(|(version, _)| *version);
        fewest.map(|version| windows.remove(&version));
    }
}

impl Service {
    /// Whether such a decryption may be tried.
    pub(super) fn may_unpad(&self, entry: &VersionEntry, algorithm: Algorithm) -> Result<(), ServiceError> {
        allowed(&entry.vault.row, algorithm)?;
        let version = &entry.version.row;
        match self.padding_failures.refused_for(version.version, Moment::now()) {
            Some(retry_after) => Err(refused(version, retry_after)),
            None => Ok(()),
        }
    }

    /// What of such a decryption may be told.
    pub(super) async fn unpadded<T>(
        &self,
        entry: &VersionEntry,
        algorithm: Algorithm,
        deadline: Moment,
        result: Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let version = &entry.version.row;
        let told = match &result {
            Err(ServiceError { problem: Problem::DecryptionFailed, .. }) => {
                self.padding_failures.note(version.version, Moment::now())
            }
            _ => self.padding_failures.refused_for(version.version, Moment::now()),
        };
        if let Some(retry_after) = told {
            return Err(refused(version, retry_after));
        }
        // It may have waited in a queue while the vault was changed.
        if !entry.vault.is_current() {
            let vault = self.catalog.live_vault(&entry.vault.row.name, deadline).await?;
            allowed(&vault.row, algorithm)?;
        }
        result
    }
}

fn refused(version: &VersionRow, retry_after: Duration) -> ServiceError {
    Problem::PaddingFailures { name: version_name(version), retry_after }.into()
}

fn allowed(vault: &VaultRow, algorithm: Algorithm) -> Result<(), Problem> {
    if vault.padding_decryption_allowed {
        return Ok(());
    }
    let why = format!(
        "vaults/{} does not allow decryption with {}, which tells right padding from wrong: an administrator can \
         set its padding_decryption_allowed; better take an algorithm that authenticates (A*GCM, RSA-OAEP-256)",
        vault.name,
        algorithm.name()
    );
    Err(Problem::Precondition { reason: "PADDING_DECRYPTION_OFF", why })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    fn version(n: u32) -> VersionId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        VersionId::from_bytes(bytes)
    }

    #[test]
    fn a_hundred_failures_in_an_hour_are_told_and_no_more() {
        let failures = PaddingFailures::default();
        for n in 0..100 {
            assert_eq!(failures.note(version(1), Moment(n)), None);
        }
        assert_eq!(failures.note(version(1), Moment(MINUTE)), Some(Duration::from_secs(3540)));
        assert_eq!(failures.refused_for(version(1), Moment(MINUTE)), Some(Duration::from_secs(3540)));
        assert_eq!(failures.refused_for(version(2), Moment(MINUTE)), None, "another version is not concerned");
        assert_eq!(failures.refused_for(version(1), Moment(60 * MINUTE)), None);
        for n in 0..100 {
            assert_eq!(failures.note(version(1), Moment(60 * MINUTE + n)), None);
        }
        assert!(failures.note(version(1), Moment(61 * MINUTE)).is_some());
    }

    #[test]
    fn a_success_is_refused_too_while_failures_are() {
        let failures = PaddingFailures::default();
        assert_eq!(failures.refused_for(version(1), Moment(0)), None);
        for _ in 0..99 {
            failures.note(version(1), Moment(0));
        }
        assert_eq!(failures.refused_for(version(1), Moment(0)), None);
        failures.note(version(1), Moment(0));
        assert_eq!(failures.refused_for(version(1), Moment(0)), Some(WINDOW));
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_kept() {
        let failures = PaddingFailures::default();
        for _ in 0..100 {
            failures.note(version(0), Moment(0));
        }
        for n in 1..=20_000 {
            failures.note(version(n), Moment(1));
        }
        assert_eq!(failures.windows.lock().unwrap().len(), VERSIONS_MAX);
        assert!(failures.refused_for(version(0), Moment(2)).is_some());
        failures.note(version(99_999), Moment(61 * MINUTE));
        assert_eq!(failures.windows.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
