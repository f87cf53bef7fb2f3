//! Tokens that the service issues.

use strongroom_proto::v1::{
    CreateTokenRequest, CreateTokenResponse, GetTokenRequest, ListTokensRequest, RevokeTokenRequest, Token,
};

use crate::{Client, Error, client::request_id};

impl Client {
    /// Has a token issued. Its text is in the answer and nowhere else. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create_token(&self, mut request: CreateTokenRequest) -> Result<CreateTokenResponse, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.tokens().create_token(request).await }).await
    }

    /// A token that is in force, `tokens/{id}`, without its text.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_token(&self, name: &str) -> Result<Token, Error> {
        let request = || GetTokenRequest { name: name.to_owned() };
        self.call(request, |request| async { self.tokens().get_token(request).await }).await
    }

    /// Tokens that are in force, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_tokens(&self, mut request: ListTokensRequest) -> Result<Vec<Token>, Error> {
        let mut tokens = Vec::new();
        loop {
            let send = |request| async { self.tokens().list_tokens(request).await };
            let page = self.call(|| request.clone(), send).await?;
            tokens.extend(page.tokens);
            if page.next_page_token.is_empty() {
                return Ok(tokens);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Revokes a token. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revoke_token(&self, mut request: RevokeTokenRequest) -> Result<Token, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.tokens().revoke_token(request).await }).await
    }
}
