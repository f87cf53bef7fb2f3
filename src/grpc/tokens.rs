//! `strongroom.v1.Tokens`, and the documents by which others verify what it issues.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse as _,
    routing::get,
};
use strongroom_proto::v1::{
    CreateTokenRequest, CreateTokenResponse, GetTokenRequest, ListTokensRequest, ListTokensResponse,
    RevokeTokenRequest, Token, tokens_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    bearer::{
        Issued,
        issued::{DISCOVERY_PATH, KEYS_PATH},
    },
    service::{Caller, Problem, Service, ServiceError, tokens::NewToken},
};

/// How long others may keep what is published: a new key signs no sooner than it is asked for, and they ask again
/// when they meet a name that they do not know.
const KEPT: &str = "public, max-age=300";

serve!(tokens_server::Tokens {
    create_token(CreateTokenRequest) -> CreateTokenResponse;
    get_token(GetTokenRequest) -> Token;
    list_tokens(ListTokensRequest) -> ListTokensResponse;
    revoke_token(RevokeTokenRequest) -> Token;
});

async fn create_token(
    service: &Arc<Service>,
    caller: &Caller,
    message: CreateTokenRequest,
) -> Result<CreateTokenResponse, ServiceError> {
    let options = decode::options("CreateToken", &message, None, &message.request_id, "", message.validate_only)?;
    let name = message.token_name.parse().map_err(|error| names::invalid("token_name", &error))?;
    let life = message.life.map(whole_seconds).transpose()?;
    let issued = service.create_token(caller, NewToken { name, life }, options).await?;
    // The message is the last copy of ours; those of h2 and TLS cannot be wiped.
    let text = issued.text.map(|text| String::from_utf8_lossy(text.expose_secret()).into_owned());
    Ok(CreateTokenResponse { token: Some(encode::token(&issued.row)), text: text.unwrap_or_default() })
}

fn whole_seconds(life: prost_types::Duration) -> Result<Duration, Problem> {
    match u64::try_from(life.seconds) {
        Ok(seconds) if life.nanos == 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Problem::Invalid { field: "life", why: "is a number of whole seconds, and not negative".to_owned() }),
    }
}

async fn get_token(service: &Arc<Service>, caller: &Caller, message: GetTokenRequest) -> Result<Token, ServiceError> {
    let id = names::token("name", &message.name)?;
    Ok(encode::token(&service.get_token(caller, id).await?))
}

async fn list_tokens(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListTokensRequest,
) -> Result<ListTokensResponse, ServiceError> {
    let list = List { kind: "tokens", parent: "", deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.list_tokens(caller, page).await?;
    let next_page_token = list.next(found.more, found.items.last().map(|row| row.id.to_string()));
    Ok(ListTokensResponse { tokens: found.items.iter().map(encode::token).collect(), next_page_token })
}

async fn revoke_token(
    service: &Arc<Service>,
    caller: &Caller,
    message: RevokeTokenRequest,
) -> Result<Token, ServiceError> {
    let id = names::token("name", &message.name)?;
    let options = decode::options("RevokeToken", &message, None, &message.request_id, "", message.validate_only)?;
    Ok(encode::token(&service.revoke_token(caller, id, options).await?))
}

/// Publishes what others need to verify tokens of ours. It is for everybody.
pub(super) fn publish(router: Router, issued: &Arc<Issued>) -> Router {
    let (discovery, keys) = (Arc::clone(issued), Arc::clone(issued));
    router
        .route(DISCOVERY_PATH, get(move || async move { document(discovery.discovery()) }))
        .route(KEYS_PATH, get(move || async move { document(Some(keys.key_set())) }))
}

fn document(json: Option<String>) -> axum::response::Response {
    match json {
        Some(json) => {
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, KEPT)], json).into_response()
        }
        // Its name is no URL, so nobody comes by it.
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
