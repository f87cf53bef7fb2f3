//! A replica goes by the keys that the instance's row names, once all of its workers have them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use strongroom_hsm::protocol::Moment;
use tokio_util::sync::CancellationToken;

use crate::{
    model::InstanceRow,
    service::{
        Service,
        error::{Problem, ServiceError},
    },
};

/// How long each of the things may take that are done once the workers are there.
const WITHIN: Duration = Duration::from_secs(30);
/// A replica that has given no sign of life for so long is not waited for: it changes nothing before it has adopted the row
/// (`Scopes::hold`).
const SILENT_AFTER: Duration = Duration::from_secs(15);

impl Service {
    /// Takes in the instance's row, if it has changed: the workers first, then what is made from now on. Comes back when nothing
    /// is under way any more that was begun by the keys before, and others are told.
    ///
    /// # Errors
    /// When the store or the HSM does not answer: it is done again.
    pub async fn adopt(&self, stop: &CancellationToken) -> Result<Arc<InstanceRow>, ServiceError> {
        let held = self.instance();
        let row = match self.catalog.instance(Moment::now().after(WITHIN)).await {
            Ok(row) => row,
            Err(error) => self.instance_by_other_keys(&held, stop, error).await?,
        };
        // One whose taking in was not finished is taken in again.
        if row.revision == self.adopted.load(Ordering::Acquire) {
            self.catalog.scopes.release();
            return Ok(held);
        }
        let row = Arc::new(row);
        if row.renewal.is_some() {
            self.root_progress.waits_for("the workers of this replica, which are replaced one by one");
        }
        tokio::select! {
            // Workers that do not come back do not keep the service from ending.
            () = stop.cancelled() => return Ok(held),
            () = self.pool.adopt(row.worker_keys()) => {}
        }
        self.instance.store(Arc::clone(&row));
        self.checkpoints.change_over(&row, self.clock.now()).await?;
        let deadline = Moment::now().after(WITHIN);
        self.catalog.scopes.settle_all(deadline).await?;
        self.own.seal_anew(deadline).await?;
        if row.renewal.is_none() {
            self.catalog.scopes.forget_renewed();
        }
        self.adopted.store(row.revision, Ordering::Release);
        self.catalog.scopes.release();
        self.give_sign().await?;
        Ok(row)
    }

    /// The row of a replica that was away while another root took the root's place: its workers do not know the key by which all
    /// is sealed now. As at a start they are given what the row says, unchecked, and then check it: keys that are not this
    /// token's let no worker start.
    async fn instance_by_other_keys(
        &self,
        held: &InstanceRow,
        stop: &CancellationToken,
        error: ServiceError,
    ) -> Result<InstanceRow, ServiceError> {
        let found = self.store.instance().await?.map(|row| row.into_unchecked().0);
        let newer = found.filter(|row| self.hearing().is_shared() && row.revision > held.revision);
        let (Problem::Tampered { .. }, Some(newer)) = (&error.problem, newer) else { return Err(error) };
        let adopted = tokio::select! {
            () = stop.cancelled() => return Err(error),
            adopted = tokio::time::timeout(WITHIN * 2, self.pool.adopt(newer.worker_keys())) => adopted,
        };
        let checked = match adopted {
            Ok(()) => self.catalog.instance(Moment::now().after(WITHIN)).await,
            Err(_) => Err(error),
        };
        if checked.is_err() {
            // Workers that come next are to have keys that were checked. They are told so at once, and not waited for.
            let _ = tokio::time::timeout(Duration::ZERO, self.pool.adopt(held.worker_keys())).await;
        }
        checked
    }

    /// Whether this replica goes by that row, its log too.
    pub(in crate::service) fn has_adopted(&self, row: &InstanceRow) -> bool {
        self.adopted.load(Ordering::Acquire) == row.revision
    }

    /// The replicas that serve and do not go by that row yet.
    pub(in crate::service) async fn laggards(&self, row: &InstanceRow) -> Result<Vec<String>, ServiceError> {
        let own = self.own.name().await;
        let all = self.store.replicas().await?;
        let others = all.iter().filter(|replica| replica.row.unchecked().name != own);
        let serving = others.filter_map(|replica| replica.beat.as_ref()).filter(|(_, age)| *age <= SILENT_AFTER);
        let behind = serving.filter(|(beat, _)| beat.adopted < row.revision);
        Ok(behind.map(|(beat, _)| beat.replica.to_string()).collect())
    }
}
