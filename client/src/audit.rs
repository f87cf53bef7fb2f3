//! The audit log: records, who used what, checkpoints, receipts.

use strongroom_proto::v1::{
    AuditCheckpoint, AuditReceipt, AuditRecord, GetAuditCheckpointRequest, GetAuditReceiptRequest,
    GetAuditRecordRequest, ListAuditRecordsRequest, ListAuditRecordsResponse, ListAuditUsesRequest,
    ListAuditUsesResponse, StreamAuditRecordsRequest, StreamAuditRecordsResponse,
};
use tonic::{Request, Streaming};

use crate::{Client, Error};

/// Records of the audit log as they come. Opened by [`Client::stream_audit_records`]; dropped, it ends.
#[derive(Debug)]
pub struct AuditRecordStream {
    client: Client,
    messages: Streaming<StreamAuditRecordsResponse>,
}

impl AuditRecordStream {
    /// Some records; there may be none in a message, which is a sign of life. `None` when all that was there has been
    /// said, which is never so where the stream follows the log.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::Unavailable`] open another at the last `next_index`.
    pub async fn next(&mut self) -> Result<Option<StreamAuditRecordsResponse>, Error> {
        self.messages.message().await.map_err(|status| self.client.refused(&status))
    }
}

impl Client {
    /// A page of records. They may be many: ask for the next page with its token.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_audit_records(
        &self,
        request: ListAuditRecordsRequest,
    ) -> Result<ListAuditRecordsResponse, Error> {
        self.call(|| request.clone(), |request| async { self.audit_log().list_audit_records(request).await }).await
    }

    /// One record, `auditRecords/{index}`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_audit_record(&self, name: &str) -> Result<AuditRecord, Error> {
        let request = || GetAuditRecordRequest { name: name.to_owned() };
        self.call(request, |request| async { self.audit_log().get_audit_record(request).await }).await
    }

    /// Records from an index on, oldest first. The client's time is for opening the stream; with one deadline for all
    /// calls ([`Client::until`]) the stream ends then.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stream_audit_records(&self, request: StreamAuditRecordsRequest) -> Result<AuditRecordStream, Error> {
        let open = |mut request: Request<StreamAuditRecordsRequest>| async move {
            if !self.has_one_deadline() {
                // It was for opening; the stream has none.
                request.metadata_mut().remove("grpc-timeout");
            }
            self.audit_log().stream_audit_records(request).await
        };
        let messages = self.call(|| request.clone(), open).await?;
        Ok(AuditRecordStream { client: self.clone(), messages })
    }

    /// A page of who used what.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_audit_uses(&self, request: ListAuditUsesRequest) -> Result<ListAuditUsesResponse, Error> {
        self.call(|| request.clone(), |request| async { self.audit_log().list_audit_uses(request).await }).await
    }

    /// The newest checkpoint, and the proof that its tree is an extension of that of `old_size` records.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_audit_checkpoint(&self, old_size: u64) -> Result<AuditCheckpoint, Error> {
        let request = || GetAuditCheckpointRequest { old_size };
        self.call(request, |request| async { self.audit_log().get_audit_checkpoint(request).await }).await
    }

    /// The receipt of a record, `auditRecords/{index}`. Verify it with a key that you have from elsewhere.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_audit_receipt(&self, name: &str) -> Result<AuditReceipt, Error> {
        let request = || GetAuditReceiptRequest { name: name.to_owned() };
        self.call(request, |request| async { self.audit_log().get_audit_receipt(request).await }).await
    }
}
