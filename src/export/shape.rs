//! What is sent of a record: its JSON with its index, or what another system expects.

use serde_json::{Map, Value};

use super::azure;
use crate::audit::{Outcome, Record};

/// How a record looks where it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The record's own JSON, with its index in front.
    Strongroom,
    /// Azure Key Vault's `AuditEvent`.
    Azure,
}

impl Form {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strongroom => "strongroom",
            Self::Azure => "azure",
        }
    }
}

/// One thing that is sent.
#[derive(Debug)]
pub(super) struct Item {
    /// The record's index in the log.
    pub(super) index: u64,
    /// The record's time in seconds since 1970.
    pub(super) time: i64,
    /// Its operation.
    pub(super) operation: String,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// What is known of who, what and why, by the names of the record's fields.
    pub(super) facts: Vec<(&'static str, String)>,
    /// One line of JSON.
    pub(super) text: String,
}

/// What is sent of a record, whose JSON this is.
pub(super) fn items(form: Form, index: u64, entry: &[u8]) -> Result<Vec<Item>, serde_json::Error> {
    let record: Record = serde_json::from_slice(entry)?;
    match form {
        Form::Strongroom => Ok(vec![item(index, &record, indexed(index, entry))]),
        Form::Azure => {
            let events = azure::events(index, &record).into_iter();
            events.map(|event| Ok(item(index, &record, serde_json::to_string(&event)?))).collect()
        }
    }
}

fn item(index: u64, record: &Record, text: String) -> Item {
    let facts = [
        ("principal", &record.principal),
        ("source", &record.source),
        ("resource", &record.resource),
        ("algorithm", &record.algorithm),
        ("reason", &record.reason),
        ("request", &record.request),
    ];
    let facts = facts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    Item { index, time: record.time, operation: record.operation.clone(), outcome: record.outcome, facts, text }
}

/// The record's own bytes behind its index, so that nothing of it is written in another way.
fn indexed(index: u64, entry: &[u8]) -> String {
    let rest = String::from_utf8_lossy(entry.get(1..).unwrap_or_default());
    format!("{{\"index\":{index},{rest}")
}

/// The same without its longest fields, for what takes no message of that length. `omitted` names them.
pub(super) fn shortened(text: &str) -> Result<String, serde_json::Error> {
    let mut event: Map<String, Value> = serde_json::from_str(text)?;
    let omitted: Vec<Value> = ["batch", "heads", "detail"]
        .into_iter()
        .filter(|field| event.remove(*field).is_some())
        .map(Value::from)
        .collect();
    event.insert("omitted".to_owned(), omitted.into());
    serde_json::to_string(&event)
}
