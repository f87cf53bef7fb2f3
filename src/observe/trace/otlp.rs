//! Spans in the JSON encoding of OTLP/HTTP (opentelemetry-proto 1, `ExportTraceServiceRequest`): ids are hexadecimal,
//! 64-bit numbers are text, enumerations are numbers.

use serde_json::{Value as Json, json};

use super::span::{Span, Value};
use crate::export::otlp::{Resource, number, text};

/// The body that exports these.
pub(super) fn request(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    let scope = json!({ "scope": { "name": "strongroom.requests" }, "spans": spans });
    let body = json!({ "resourceSpans": [{ "resource": resource.json(), "scopeSpans": [scope] }] });
    body.to_string().into_bytes()
}

fn span(span: &Span) -> Json {
    let attributes: Vec<Json> = span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    let mut json = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.begin_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = format!("{parent:016x}").into();
    }
    if let Some(link) = span.link {
        json["links"] = json!([{ "traceId": format!("{:032x}", link.trace), "spanId": format!("{:016x}", link.span) }]);
    }
    if span.failed {
        // STATUS_CODE_ERROR; without one it is unset, which is what is not an error.
        json["status"] = json!({ "code": 2 });
    }
    json
}

fn attribute(key: &str, value: &Value) -> Json {
    match value {
        Value::Text(value) => text(key, value),
        Value::Number(value) => number(key, *value),
    }
}
