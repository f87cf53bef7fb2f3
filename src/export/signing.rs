//! How deliveries are signed (Standard Webhooks 1.0), and when a receiver wants to be asked again.
//!
//! ```text
//! webhook-signature: v1,base64(HMAC-SHA256(secret, "{webhook-id}.{webhook-timestamp}.{body}"))
//! ```

use std::time::Duration;

use aws_lc_rs::hmac;
use base64ct::{Base64, Encoding as _};
use http::{HeaderMap, HeaderValue, header};
use jiff::fmt::rfc2822;
use zeroize::Zeroizing;

use super::error::DeliveryError;
use crate::model::{Clock as _, SystemClock};

/// The shortest secret, in bytes (Standard Webhooks).
const SECRET_BYTES_MIN: usize = 24;

/// The time that a signature says.
pub(crate) fn now() -> i64 {
    SystemClock.now().0
}

/// The secret of a file: `whsec_` and base64, or the text itself.
pub(crate) fn key(file: &[u8]) -> Result<hmac::Key, DeliveryError> {
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
pub(crate) fn sign(
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
pub(crate) fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(date.as_second() - now).ok().map(Duration::from_secs)
}
