//! `[[webhooks]]`: who is told of events.

use std::time::Duration;

use super::{exporters::receiver, reader::Section};
use crate::{
    model::{AddressRange, EventType, VaultName},
    webhooks::Webhook,
};

/// More would only be one mistake.
const WEBHOOKS_MAX: usize = 16;

pub(super) fn webhooks(root: &mut Section) -> Vec<Webhook> {
    let sections = root.tables("webhooks");
    if sections.len() > WEBHOOKS_MAX {
        root.fault("webhooks", format!("there are more than {WEBHOOKS_MAX}"));
    }
    let mut webhooks: Vec<Webhook> = Vec::with_capacity(sections.len());
    for mut section in sections {
        let name = section.required_text("name");
        if !name.is_empty() && !Webhook::is_name(&name) {
            section.fault("name", format!("{name:?} is not 1 to 64 of a-z, 0-9 and -"));
        }
        if webhooks.iter().any(|other| other.name == name) {
            section.fault("name", format!("{name:?} is there twice: what waits is kept by name"));
        }
        let found = receiver(&mut section, "url");
        let signature_key_file = section.required_path("signature_key_file");
        let ranges = section.parsed("allowed_ranges", "address ranges", |text| {
            text.parse::<AddressRange>().map_err(|error| error.to_string())
        });
        let types = section.parsed("types", "types of events", |text| {
            EventType::from_name(text).ok_or_else(|| {
                let known: Vec<&str> = EventType::ALL.into_iter().map(EventType::name).collect();
                format!("{text:?} is no type; there are {}", known.join(", "))
            })
        });
        let vaults = section
            .parsed("vaults", "names of vaults", |text| text.parse::<VaultName>().map_err(|error| error.to_string()));
        let within = section.milliseconds("within_ms", Duration::from_secs(10), 100..=60_000);
        section.finish();
        // A fault was noted where there is none, and nothing of it is used.
        if let Some((url, mut channel)) = found {
            channel.public_and = Some(ranges);
            webhooks.push(Webhook { name, url, channel, signature_key_file, types, vaults, within });
        }
    }
    webhooks
}
