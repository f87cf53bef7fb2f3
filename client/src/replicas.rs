//! Replicas: who serves.

use strongroom_proto::v1::{ListReplicasRequest, ListReplicasResponse};

use crate::{Client, Error};

impl Client {
    /// Every replica that ever served, and who does which scheduled work.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_replicas(&self) -> Result<ListReplicasResponse, Error> {
        self.call(|| ListReplicasRequest {}, |request| async { self.replicas().list_replicas(request).await }).await
    }
}
