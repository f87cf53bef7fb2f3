//! Questions about access.

use strongroom_proto::v1::{
    ExplainAccessRequest, ExplainAccessResponse, ListPermittedPrincipalsRequest, PermittedPrincipal,
    PreviewAccessRequest, PreviewAccessResponse,
};

use crate::{Client, Error};

impl Client {
    /// Why somebody may do something, or may not.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn explain_access(&self, request: ExplainAccessRequest) -> Result<ExplainAccessResponse, Error> {
        self.call(|| request.clone(), |request| async { self.access().explain_access(request).await }).await
    }

    /// Who may do something, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_permitted_principals(
        &self,
        mut request: ListPermittedPrincipalsRequest,
    ) -> Result<Vec<PermittedPrincipal>, Error> {
        let mut principals = Vec::new();
        loop {
            let send = |request| async { self.access().list_permitted_principals(request).await };
            let page = self.call(|| request.clone(), send).await?;
            principals.extend(page.principals);
            if page.next_page_token.is_empty() {
                return Ok(principals);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// What a change would make possible and impossible.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn preview_access(&self, request: PreviewAccessRequest) -> Result<PreviewAccessResponse, Error> {
        self.call(|| request.clone(), |request| async { self.access().preview_access(request).await }).await
    }
}
