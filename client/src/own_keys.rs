//! The keys of the service itself.

use strongroom_proto::v1::{
    GetOwnKeysRequest, GetOwnKeysResponse, LogKey, Root, RotateIssuerKeyRequest, RotateIssuerKeyResponse,
    RotateLogKeyRequest, RotateRootRequest,
};

use crate::{Client, Error, client::request_id};

impl Client {
    /// What there is of the service's own keys.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_own_keys(&self) -> Result<GetOwnKeysResponse, Error> {
        self.call(|| GetOwnKeysRequest {}, |request| async { self.own_keys().get_own_keys(request).await }).await
    }

    /// Has a new key sign the tokens that the service issues. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn rotate_issuer_key(
        &self,
        mut request: RotateIssuerKeyRequest,
    ) -> Result<RotateIssuerKeyResponse, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.own_keys().rotate_issuer_key(request).await }).await
    }

    /// Has another key sign the checkpoints of the audit logs. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn rotate_log_key(&self, mut request: RotateLogKeyRequest) -> Result<LogKey, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.own_keys().rotate_log_key(request).await }).await
    }

    /// Has another root take the place of the one that is there. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn rotate_root(&self, mut request: RotateRootRequest) -> Result<Root, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.own_keys().rotate_root(request).await }).await
    }
}
