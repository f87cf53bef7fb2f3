//! Secrets and their versions. A value that comes is a secret here too: wiped when it is dropped, and never printed.

use secrecy::SecretSlice;
use strongroom_proto::v1::{
    BackupSecretRequest, BackupSecretResponse, DeleteSecretRequest, GetSecretRequest, GetSecretValueRequest,
    ListSecretVersionsRequest, ListSecretsRequest, PurgeSecretRequest, PurgeSecretResponse, RestoreSecretRequest,
    Secret, SecretVersion, SetSecretRequest, UndeleteSecretRequest, UpdateSecretVersionRequest,
};

use crate::{
    Client, Error,
    client::{intact, request_id},
    crypto::secret,
};

/// The value of a version of a secret.
#[derive(Debug)]
pub struct SecretValue {
    /// The version that it is of.
    pub version: SecretVersion,
    /// The value.
    pub value: SecretSlice<u8>,
}

impl Client {
    /// Makes a secret, or a new version of a secret that exists, with that value: at most 64 KiB. Without a request id it gets
    /// one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_secret(&self, mut request: SetSecretRequest, value: &[u8]) -> Result<Secret, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        let request =
            || SetSecretRequest { value: value.to_vec(), value_crc32c: Some(crc32c::crc32c(value)), ..request.clone() };
        let made = self.call(request, |request| async { self.secrets().set_secret(request).await }).await;
        made.map_err(|error| error.of_change(&id))
    }

    /// A secret with its newest version, or with the version that is named; not its value.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_secret(&self, name: &str) -> Result<Secret, Error> {
        let request = || GetSecretRequest { name: name.to_owned() };
        self.call(request, |request| async { self.secrets().get_secret(request).await }).await
    }

    /// The value of a secret's newest version, or of the version that is named.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_secret_value(&self, name: &str) -> Result<SecretValue, Error> {
        let request = || GetSecretValueRequest { name: name.to_owned() };
        let answer = self.call(request, |request| async { self.secrets().get_secret_value(request).await }).await?;
        let value = secret("value", answer.value, answer.value_crc32c)?;
        let missing = || Error::Unexpected("an answer without the version that it is of".to_owned());
        Ok(SecretValue { version: answer.version.ok_or_else(missing)?, value })
    }

    /// Secrets of a vault, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_secrets(&self, mut request: ListSecretsRequest) -> Result<Vec<Secret>, Error> {
        let mut secrets = Vec::new();
        loop {
            let send = |request| async { self.secrets().list_secrets(request).await };
            let page = self.call(|| request.clone(), send).await?;
            secrets.extend(page.secrets);
            if page.next_page_token.is_empty() {
                return Ok(secrets);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Versions of a secret, newest first, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_secret_versions(
        &self,
        mut request: ListSecretVersionsRequest,
    ) -> Result<Vec<SecretVersion>, Error> {
        let mut versions = Vec::new();
        loop {
            let send = |request| async { self.secrets().list_secret_versions(request).await };
            let page = self.call(|| request.clone(), send).await?;
            versions.extend(page.versions);
            if page.next_page_token.is_empty() {
                return Ok(versions);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Changes what a version is said to be. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn update_secret_version(&self, mut request: UpdateSecretVersionRequest) -> Result<SecretVersion, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.secrets().update_secret_version(request).await }).await
    }

    /// Deletes a secret softly. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_secret(&self, mut request: DeleteSecretRequest) -> Result<Secret, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.secrets().delete_secret(request).await }).await
    }

    /// Brings a deleted secret back. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn undelete_secret(&self, mut request: UndeleteSecretRequest) -> Result<Secret, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.secrets().undelete_secret(request).await }).await
    }

    /// Destroys a deleted secret with all its versions. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn purge_secret(&self, mut request: PurgeSecretRequest) -> Result<PurgeSecretResponse, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.secrets().purge_secret(request).await }).await
    }

    /// A secret with all its versions in one piece, to be kept elsewhere.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn backup_secret(&self, name: &str) -> Result<BackupSecretResponse, Error> {
        let request = || BackupSecretRequest { name: name.to_owned() };
        let made = self.call(request, |request| async { self.secrets().backup_secret(request).await }).await?;
        intact("backup", &made.backup, made.backup_crc32c)?;
        Ok(made)
    }

    /// Brings a secret back by its backup. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn restore_secret(&self, mut request: RestoreSecretRequest) -> Result<Secret, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        request.backup_crc32c = Some(crc32c::crc32c(&request.backup));
        self.change(request, &id, |request| async { self.secrets().restore_secret(request).await }).await
    }
}
