//! Secrets as Azure shows them.

use serde_json::json;

use super::face::{Face, VERSION};

#[test]
fn a_value_is_set_read_and_shown_nowhere_else() {
    let face = Face::new();
    let at = |path: &str| format!("{path}?{VERSION}");
    let body = json!({ "value": "pässwörd \" \\ \u{2603} \n", "contentType": "text/plain", "tags": { "a": "b" } });
    let set = face.ask("PUT", &at("/secrets/s"), body.to_string()).ok();
    assert_eq!(set["value"], body["value"]);
    let got = face.ask("GET", &at("/secrets/s/"), "").ok();
    assert_eq!(
        (&got["value"], &got["contentType"], &got["tags"]),
        (&body["value"], &body["contentType"], &body["tags"])
    );
    assert_eq!(got["id"], set["id"]);
    let patched = face.ask("PATCH", &at("/secrets/s"), r#"{"attributes":{"exp":4000000000},"value":"never"}"#).ok();
    assert!(patched.get("value").is_none() && patched["attributes"]["exp"] == 4_000_000_000_u32);
    assert_eq!(face.ask("GET", &at("/secrets/s"), "").ok()["value"], body["value"]);
    for path in ["/secrets", "/secrets/s/versions"] {
        let list = face.ask("GET", &at(path), "");
        assert!(!String::from_utf8_lossy(&list.body).contains("wörd"), "{path}");
        assert_eq!(list.ok()["value"].as_array().map(Vec::len), Some(1));
    }
    assert!(!face.dev.said().contains("wörd"));
}

#[test]
fn a_value_of_25_kb_fits_and_a_longer_one_does_not() {
    let face = Face::new();
    let set = |bytes: usize| {
        let body = json!({ "value": "x".repeat(bytes) }).to_string();
        face.ask("PUT", &format!("/secrets/s?{VERSION}"), body)
    };
    set(25 * 1024).ok();
    set(25 * 1024 + 1).refused(400, "BadParameter");
    for body in [r#"{}"#, r#"{"value":null}"#, r#"{"value":1}"#, r#"{"value":"a","value":"b"}"#] {
        face.ask("PUT", &format!("/secrets/s?{VERSION}"), body).refused(400, "BadParameter");
    }
}

#[test]
fn a_disabled_or_deleted_secret_is_not_read_and_comes_back() {
    let face = Face::new();
    let at = |path: &str| format!("{path}?{VERSION}");
    face.ask("PUT", &at("/secrets/s"), r#"{"value":"one"}"#).ok();
    let backup = face.ask("POST", &at("/secrets/s/backup"), "").ok().to_string();
    face.ask("PATCH", &at("/secrets/s"), r#"{"attributes":{"enabled":false}}"#).ok();
    let refused = face.ask("GET", &at("/secrets/s"), "");
    refused.refused(403, "Forbidden");
    assert_eq!(refused.error().1, "SecretDisabled");
    let deleted = face.ask("DELETE", &at("/secrets/s"), "").ok();
    assert_eq!(deleted["recoveryId"], format!("https://{}/deletedsecrets/s", face.at("localhost")));
    face.ask("GET", &at("/secrets/s"), "").refused(404, "SecretNotFound");
    face.ask("PUT", &at("/secrets/s"), r#"{"value":"two"}"#).refused(409, "Conflict");
    face.ask("POST", &at("/deletedsecrets/s/recover"), "").ok();
    face.ask("GET", &at("/deletedsecrets/s"), "").refused(404, "SecretNotFound");
    face.ask("DELETE", &at("/secrets/s"), "").ok();
    assert_eq!(face.ask("DELETE", &at("/deletedsecrets/s"), "").status, 204);
    face.ask("POST", &at("/secrets/restore"), &backup).ok();
    assert_eq!(face.ask("GET", &at("/secrets/s"), "").ok()["value"], "one");
    let key = face.key("k");
    assert!(key["key"]["kid"].is_string());
    let of_key = face.ask("POST", &at("/keys/k/backup"), "").ok().to_string();
    face.ask("POST", &at("/secrets/restore"), &of_key).refused(400, "BadParameter");
}
