//! Azure's form: names for all that is done, and nothing that a record does not say.

use serde_json::{Value, json};

use super::{
    super::azure::{OPERATIONS, events},
    *,
};
use crate::{
    access::Action,
    audit::{Batch, BatchGroup, BatchItem},
};

fn event(record: &Record) -> Value {
    let events = events(7, record);
    assert_eq!(events.len(), 1);
    serde_json::to_value(&events[0]).unwrap()
}

#[test]
fn every_action_has_a_name_in_azures_manner_and_none_has_two() {
    for action in Action::ALL {
        let found = OPERATIONS.iter().filter(|(ours, _)| *ours == action.name()).count();
        assert_eq!(found, 1, "{} has one row in the table", action.name());
    }
    for (ours, azure) in OPERATIONS {
        assert!(
            azure.bytes().all(|byte| byte.is_ascii_alphabetic()) && azure.starts_with(char::is_uppercase),
            "{ours}"
        );
        assert_eq!(OPERATIONS.iter().filter(|(_, other)| other == azure).count(), 1, "{azure} is one operation");
    }
}

#[test]
fn what_is_no_action_and_is_recorded_has_a_name_too() {
    let recorded = [
        crate::service::batch::OPERATION,
        crate::service::break_glass::OPERATION,
        "keys.reserve",
        "tokens.makeKey",
        "tokens.expire",
        "instance.initialise",
        "instance.recover",
        "log.closed",
        "log.torn",
        "log.refusals",
    ];
    for operation in recorded {
        assert!(OPERATIONS.iter().any(|(ours, _)| *ours == operation), "{operation}");
    }
}

#[test]
fn a_signature_is_an_audit_event() {
    let wanted = json!({
        "time": "2023-11-14T22:13:20Z",
        "category": "AuditEvent",
        "operationName": "KeySign",
        "resultType": "Success",
        "resultSignature": "OK",
        "callerIpAddress": "10.0.0.7",
        "correlationId": "r1",
        "identity": { "claim": {
            "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier": "spiffe://test.invalid/ci",
        } },
        "properties": {
            "id": "vaults/dev/keys/release/versions/1", "httpStatusCode": 200, "algorithm": "ES256", "auditIndex": 7,
        },
    });
    assert_eq!(event(&signature()), wanted);
}

#[test]
fn what_a_record_does_not_say_is_absent() {
    let record = Record {
        source: Some("unix:uid:1000".to_owned()),
        principal: None,
        request: None,
        resource: None,
        algorithm: None,
        outcome: Outcome::Refused,
        reason: Some("SOMETHING_NEW".to_owned()),
        operation: "something.new".to_owned(),
        ..signature()
    };
    let wanted = json!({
        "time": "2023-11-14T22:13:20Z",
        "category": "AuditEvent",
        "operationName": "something.new",
        "resultType": "Failure",
        "resultDescription": "SOMETHING_NEW",
        "properties": { "auditIndex": 7 },
    });
    assert_eq!(event(&record), wanted);
}

#[test]
fn a_refusal_has_the_status_of_its_reason() {
    let reason = Some("PERMISSION_DENIED".to_owned());
    let refused = event(&Record { outcome: Outcome::Refused, reason, repeated: 4, ..signature() });
    assert_eq!(refused["resultSignature"], "Forbidden");
    assert_eq!(refused["properties"]["httpStatusCode"], 403);
    assert_eq!(refused["properties"]["repeated"], 4);
}

#[test]
fn an_intent_is_no_event_and_a_batch_is_one_for_each_operation() {
    assert!(events(7, &Record { kind: Kind::Intent, outcome: Outcome::Pending, ..signature() }).is_empty());
    let group = |operation: &str, outcome, reason: Option<&str>| BatchGroup {
        operation: operation.to_owned(),
        resource: "vaults/dev/keys/k/versions/2".to_owned(),
        residency: None,
        algorithm: Some("RS256".to_owned()),
        ran: None,
        outcome,
        reason: reason.map(str::to_owned),
        count: 1,
    };
    let item = |place, group| BatchItem { place, group, digest: None };
    let batch = Batch {
        groups: vec![
            group("keys.sign", Outcome::Done, None),
            group("keys.wrap", Outcome::Refused, Some("KEY_DISABLED")),
        ],
        items: vec![item(0, 1), item(3, 0)],
    };
    let found = serde_json::to_value(events(7, &Record { batch: Some(batch), ..signature() })).unwrap();
    let said = |at: usize| {
        let event = &found[at];
        (
            event["operationName"].as_str(),
            event["properties"]["batchPlace"].as_u64(),
            event["properties"]["httpStatusCode"].as_u64(),
        )
    };
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!(said(0), (Some("KeyWrap"), Some(0), Some(400)));
    assert_eq!(said(1), (Some("KeySign"), Some(3), Some(200)));
}
