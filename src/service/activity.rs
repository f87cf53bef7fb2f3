//! When versions were last used, and how often: noted in memory as it happens, and kept in the store from time to time.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use super::{Service, error::ServiceError};
use crate::{
    model::{Timestamp, VersionId},
    store::Use,
};

/// How many versions are kept in one transaction.
const AT_ONCE: usize = 1_000;

/// What is not kept yet of the use of a version.
#[derive(Debug)]
pub struct Activity {
    version: VersionId,
    uses: AtomicU64,
    used: AtomicI64,
}

impl Activity {
    /// Of a version that is not used yet.
    #[must_use]
    pub fn of(version: VersionId) -> Arc<Self> {
        Arc::new(Self { version, uses: AtomicU64::new(0), used: AtomicI64::new(0) })
    }
}

/// The versions that were used since it was last kept.
#[derive(Debug, Default)]
pub struct Activities(Mutex<Vec<Arc<Activity>>>);

impl Activities {
    /// So many uses, now.
    pub(super) fn note(&self, activity: &Arc<Activity>, now: Timestamp, uses: u64) {
        if uses == 0 {
            return;
        }
        activity.used.fetch_max(now.0, Ordering::Relaxed);
        // The first since it was kept puts it on the list; all others touch nothing that others share.
        if activity.uses.fetch_add(uses, Ordering::AcqRel) == 0 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(activity));
        }
    }

    /// In the order of versions: replicas that keep the same ones in one transaction each do not wait for each other.
    fn take(&self) -> Vec<Arc<Activity>> {
        let mut noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        noted.sort_unstable_by_key(|activity| activity.version);
        noted
    }

    /// Notes again what could not be kept.
    fn put_back(&self, activities: &[Arc<Activity>], uses: &[Use]) {
        for (activity, one) in activities.iter().zip(uses) {
            self.note(activity, one.used, one.uses);
        }
    }
}

impl Service {
    /// Keeps what was noted. Called by a job, and at the end.
    ///
    /// # Errors
    /// When the store does not answer: it is tried again the next time.
    pub async fn keep_activity(&self) -> Result<(), ServiceError> {
        let noted = self.activities.take();
        for (done, some) in noted.chunks(AT_ONCE).enumerate() {
            let uses: Vec<Use> = some.iter().map(taken).collect();
            if let Err(error) = self.store.note_uses(uses.clone()).await {
                self.activities.put_back(some, &uses);
                // Those that were not looked at are on no list any more, and their counts are not zero.
                let rest = &noted[((done + 1) * AT_ONCE).min(noted.len())..];
                self.activities.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(rest);
                return Err(error.into());
            }
        }
        Ok(())
    }
}

fn taken(activity: &Arc<Activity>) -> Use {
    let uses = activity.uses.swap(0, Ordering::AcqRel);
    Use { version: activity.version, used: Timestamp(activity.used.load(Ordering::Relaxed)), uses }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_taken_once_and_put_back_whole() {
        let (activities, activity) = (Activities::default(), Activity::of(VersionId::from_bytes([1; 16])));
        activities.note(&activity, Timestamp(5), 2);
        activities.note(&activity, Timestamp(7), 1);
        activities.note(&activity, Timestamp(6), 0);
        let noted = activities.take();
        assert_eq!(noted.len(), 1);
        let uses = vec![taken(&noted[0])];
        assert_eq!((uses[0].uses, uses[0].used), (3, Timestamp(7)));
        assert!(activities.take().is_empty());
        activities.note(&activity, Timestamp(8), 4);
        activities.put_back(&noted, &uses);
        let noted = activities.take();
        assert_eq!(noted.len(), 1, "it is on the list once");
        let again = taken(&noted[0]);
        assert_eq!((again.uses, again.used), (7, Timestamp(8)));
    }

    #[test]
    fn what_was_noted_is_taken_in_the_order_of_versions() {
        let activities = Activities::default();
        for n in [3, 1, 2] {
            activities.note(&Activity::of(VersionId::from_bytes([n; 16])), Timestamp(5), 1);
        }
        let taken: Vec<u8> = activities.take().iter().map(|activity| activity.version.bytes()[0]).collect();
        assert_eq!(taken, [1, 2, 3]);
    }
}
