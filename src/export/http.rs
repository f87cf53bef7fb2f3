//! Posting to a receiver, and the form of a webhook: a JSON array, signed by Standard Webhooks where a secret is set.
//!
//! ```text
//! webhook-signature: v1,base64(HMAC-SHA256(secret, "{webhook-id}.{webhook-timestamp}.{body}"))
//! ```

use std::{path::PathBuf, time::Duration};

use aws_lc_rs::hmac;
use base64ct::{Base64, Encoding as _};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use jiff::fmt::rfc2822;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{error::DeliveryError, shape::Item};
use crate::{
    config::files,
    model::{Clock as _, SystemClock},
    outbound::{Channel, Client},
};

/// After so long the files of authorities are read again.
const CLIENT_AGE_MAX: Duration = Duration::from_secs(60);
/// The shortest secret, in bytes (Standard Webhooks).
const SECRET_BYTES_MIN: usize = 24;

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
            sign(&mut headers, &key, id, SystemClock.now().0, &body)?;
        }
        let fresh = self.client.take().filter(|(made, _)| made.elapsed() < CLIENT_AGE_MAX);
        let client = match fresh {
            Some(fresh) => fresh,
            None => (Instant::now(), self.channel.client(&self.url)?),
        };
        let (_, client) = self.client.insert(client);
        let answer = client.post(headers, body.into(), self.within).await?;
        if !answer.status.is_success() {
            let retry_after = retry_after(&answer.headers, SystemClock.now().0);
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

/// The secret of a file: `whsec_` and base64, or the text itself.
pub(super) fn key(file: &[u8]) -> Result<hmac::Key, DeliveryError> {
    let text = file.trim_ascii();
    let secret = match text.strip_prefix(b"whsec_") {
        Some(encoded) => {
            let encoded = std::str::from_utf8(encoded).map_err(|_| DeliveryError::Key)?;
            Zeroizing::new(Base64::decode_vec(encoded).map_err(|_| DeliveryError::Key)?)
        }
        None => Zeroizing::new(text.to_vec()),
    };
    if secret.len() < SECRET_BYTES_MIN {
        return Err(DeliveryError::Key);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

/// Adds the three headers of Standard Webhooks.
pub(super) fn sign(
    headers: &mut HeaderMap,
    key: &hmac::Key,
    id: &str,
    time: i64,
    body: &[u8],
) -> Result<(), DeliveryError> {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{time}.").as_bytes());
    context.update(body);
    let signature = format!("v1,{}", Base64::encode_string(context.sign().as_ref()));
    let value = |text: &str| HeaderValue::try_from(text).map_err(|_| DeliveryError::Key);
    headers.insert("webhook-id", value(id)?);
    headers.insert("webhook-timestamp", HeaderValue::from(time));
    headers.insert("webhook-signature", value(&signature)?);
    Ok(())
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(date.as_second() - now).ok().map(Duration::from_secs)
}
