//! Vaults.

use strongroom_proto::v1::{
    CreateVaultRequest, DeleteVaultRequest, GetVaultRequest, ListVaultsRequest, PurgeVaultRequest,
    RotateVaultKekRequest, UndeleteVaultRequest, UpdateVaultRequest, Vault,
};

use crate::{Client, Error, client::request_id};

impl Client {
    /// Makes a vault. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create_vault(&self, mut request: CreateVaultRequest) -> Result<Vault, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.vaults().create_vault(request).await }).await
    }

    /// A vault.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_vault(&self, name: &str) -> Result<Vault, Error> {
        let request = || GetVaultRequest { name: name.to_owned() };
        self.call(request, |request| async { self.vaults().get_vault(request).await }).await
    }

    /// Vaults that the caller may read, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_vaults(&self, mut request: ListVaultsRequest) -> Result<Vec<Vault>, Error> {
        let mut vaults = Vec::new();
        loop {
            let send = |request| async { self.vaults().list_vaults(request).await };
            let page = self.call(|| request.clone(), send).await?;
            vaults.extend(page.vaults);
            if page.next_page_token.is_empty() {
                return Ok(vaults);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Changes a vault. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn update_vault(&self, mut request: UpdateVaultRequest) -> Result<Vault, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.vaults().update_vault(request).await }).await
    }

    /// Deletes a vault softly. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_vault(&self, mut request: DeleteVaultRequest) -> Result<Vault, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.vaults().delete_vault(request).await }).await
    }

    /// Brings a deleted vault back. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn undelete_vault(&self, mut request: UndeleteVaultRequest) -> Result<Vault, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.vaults().undelete_vault(request).await }).await
    }

    /// Destroys a deleted vault with all that is in it; says whether all is gone. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn purge_vault(&self, mut request: PurgeVaultRequest) -> Result<bool, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        let purged = self.change(request, &id, |request| async { self.vaults().purge_vault(request).await }).await;
        Ok(purged?.done)
    }

    /// Makes a new key-encryption key for what will be made in a vault. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn rotate_vault_kek(&self, mut request: RotateVaultKekRequest) -> Result<Vault, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.vaults().rotate_vault_kek(request).await }).await
    }
}
