//! Turns: of what takes long, each caller has so many under way and waits for its own before the next.

use std::sync::Arc;

use quick_cache::sync::Cache;
use strongroom_hsm::{Tenant, protocol::Moment};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Problem;

/// The most callers that are told apart. One of more that is forgotten while it has something under way may have twice
/// as much.
const TENANTS_MAX: usize = 10_000;

/// So many turns for each caller.
pub struct Turns {
    each: usize,
    of: Cache<Tenant, Arc<Semaphore>>,
}

impl Turns {
    /// So many for each.
    #[must_use]
    pub fn new(each: usize) -> Self {
        Self { each, of: Cache::new(TENANTS_MAX) }
    }

    /// Waits for a turn of that caller's, until the deadline.
    ///
    /// # Errors
    /// [`Problem::DeadlineExceeded`].
    pub async fn turn(&self, tenant: Tenant, deadline: Moment) -> Result<OwnedSemaphorePermit, Problem> {
        let new = || Ok::<_, Problem>(Arc::new(Semaphore::new(self.each)));
        let turns = self.of.get_or_insert_with(&tenant, new)?;
        let turn = tokio::time::timeout(deadline.since(Moment::now()), turns.acquire_owned()).await;
        // It is never closed.
        turn.map_err(|_| Problem::DeadlineExceeded)?.map_err(|_| Problem::Internal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn each_waits_for_its_own_only() {
        let turns = Turns::new(2);
        let soon = || Moment::now().after(Duration::from_millis(20));
        let (noisy, quiet) = (Tenant::new(1), Tenant::new(2));
        let first = turns.turn(noisy, soon()).await.expect("free");
        let _second = turns.turn(noisy, soon()).await.expect("free");
        assert!(matches!(turns.turn(noisy, soon()).await, Err(Problem::DeadlineExceeded)));
        assert!(turns.turn(quiet, soon()).await.is_ok());
        drop(first);
        assert!(turns.turn(noisy, soon()).await.is_ok());
    }
}
