//! Fetches small JSON documents of issuers: what they must be to be one.

use std::time::Duration;

use http::{StatusCode, Uri};

use super::keys::KeySetError;
use crate::{
    config::files::ReadError,
    outbound::{Channel, ChannelError},
};

/// How long a fetch may take altogether.
const WITHIN: Duration = Duration::from_secs(10);

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL of an issuer.
    #[error("{0} is neither https:// nor, where that is allowed, http:// on a loopback address")]
    Url(String),
    /// No answer.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// An answer that is no document.
    #[error("the issuer answered with status {0}; redirects are not followed")]
    Status(u16),
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] ReadError),
    /// The discovery document is not one.
    #[error("the discovery document is no JSON object with issuer and jwks_uri")]
    Document,
    /// It is somebody else's.
    #[error("the discovery document is that of the issuer {0:?}")]
    OtherIssuer(String),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// Fetches a document. The client is made anew each time: fetches are rare, and a CA's file may have been replaced.
pub(super) async fn get(channel: &Channel, url: &Uri) -> Result<Vec<u8>, FetchError> {
    let answer = channel.client(url)?.get(WITHIN).await?;
    if answer.status != StatusCode::OK {
        return Err(FetchError::Status(answer.status.as_u16()));
    }
    Ok(answer.body.to_vec())
}
