//! Keys and their versions.

use strongroom_proto::v1::{
    BackupKeyRequest, BackupKeyResponse, CreateKeyRequest, DeleteKeyRequest, DeleteKeyVersionRequest, GetKeyRequest,
    GetPublicKeysRequest, ImportKeyRequest, Key, KeyVersion, ListKeyVersionsRequest, ListKeysRequest, MoveKeyRequest,
    MoveKeyResponse, PublicKey, PurgeKeyRequest, PurgeKeyResponse, RestoreKeyRequest, RotateKeyRequest,
    UndeleteKeyRequest, UndeleteKeyVersionRequest, UpdateKeyVersionRequest, WrappedKey, import_key_request,
};

use crate::{
    Client, Error,
    client::{intact, request_id},
};

/// A key from outside. Debug would show it, so there is none.
#[derive(Clone, Copy)]
pub enum Material<'a> {
    /// A public key: SubjectPublicKeyInfo in DER.
    PublicKey(&'a [u8]),
    /// The bytes of an AES or HMAC key.
    Oct(&'a [u8]),
    /// A private key: PrivateKeyInfo (PKCS#8) in DER, not encrypted.
    Pkcs8(&'a [u8]),
    /// A key that is wrapped for another that imports.
    Wrapped {
        /// That key: its resource name, with or without a version.
        kek: &'a str,
        /// CKM_RSA_AES_KEY_WRAP.
        ciphertext: &'a [u8],
    },
}

impl Material<'_> {
    const fn bytes(&self) -> &[u8] {
        match self {
            Self::PublicKey(bytes)
            | Self::Oct(bytes)
            | Self::Pkcs8(bytes)
            | Self::Wrapped { ciphertext: bytes, .. } => bytes,
        }
    }
}

impl Client {
    /// Makes a key, or a new version of a key that exists. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create_key(&self, mut request: CreateKeyRequest) -> Result<Key, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().create_key(request).await }).await
    }

    /// Makes a key, or a new version, of what comes from outside. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn import_key(&self, mut request: ImportKeyRequest, material: Material<'_>) -> Result<Key, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        let request = || ImportKeyRequest {
            material: Some(match material {
                Material::PublicKey(der) => import_key_request::Material::PublicKey(der.to_vec()),
                Material::Oct(bytes) => import_key_request::Material::Oct(bytes.to_vec()),
                Material::Pkcs8(der) => import_key_request::Material::Pkcs8(der.to_vec()),
                Material::Wrapped { kek, ciphertext } => import_key_request::Material::WrappedKey(WrappedKey {
                    kek: kek.to_owned(),
                    ciphertext: ciphertext.to_vec(),
                }),
            }),
            material_crc32c: Some(crc32c::crc32c(material.bytes())),
            ..request.clone()
        };
        let made = self.call(request, |request| async { self.keys().import_key(request).await }).await;
        made.map_err(|error| error.of_change(&id))
    }

    /// Makes a new version of a key, as the newest is. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn rotate_key(&self, mut request: RotateKeyRequest) -> Result<Key, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().rotate_key(request).await }).await
    }

    /// The public keys of a key's enabled versions, newest first, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_public_keys(&self, mut request: GetPublicKeysRequest) -> Result<Vec<PublicKey>, Error> {
        let mut keys = Vec::new();
        loop {
            let send = |request| async { self.keys().get_public_keys(request).await };
            let page = self.call(|| request.clone(), send).await?;
            keys.extend(page.keys);
            if page.next_page_token.is_empty() {
                return Ok(keys);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// A key with its newest version, or with the version that is named.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_key(&self, name: &str) -> Result<Key, Error> {
        let request = || GetKeyRequest { name: name.to_owned() };
        self.call(request, |request| async { self.keys().get_key(request).await }).await
    }

    /// Keys of a vault, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_keys(&self, mut request: ListKeysRequest) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        loop {
            let page = self.call(|| request.clone(), |request| async { self.keys().list_keys(request).await }).await?;
            keys.extend(page.keys);
            if page.next_page_token.is_empty() {
                return Ok(keys);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Versions of a key, newest first, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_key_versions(&self, mut request: ListKeyVersionsRequest) -> Result<Vec<KeyVersion>, Error> {
        let mut versions = Vec::new();
        loop {
            let send = |request| async { self.keys().list_key_versions(request).await };
            let page = self.call(|| request.clone(), send).await?;
            versions.extend(page.versions);
            if page.next_page_token.is_empty() {
                return Ok(versions);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Changes a version. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn update_key_version(&self, mut request: UpdateKeyVersionRequest) -> Result<KeyVersion, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().update_key_version(request).await }).await
    }

    /// Deletes a key softly. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_key(&self, mut request: DeleteKeyRequest) -> Result<Key, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().delete_key(request).await }).await
    }

    /// Brings a deleted key back. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn undelete_key(&self, mut request: UndeleteKeyRequest) -> Result<Key, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().undelete_key(request).await }).await
    }

    /// Deletes one version softly, not the newest. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_key_version(&self, mut request: DeleteKeyVersionRequest) -> Result<KeyVersion, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().delete_key_version(request).await }).await
    }

    /// Brings a deleted version back. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn undelete_key_version(&self, mut request: UndeleteKeyVersionRequest) -> Result<KeyVersion, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().undelete_key_version(request).await }).await
    }

    /// Destroys a deleted key with all its versions, or a deleted version. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn purge_key(&self, mut request: PurgeKeyRequest) -> Result<PurgeKeyResponse, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().purge_key(request).await }).await
    }

    /// A key with all its versions in one piece, to be kept elsewhere.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn backup_key(&self, name: &str) -> Result<BackupKeyResponse, Error> {
        let request = || BackupKeyRequest { name: name.to_owned() };
        let made = self.call(request, |request| async { self.keys().backup_key(request).await }).await?;
        intact("backup", &made.backup, made.backup_crc32c)?;
        Ok(made)
    }

    /// Brings a key back by its backup. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn restore_key(&self, mut request: RestoreKeyRequest) -> Result<Key, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        request.backup_crc32c = Some(crc32c::crc32c(&request.backup));
        self.change(request, &id, |request| async { self.keys().restore_key(request).await }).await
    }

    /// Moves a key to another vault. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn move_key(&self, mut request: MoveKeyRequest) -> Result<MoveKeyResponse, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.keys().move_key(request).await }).await
    }
}
