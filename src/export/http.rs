//! Posting to a receiver, and the form of a webhook: a JSON array, signed by Standard Webhooks where a secret is set.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use tokio::time::Instant;

use super::{
    error::DeliveryError,
    shape::Item,
    signing::{key, now, retry_after, sign},
};
use crate::{
    config::files,
    outbound::{Channel, Client},
};

/// After so long the files of authorities are read again.
const CLIENT_AGE_MAX: Duration = Duration::from_secs(60);

/// A receiver that is posted to.
pub(crate) struct HttpSink {
    url: Uri,
    channel: Channel,
    signature_key_file: Option<PathBuf>,
    within: Duration,
    client: Option<(Instant, Client)>,
}

impl HttpSink {
    pub(crate) fn new(url: &Uri, channel: &Channel, signature_key_file: Option<PathBuf>, within: Duration) -> Self {
        Self { url: url.clone(), channel: channel.clone(), signature_key_file, within, client: None }
    }

    /// Posts a JSON body. Answers with the body of a success.
    pub(crate) async fn post(&mut self, body: Vec<u8>, id: &str) -> Result<Bytes, DeliveryError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(path) = &self.signature_key_file {
            let key = key(&files::read(path)?)?;
            sign(&mut headers, &key, id, now(), &body)?;
        }
        let fresh = self.client.take().filter(|(made, _)| made.elapsed() < CLIENT_AGE_MAX);
        let client = match fresh {
            Some(fresh) => fresh,
            None => (Instant::now(), self.channel.client(&self.url)?),
        };
        let (_, client) = self.client.insert(client);
        let answer = client.post(headers, body.into(), self.within).await?;
        if !answer.status.is_success() {
            let retry_after = retry_after(&answer.headers, now());
            return Err(DeliveryError::Status { status: answer.status.as_u16(), retry_after });
        }
        Ok(answer.body)
    }
}

/// The items as one array.
pub(super) fn array(items: &[Item]) -> Vec<u8> {
    let mut body = Vec::with_capacity(items.iter().map(|item| item.text.len() + 1).sum::<usize>() + 2);
    body.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item.text.as_bytes());
    }
    body.push(b']');
    body
}
