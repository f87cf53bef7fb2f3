//! A replica goes by the keys that the instance's row names, once all of its workers have them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use strongroom_hsm::protocol::Moment;
use tokio_util::sync::CancellationToken;

use crate::{
    model::InstanceRow,
    service::{Service, error::ServiceError},
};

/// How long each of the things may take that are done once the workers are there.
const WITHIN: Duration = Duration::from_secs(30);
/// A replica that has given no sign of life for so long serves nothing: nobody waits for it.
const SILENT_AFTER: Duration = Duration::from_secs(15);

impl Service {
    /// Takes in the instance's row, if it has changed: the workers first, then what is made from now on. Comes back when nothing
    /// is under way any more that was begun by the keys before, and others are told.
    ///
    /// # Errors
    /// When the store or the HSM does not answer: it is done again.
    pub async fn adopt(&self, stop: &CancellationToken) -> Result<Arc<InstanceRow>, ServiceError> {
        let row = self.catalog.instance(Moment::now().after(WITHIN)).await?;
        let held = self.instance();
        if row.revision == held.revision {
            return Ok(held);
        }
        let row = Arc::new(row);
        tokio::select! {
            // Workers that do not come back do not keep the service from ending.
            () = stop.cancelled() => return Ok(held),
            () = self.pool.adopt(row.worker_keys()) => {}
        }
        self.instance.store(Arc::clone(&row));
        let deadline = Moment::now().after(WITHIN);
        self.catalog.scopes.settle_all(deadline).await?;
        self.own.seal_anew(deadline).await?;
        if row.renewal.is_none() {
            self.catalog.scopes.forget_renewed();
        }
        self.adopted.store(row.revision, Ordering::Release);
        self.give_sign().await?;
        Ok(row)
    }

    /// The replicas that serve and do not go by that row yet.
    pub(super) async fn laggards(&self, row: &InstanceRow) -> Result<Vec<String>, ServiceError> {
        let own = self.own.name().await;
        let all = self.store.replicas().await?;
        let others = all.iter().filter(|replica| replica.row.unchecked().name != own);
        let serving = others.filter_map(|replica| replica.beat.as_ref()).filter(|(_, age)| *age <= SILENT_AFTER);
        let behind = serving.filter(|(beat, _)| beat.adopted < row.revision);
        Ok(behind.map(|(beat, _)| beat.replica.to_string()).collect())
    }
}
