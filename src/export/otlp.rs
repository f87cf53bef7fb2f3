//! OpenTelemetry logs in the JSON encoding of OTLP/HTTP (opentelemetry-proto 1, `ExportLogsServiceRequest`), and what its
//! other signals have in common with them.
//!
//! Not by the OpenTelemetry SDK: its log pipeline drops what does not fit its queue and does not say what was accepted,
//! and a cursor must not move before that is known.

use serde_json::{Value, json};

use super::shape::Item;
use crate::audit::Outcome;

/// Whose records or spans they are.
pub(crate) struct Resource(Value);

impl Resource {
    /// The instance with that id.
    pub(crate) fn new(instance: &str) -> Self {
        let attributes = [
            text("service.name", "strongroom"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", instance),
        ];
        Self(json!({ "attributes": attributes }))
    }

    /// As OTLP has it.
    pub(crate) const fn json(&self) -> &Value {
        &self.0
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
    let (severity, name) = match item.outcome {
        Outcome::Pending | Outcome::Done => (9, "INFO"),
        Outcome::Refused => (13, "WARN"),
        Outcome::Failed => (17, "ERROR"),
    };
    let mut attributes =
        vec![number("strongroom.audit.index", item.index), text("strongroom.audit.operation", &item.operation)];
    attributes.extend(item.facts.iter().map(|(name, value)| text(&format!("strongroom.audit.{name}"), value)));
    json!({
        "timeUnixNano": format!("{}000000000", item.time.max(0)),
        "severityNumber": severity,
        "severityText": name,
        "body": { "stringValue": item.text },
        "attributes": attributes,
    })
}

/// An attribute.
pub(crate) fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// An attribute. 64-bit numbers are strings in JSON (proto3's mapping).
pub(crate) fn number(key: &str, value: impl ToString) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

/// How many records or spans a collector says, in that field, that it rejected; they are not to be sent again (OTLP,
/// partial success).
pub(crate) fn rejected(answer: &[u8], field: &str) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = &answer["partialSuccess"][field];
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or_default()
}
