//! An event as a CloudEvent 1.0 in its JSON form (CloudEvents JSON format, section 3).
//!
//! By hand: the SDK of CloudEvents is a dependency of its own for eight fields.

use serde::Serialize;

use crate::model::{EventRow, ObjectName, ObjectType, VersionId};

/// The form's media type.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";

#[derive(Debug, Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: &'static str,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    vault: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    principal: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_time: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// The id of an event: that of the message, too.
pub(super) fn id(event: &EventRow) -> String {
    uuid::Uuid::from_bytes(event.id).to_string()
}

/// The object that an event tells of, if it is one of that type.
fn object(event: &EventRow, kind: ObjectType) -> Option<&str> {
    event.object.as_ref().filter(|_| event.kind.object_type() == Some(kind)).map(ObjectName::as_str)
}

/// The body that tells of an event of that instance.
pub(super) fn body(event: &EventRow, instance: [u8; 16]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&CloudEvent {
        specversion: "1.0",
        id: id(event),
        // A URI-reference, with the id unique in it.
        source: format!("/instances/{}", base16ct::lower::encode_string(&instance)),
        r#type: event.kind.name(),
        subject: event.subject(),
        time: event.time.to_string(),
        datacontenttype: "application/json",
        data: Data {
            vault: event.vault.as_str(),
            key: object(event, ObjectType::Keys),
            secret: object(event, ObjectType::Secrets),
            version: event.version.as_ref().map(VersionId::to_string),
            principal: &event.principal,
            due_time: event.due.map(|due| due.to_string()),
            detail: &event.detail,
        },
    })
}
