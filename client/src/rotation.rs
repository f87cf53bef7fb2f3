//! What keys do by themselves.

use strongroom_proto::v1::{
    GetRotationPolicyRequest, KeyRotation, ListRotationsRequest, RotationPolicy, UpdateRotationPolicyRequest,
};

use crate::{Client, Error, client::request_id};

impl Client {
    /// The policy of a key: `vaults/{vault}/keys/{key}/rotationPolicy`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_rotation_policy(&self, name: &str) -> Result<RotationPolicy, Error> {
        let request = || GetRotationPolicyRequest { name: name.to_owned() };
        self.call(request, |request| async { self.rotations().get_rotation_policy(request).await }).await
    }

    /// Replaces the policy of a key. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn update_rotation_policy(
        &self,
        mut request: UpdateRotationPolicyRequest,
    ) -> Result<RotationPolicy, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.rotations().update_rotation_policy(request).await }).await
    }

    /// What the keys of a vault do by themselves, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_rotations(&self, mut request: ListRotationsRequest) -> Result<Vec<KeyRotation>, Error> {
        let mut rotations = Vec::new();
        loop {
            let send = |request| async { self.rotations().list_rotations(request).await };
            let page = self.call(|| request.clone(), send).await?;
            rotations.extend(page.rotations);
            if page.next_page_token.is_empty() {
                return Ok(rotations);
            }
            request.page_token = page.next_page_token;
        }
    }
}
