//! OpenTelemetry logs in the JSON encoding of OTLP/HTTP (opentelemetry-proto 1, `ExportLogsServiceRequest`).
//!
//! Not by the OpenTelemetry SDK: its log pipeline drops what does not fit its queue and does not say what was accepted,
//! and a cursor must not move before that is known.

use serde_json::{Value, json};

use super::shape::Item;
use crate::audit::Outcome;

/// Whose logs they are.
pub(super) struct Resource(Value);

impl Resource {
    /// The instance with that id.
    pub(super) fn new(instance: &str) -> Self {
        let attributes = [
            text("service.name", "strongroom"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", instance),
        ];
        Self(json!({ "attributes": attributes }))
    }

    /// The body that exports these.
    pub(super) fn request(&self, items: &[Item]) -> Result<Vec<u8>, serde_json::Error> {
        let records: Vec<Value> = items.iter().map(log_record).collect();
        let scope = json!({ "scope": { "name": "strongroom.audit" }, "logRecords": records });
        serde_json::to_vec(&json!({ "resourceLogs": [{ "resource": self.0, "scopeLogs": [scope] }] }))
    }
}

fn log_record(item: &Item) -> Value {
    // The severity numbers of the log data model: INFO, WARN, ERROR.
    let (number, name) = match item.outcome {
        Outcome::Pending | Outcome::Done => (9, "INFO"),
        Outcome::Refused => (13, "WARN"),
        Outcome::Failed => (17, "ERROR"),
    };
    // 64-bit numbers are strings in JSON (proto3's mapping).
    let mut attributes = vec![
        json!({ "key": "strongroom.audit.index", "value": { "intValue": item.index.to_string() } }),
        text("strongroom.audit.operation", &item.operation),
    ];
    attributes.extend(item.facts.iter().map(|(name, value)| text(&format!("strongroom.audit.{name}"), value)));
    json!({
        "timeUnixNano": format!("{}000000000", item.time.max(0)),
        "severityNumber": number,
        "severityText": name,
        "body": { "stringValue": item.text },
        "attributes": attributes,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// How many records a collector says that it rejected; they are not to be sent again (OTLP, partial success).
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = &answer["partialSuccess"]["rejectedLogRecords"];
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or_default()
}
