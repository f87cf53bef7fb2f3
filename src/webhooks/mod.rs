//! Webhooks: events delivered over HTTP, at least once each, as CloudEvents 1.0 in their JSON form, signed as Standard Webhooks
//! has it. What a receiver does not take is tried again for three days, and is then a dead letter that one can list and replay.
//!
//! Whoever has the lease of a webhook's name delivers; what waits is in the store, so another replica goes on with it.
//!
//! * [`cloud_event`]: the form.
//! * [`deliver`]: the loop.

use std::{path::PathBuf, time::Duration};

use http::Uri;

use crate::{
    model::{EventRow, EventType, VaultName},
    outbound::Channel,
};

mod cloud_event;
mod deliver;

pub use deliver::run;

/// Where events go, as an operator has said it.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its name: what waits for it is kept under that.
    pub name: String,
    /// Where events are posted.
    pub url: Uri,
    /// How that is reached.
    pub channel: Channel,
    /// The file with the secret that deliveries are signed with.
    pub signature_key_file: PathBuf,
    /// Only events of these types; all when empty.
    pub types: Vec<EventType>,
    /// Only events of these vaults; all when empty.
    pub vaults: Vec<VaultName>,
    /// How long a delivery may take.
    pub within: Duration,
}

impl Webhook {
    /// Whether that can be the name of one.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=64).contains(&name.len()) && name.bytes().all(right)
    }

    /// Whether it is to be told of that event.
    #[must_use]
    pub fn wants(&self, event: &EventRow) -> bool {
        (self.types.is_empty() || self.types.contains(&event.kind))
            && (self.vaults.is_empty() || self.vaults.contains(&event.vault))
    }
}
