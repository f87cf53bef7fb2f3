//! Backups of the whole service.

use strongroom_proto::v1::{Backup, CreateBackupRequest, ListBackupsRequest};

use crate::{Client, Error, client::request_id};

impl Client {
    /// Has the server make a backup, and waits until it is durable. When the time is up before, it goes on: the same request
    /// again, with the same `request_id`, waits for it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create_backup(&self, mut request: CreateBackupRequest) -> Result<Backup, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.call(|| request.clone(), |request| async { self.backups().create_backup(request).await }).await
    }

    /// The backups that lie in the server's folder, oldest first, and the one that is being made.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_backups(&self) -> Result<Vec<Backup>, Error> {
        let send = |request| async { self.backups().list_backups(request).await };
        Ok(self.call(|| ListBackupsRequest {}, send).await?.backups)
    }
}
