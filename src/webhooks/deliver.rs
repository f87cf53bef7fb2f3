//! The loop of a webhook: queue what is new, deliver what is due, note what came of it.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{hmac, rand};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, header};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Webhook, cloud_event};
use crate::{
    config::files,
    export::{
        error::{host, without_path},
        signing::{key, retry_after, sign},
    },
    model::EventRow,
    observe::metrics::DELIVERIES,
    outbound::Client,
    service::{
        Service, ServiceError,
        deliveries::{Outcome, Queued},
    },
    store::{EventPlace, Undelivered},
};

/// How often it is looked whether there is anything to be delivered.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many deliveries are under way at once: one that hangs holds up no more than its share.
const AT_ONCE: usize = 8;
/// How long to wait after each failure (Standard Webhooks): three days in all.
const RETRIES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];
/// The longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest reason that is kept, in characters.
const FAILURE_CHARS_MAX: usize = 300;

/// Delivers until `stop`.
pub async fn run(webhook: Webhook, service: Arc<Service>, stop: CancellationToken) {
    tracing::info!(webhook = webhook.name, host = host(&webhook.url), "delivering events");
    loop {
        let goes_on = match pass(&webhook, &service, &stop).await {
            Ok(goes_on) => goes_on,
            Err(error) => {
                tracing::error!(webhook = webhook.name, %error, cause = ?error.cause, "events cannot be delivered");
                false
            }
        };
        let pause = if goes_on { Duration::ZERO } else { LOOK_EVERY };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Queues and delivers some; says whether there may be more right now.
async fn pass(webhook: &Webhook, service: &Arc<Service>, stop: &CancellationToken) -> Result<bool, ServiceError> {
    let within = webhook.within;
    let Some(turn) = service.take_deliveries(&webhook.name, within).await? else { return Ok(false) };
    let Queued { more } = service.queue_deliveries(webhook).await?;
    let due = service.due_deliveries(&webhook.name).await?;
    if due.is_empty() {
        return Ok(more);
    }
    let (way, full) = (Way::open(webhook), due.len());
    let instance = service.instance().id;
    let mut outcomes = futures_util::stream::iter(due)
        .map(|(place, event, attempts)| {
            let way = &way;
            async move { one(webhook, way, (place, &event, attempts), instance).await }
        })
        .buffer_unordered(AT_ONCE);
    let mut done = Vec::with_capacity(full);
    loop {
        tokio::select! {
            // What is under way is tried again by whoever comes next.
            () = stop.cancelled() => break,
            outcome = outcomes.next() => match outcome {
                Some(outcome) => done.push(outcome),
                None => break,
            },
        }
    }
    drop(outcomes);
    service.settle_deliveries(&webhook.name, done, &turn).await?;
    Ok(more || full >= usize::try_from(crate::service::deliveries::DUE_MAX).unwrap_or(usize::MAX))
}

/// A receiver and the secret, read now; or why not.
struct Way(Result<(Client, hmac::Key), String>);

impl Way {
    fn open(webhook: &Webhook) -> Self {
        let file = files::read(&webhook.signature_key_file).map_err(|error| told(&error));
        let key = file.and_then(|file| key(&file).map_err(|error| told(&error)));
        let client = webhook.channel.client(&webhook.url).map_err(|error| told(&without_path(error)));
        Self(key.and_then(|key| client.map(|client| (client, key))))
    }
}

/// An error with its causes, short.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(FAILURE_CHARS_MAX).collect()
}

/// One delivery.
async fn one(
    webhook: &Webhook,
    way: &Way,
    (place, event, attempts): (EventPlace, &EventRow, u32),
    instance: [u8; 16],
) -> Outcome {
    let sent = match &way.0 {
        Ok((client, key)) => send(client, key, event, instance, webhook.within).await,
        Err(why) => Err(Refusal { why: why.clone(), retry_after: None, is_final: false }),
    };
    let (outcome, result) = match sent {
        Ok(()) => ("delivered", Outcome::Delivered(place)),
        Err(refusal) => {
            let retry_after = refusal.next(attempts);
            let outcome = if retry_after.is_some() { "failed" } else { "dead" };
            let (name, id) = (&webhook.name, cloud_event::id(event));
            tracing::warn!(
                webhook = name,
                event = id,
                attempts,
                why = refusal.why,
                outcome,
                "an event was not delivered"
            );
            (outcome, Outcome::Failed(Undelivered { place, failure: refusal.why, retry_after }))
        }
    };
    metrics::counter!(DELIVERIES, "webhook" => webhook.name.clone(), "outcome" => outcome).increment(1);
    result
}

/// Why a delivery failed.
struct Refusal {
    why: String,
    /// When the receiver wants it.
    retry_after: Option<Duration>,
    /// It never will.
    is_final: bool,
}

impl Refusal {
    /// When it is tried again after so many attempts before; never: it is given up.
    fn next(&self, attempts: u32) -> Option<Duration> {
        let wait = *RETRIES.get(usize::try_from(attempts).ok()?).filter(|_| !self.is_final)?;
        let mut byte = [0];
        // Without random numbers all come at once.
        let _ = rand::fill(&mut byte);
        let wait = wait + wait.mul_f64(f64::from(byte[0]) / 2560.0);
        Some(wait.max(self.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)))
    }
}

async fn send(
    client: &Client,
    key: &hmac::Key,
    event: &EventRow,
    instance: [u8; 16],
    within: Duration,
) -> Result<(), Refusal> {
    let failed = |why: String| Refusal { why, retry_after: None, is_final: false };
    let body = cloud_event::body(event, instance).map_err(|error| failed(told(&error)))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(cloud_event::CONTENT_TYPE));
    let now = crate::export::signing::now();
    sign(&mut headers, key, &cloud_event::id(event), now, &body).map_err(|error| failed(told(&error)))?;
    let answer = client.post(headers, body.into(), within).await;
    let answer = answer.map_err(|error| failed(told(&without_path(error))))?;
    if answer.status.is_success() {
        return Ok(());
    }
    let why = if answer.status.is_redirection() {
        format!("the receiver redirects (status {}): name where it is in the configuration", answer.status.as_u16())
    } else {
        format!("the receiver answered with status {}", answer.status.as_u16())
    };
    // Gone: it says that it does not come back.
    let is_final = answer.status == http::StatusCode::GONE;
    Err(Refusal { why, retry_after: retry_after(&answer.headers, now), is_final })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_tried_for_three_days_and_then_given_up() {
        let refusal = Refusal { why: String::new(), retry_after: None, is_final: false };
        let mut whole = Duration::ZERO;
        for attempts in 0..9 {
            let wait = refusal.next(attempts).expect("it is tried again");
            assert!(wait >= RETRIES[attempts as usize] && wait <= RETRIES[attempts as usize].mul_f64(1.11));
            whole += wait;
        }
        assert!(whole > Duration::from_secs(3 * 24 * 3600) && refusal.next(9).is_none());
        let late = Refusal { retry_after: Some(Duration::from_secs(99)), ..refusal };
        assert_eq!(late.next(0), Some(Duration::from_secs(99)));
        let never = Refusal { retry_after: Some(Duration::MAX), ..late };
        assert_eq!(never.next(0), Some(RETRY_AFTER_MAX));
        assert_eq!(Refusal { is_final: true, ..never }.next(0), None);
    }
}
