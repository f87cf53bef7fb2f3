//! What is put round the records: arrays, signatures, OpenTelemetry's requests.

use aws_lc_rs::hmac;
use base64ct::{Base64, Encoding as _};
use serde_json::Value;

use super::{
    super::{
        otlp,
        shape::{items, shortened},
        signing::{key, retry_after, sign},
    },
    *,
};

fn of(record: &Record) -> Vec<super::super::shape::Item> {
    items(Form::Strongroom, 12, &serde_json::to_vec(record).unwrap()).unwrap()
}

#[test]
fn the_own_form_is_the_record_behind_its_index() {
    let entry = serde_json::to_string(&signature()).unwrap();
    let items = items(Form::Strongroom, 12, entry.as_bytes()).unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].text, format!("{{\"index\":12,{}", &entry[1..]));
}

#[test]
fn what_is_not_a_record_is_not_sent() {
    assert!(items(Form::Strongroom, 12, b"{\"time\":1}").is_err());
}

#[test]
fn a_shortened_record_says_what_is_missing() {
    let record = Record { detail: Some("x".repeat(100)), ..signature() };
    let short: Value = serde_json::from_str(&shortened(&of(&record)[0].text).unwrap()).unwrap();
    assert_eq!(short["omitted"], serde_json::json!(["detail"]));
    assert_eq!(short["index"], 12);
    assert!(short.get("detail").is_none());
}

#[test]
fn otlp_is_a_request_of_log_records() {
    let record = Record { outcome: Outcome::Refused, reason: Some("NOT_FOUND".to_owned()), ..signature() };
    let body = otlp::Resource::new("5a").request(&of(&record)).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let resource = &body["resourceLogs"][0];
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "strongroom");
    let record = &resource["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["timeUnixNano"], "1700000000000000000");
    assert_eq!((record["severityNumber"].as_u64(), record["severityText"].as_str()), (Some(13), Some("WARN")));
    let attributes = record["attributes"].as_array().unwrap();
    let value = |key: &str| &attributes.iter().find(|attribute| attribute["key"] == key).unwrap()["value"];
    assert_eq!(value("strongroom.audit.index")["intValue"], "12");
    assert_eq!(value("strongroom.audit.operation")["stringValue"], "keys.sign");
    assert_eq!(value("strongroom.audit.reason")["stringValue"], "NOT_FOUND");
    assert!(record["body"]["stringValue"].as_str().unwrap().starts_with("{\"index\":12,"));
}

#[test]
fn a_collector_may_reject_some() {
    assert_eq!(otlp::rejected(br#"{"partialSuccess":{"rejectedLogRecords":"5"}}"#, "rejectedLogRecords"), 5);
    assert_eq!(otlp::rejected(br#"{"partialSuccess":{"rejectedLogRecords":5}}"#, "rejectedLogRecords"), 5);
    assert_eq!(otlp::rejected(b"{}", "rejectedLogRecords"), 0);
    assert_eq!(otlp::rejected(b"", "rejectedLogRecords"), 0);
}

#[test]
fn a_body_is_signed_as_standard_webhooks_says() {
    // The specification's own example of a secret, an id, a time and a body.
    let key_file = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
    let (id, time, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    let mut headers = http::HeaderMap::new();
    sign(&mut headers, &key(key_file).unwrap(), id, time, body).unwrap();
    assert_eq!(headers["webhook-id"], id);
    assert_eq!(headers["webhook-timestamp"], "1614265330");
    assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn a_secret_is_long_enough_and_may_be_plain() {
    assert!(key(b"short").is_err());
    assert!(key(b"whsec_c2hvcnQ=").is_err());
    assert!(key(b"whsec_!").is_err());
    let (plain, encoded) = (key(&[b'k'; 24]).unwrap(), format!("whsec_{}", Base64::encode_string(&[b'k'; 24])));
    let tag = |key: &hmac::Key| hmac::sign(key, b"x").as_ref().to_vec();
    assert_eq!(tag(&plain), tag(&key(encoded.as_bytes()).unwrap()));
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let after = |text: &'static str| {
        retry_after(&http::HeaderMap::from_iter([(http::header::RETRY_AFTER, text.parse().unwrap())]), SECOND)
    };
    assert_eq!(after("120"), Some(Duration::from_secs(120)));
    assert_eq!(after("Tue, 14 Nov 2023 22:14:20 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(after("Tue, 14 Nov 2023 22:12:20 GMT"), None);
    assert_eq!(after("soon"), None);
}
