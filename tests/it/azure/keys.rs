//! Keys as Azure shows them, through their life.

use serde_json::{Value, json};

use super::face::{Face, VERSION};

fn create(face: &Face, name: &str, body: &Value) -> Value {
    face.ask("POST", &format!("/keys/{name}/create?{VERSION}"), body.to_string()).ok()
}

#[test]
fn a_bundle_has_its_members_and_no_others_that_mislead() {
    let face = Face::new();
    let rsa = create(&face, "rsa", &json!({ "kty": "RSA-HSM", "key_size": 2048, "tags": { "a": "b" } }));
    assert_eq!((&rsa["key"]["kty"], &rsa["tags"]), (&json!("RSA-HSM"), &json!({ "a": "b" })));
    assert_eq!(rsa["key"]["e"], "AQAB");
    assert_eq!(rsa["key"]["key_ops"].as_array().map(Vec::len), Some(6));
    for absent in ["d", "p", "q", "k"] {
        assert!(rsa["key"].get(absent).is_none(), "{absent}");
    }
    let attributes = &rsa["attributes"];
    assert_eq!((&attributes["enabled"], &attributes["recoveryLevel"]), (&json!(true), &json!("Recoverable+Purgeable")));
    assert!(attributes["created"].is_i64() && attributes["exp"].is_null());
    // Clients take an oct key with key_ops for one that they have themselves, and encrypt under bytes of their own.
    let oct = create(&face, "oct", &json!({ "kty": "oct-HSM", "key_size": 256 }));
    assert_eq!(oct["key"]["kty"], "oct-HSM");
    assert!(oct["key"].get("key_ops").is_none() && oct["key"].get("k").is_none());
    // What was asked for is remembered, and other tags that replace the old ones do not take it away.
    let patched = face.ask("PATCH", &format!("/keys/rsa/?{VERSION}"), r#"{"tags":{"c":"d"},"key_ops":[]}"#).ok();
    assert_eq!((&patched["key"]["kty"], &patched["tags"]), (&json!("RSA-HSM"), &json!({ "c": "d" })));
    assert_eq!(patched["key"]["key_ops"].as_array().map(Vec::len), Some(6), "an empty list changes nothing");
    let rotated = face.ask("POST", &format!("/keys/rsa/rotate?{VERSION}"), "").ok();
    assert_eq!(rotated["key"]["kty"], "RSA-HSM");
    let marked = json!({ "kty": "EC", "tags": { "strongroom-azure-kty": "HSM" } });
    face.ask("POST", &format!("/keys/x/create?{VERSION}"), marked.to_string()).refused(400, "BadParameter");
}

#[test]
fn lists_come_in_pages_of_25_whose_links_are_followed_to_the_end() {
    let face = Face::new();
    for number in 0..27 {
        face.key(&format!("k{number:02}"));
    }
    let mut target = format!("/keys?{VERSION}");
    let (mut names, mut pages) = (Vec::new(), Vec::new());
    loop {
        let page = face.ask("GET", &target, "").ok();
        let items = page["value"].as_array().expect("a list").clone();
        pages.push(items.len());
        names.extend(items.iter().map(|item| item["kid"].as_str().expect("text").to_owned()));
        let Some(next) = page["nextLink"].as_str() else { break };
        let path = next.strip_prefix(&format!("https://{}", face.at("localhost")));
        target = path.unwrap_or_else(|| panic!("a link to the host that was called: {next}")).to_owned();
    }
    assert_eq!(pages, [25, 2]);
    assert!(names.iter().all(|kid| kid.matches('/').count() == 4), "without versions: {names:?}");
    for wrong in ["0", "26", "-1", "x", "1e1"] {
        face.ask("GET", &format!("/keys?{VERSION}&maxresults={wrong}"), "").refused(400, "BadParameter");
    }
    let deleted = format!("/deletedkeys?{VERSION}&$skiptoken=x");
    face.ask("GET", &deleted, "").refused(400, "BadParameter");
}

#[test]
fn a_deleted_key_is_there_among_the_deleted_ones_only() {
    let face = Face::new();
    let made = face.key("k");
    let at = |path: &str| format!("{path}?{VERSION}");
    let deleted = face.ask("DELETE", &at("/keys/k"), "").ok();
    assert_eq!(deleted["recoveryId"], format!("https://{}/deletedkeys/k", face.at("localhost")));
    let days = (deleted["scheduledPurgeDate"].as_i64().expect("a date")
        - deleted["deletedDate"].as_i64().expect("a date"))
        / 86_400;
    assert!(days >= 90, "{days}");
    for (method, path) in
        [("GET", "/keys/k"), ("POST", "/keys/k/sign"), ("GET", "/keys/k/versions"), ("DELETE", "/keys/k")]
    {
        let body = if method == "POST" { r#"{"alg":"ES256","value":"AAAA"}"# } else { "" };
        face.ask(method, &at(path), body).refused(404, "KeyNotFound");
    }
    let again = face.ask("POST", &at("/keys/k/create"), r#"{"kty":"EC"}"#);
    again.refused(409, "Conflict");
    assert_eq!(again.error().1, "ObjectIsDeletedButRecoverable");
    assert_eq!(face.ask("GET", &at("/deletedkeys"), "").ok()["value"].as_array().map(Vec::len), Some(1));
    assert_eq!(face.ask("POST", &at("/deletedkeys/k/recover"), "").ok()["key"], made["key"]);
    for (method, path) in [("GET", "/deletedkeys/k"), ("POST", "/deletedkeys/k/recover"), ("DELETE", "/deletedkeys/k")]
    {
        face.ask(method, &at(path), "").refused(404, "KeyNotFound");
    }
    face.ask("DELETE", &at("/keys/k"), "").ok();
    let purged = face.ask("DELETE", &at("/deletedkeys/k"), "");
    assert_eq!((purged.status, purged.body.len()), (204, 0));
    face.ask("GET", &at("/deletedkeys/k"), "").refused(404, "KeyNotFound");
}

#[test]
fn what_a_key_may_not_do_is_forbidden_with_the_reason() {
    let face = Face::new();
    let sign = format!(r#"{{"alg":"ES256","value":"{}"}}"#, "A".repeat(43));
    let refused = |name: &str, body: &Value, inner: &str| {
        create(&face, name, body);
        let answer = face.ask("POST", &format!("/keys/{name}/sign?{VERSION}"), &sign);
        answer.refused(403, "Forbidden");
        assert_eq!(answer.error().1, inner, "{name}");
    };
    refused("off", &json!({ "kty": "EC", "attributes": { "enabled": false } }), "KeyDisabled");
    refused("verifies", &json!({ "kty": "EC", "key_ops": ["verify"] }), "KeyOperationForbidden");
    refused("early", &json!({ "kty": "EC", "attributes": { "nbf": 4_000_000_000_u32 } }), "");
    refused("late", &json!({ "kty": "EC", "attributes": { "exp": 1_000_000_000 } }), "");
    create(&face, "k", &json!({ "kty": "EC" }));
    for (body, what) in [
        (r#"{"alg":"ES256","value":"AAAA"}"#, "Invalid length of 'value'"),
        (r#"{"alg":"RS256","value":"AAAA"}"#, "RS256"),
        (r#"{"alg":"XX","value":"AAAA"}"#, "alg"),
        (r#"{"value":"AAAA"}"#, "alg"),
        (r#"{"alg":"ES256"}"#, "value"),
        (r#"{"alg":"ES256","value":"!"}"#, "line 1"),
        ("{", "not JSON"),
        ("", "no body"),
    ] {
        let answer = face.ask("POST", &format!("/keys/k/sign?{VERSION}"), body);
        answer.refused(400, "BadParameter");
        assert!(
            String::from_utf8_lossy(&answer.body).contains(what),
            "{body}: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    for path in ["/keys/k/release", "/keys/k/securewrapkey", "/certificates/c/create"] {
        face.ask("POST", &format!("{path}?{VERSION}"), "{}").refused(501, "NotSupported");
    }
    let missing = face.ask("GET", &format!("/certificates/c?{VERSION}"), "");
    missing.refused(404, "CertificateNotFound");
    assert!(String::from_utf8_lossy(&missing.body).contains("was not found in this key vault"));
}

#[test]
fn a_backup_comes_back_even_where_the_key_was_changed_since() {
    let face = Face::new();
    let made = face.key("k");
    let at = |path: &str| format!("{path}?{VERSION}");
    let backup = face.ask("POST", &at("/keys/k/backup"), "").ok().to_string();
    face.ask("POST", &at("/keys/restore"), &backup).refused(409, "Conflict");
    face.ask("PATCH", &at("/keys/k"), r#"{"tags":{"later":"yes"}}"#).ok();
    face.ask("DELETE", &at("/keys/k"), "").ok();
    face.ask("POST", &at("/keys/restore"), &backup).refused(409, "Conflict");
    assert_eq!(face.ask("DELETE", &at("/deletedkeys/k"), "").status, 204);
    let back = face.ask("POST", &at("/keys/restore"), &backup).ok();
    assert_eq!((&back["key"], &back["tags"]), (&made["key"], &json!({})));
}
