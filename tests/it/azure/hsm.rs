//! What is otherwise where a host speaks as a Managed HSM; and roles, which are shown and given there.

use serde_json::{Value, json};

use super::face::{Answer, Face, HSM, VERSION};

const READER: &str = "21090545-7ca7-4776-b22c-e363652d74d2";
const ID: &str = "11111111-2222-3333-4444-555555555555";

#[test]
fn a_managed_hsm_says_so_of_every_key_and_has_no_secrets() {
    let face = Face::new();
    let host = face.at(HSM);
    let at = |path: &str| format!("{path}?{VERSION}");
    let plain = face.ask("POST", &at("/keys/k/create"), r#"{"kty":"RSA"}"#).ok();
    assert_eq!(plain["key"]["kty"], "RSA");
    assert_eq!(face.ask_at(&host, "GET", &at("/keys/k"), "").ok()["key"]["kty"], "RSA-HSM");
    face.ask_at(&host, "POST", &at("/keys/o/create"), r#"{"kty":"oct","key_size":128}"#).ok();
    let made =
        face.ask_at(&host, "POST", &at("/keys/o/encrypt"), r#"{"alg":"A128GCM","value":"AAAA","aad":"AAEC"}"#).ok();
    assert_eq!((&made["alg"], &made["aad"]), (&json!("A128GCM"), &json!("AAEC")));
    assert_eq!((made["iv"].as_str().map(str::len), made["tag"].as_str().map(str::len)), (Some(16), Some(22)));
    let missing = face.ask_at(&host, "GET", &at("/keys/none"), "");
    missing.refused(404, "KeyNotFound");
    let id = missing.header("x-ms-request-id");
    let text = missing.json()["error"]["message"].as_str().expect("text").to_owned();
    assert!(text.ends_with(&format!("(Activity ID: {id})")), "{text}");
    face.ask_at(&host, "GET", &at("/secrets"), "").refused(404, "NotFound");
    let random = face.ask_at(&host, "POST", &at("/rng"), r#"{"count":128}"#).ok();
    assert_eq!(random["value"].as_str().map(str::len), Some(171));
    for count in ["0", "129", "-1", "\"8\""] {
        face.ask_at(&host, "POST", &at("/rng"), format!(r#"{{"count":{count}}}"#)).refused(400, "BadParameter");
    }
    for (method, path) in [("GET", "/settings"), ("POST", "/backup"), ("POST", "/securitydomain/download")] {
        face.ask_at(&host, method, &at(path), "{}").refused(501, "NotSupported");
    }
    // Wrapping by the key's own size, whichever it is.
    for (alg, bytes) in [("CKM_AES_KEY_WRAP", 16), ("CKM_AES_KEY_WRAP_PAD", 21)] {
        let value = "A".repeat((bytes * 4_usize).div_ceil(3));
        let body = |value: &Value| json!({ "alg": alg, "value": value }).to_string();
        let wrapped = face.ask_at(&host, "POST", &at("/keys/o/wrapkey"), body(&value.clone().into())).ok();
        let opened = face.ask_at(&host, "POST", &at("/keys/o/unwrapkey"), body(&wrapped["value"])).ok();
        assert_eq!(opened["value"], value);
    }
}

fn roles(face: &Face, method: &str, path: &str, body: &str) -> Answer {
    let target = format!("{path}?{VERSION}").replace("?api", if path.contains('?') { "&api" } else { "?api" });
    face.ask_at(&face.at(HSM), method, &target, body)
}

#[test]
fn roles_are_shown_given_and_taken_away_at_their_scopes() {
    let face = Face::new();
    let base = "providers/Microsoft.Authorization";
    let listed =
        roles(&face, "GET", &format!("//{base}/roleDefinitions?$filter=roleName%20eq%20'Key%20Vault%20Reader'"), "")
            .ok();
    let role = &listed["value"][0];
    assert_eq!((&role["name"], &role["properties"]["type"]), (&json!(READER), &json!("AKVBuiltInRole")));
    assert_eq!(role["id"], format!("Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/{READER}"));
    let give = json!({ "properties": { "roleDefinitionId": role["id"], "principalId": "token:auditor" } }).to_string();
    let path = format!("/keys/k/{base}/roleAssignments/{ID}");
    let made = roles(&face, "PUT", &path, &give);
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    assert_eq!(made.json()["properties"]["scope"], "/keys/k");
    roles(&face, "PUT", &path, &give).refused(409, "Conflict");
    // What is held at a key is not listed above it, nor found there.
    let above =
        roles(&face, "GET", &format!("/{base}/roleAssignments?$filter=principalId%20eq%20'token:auditor'"), "").ok();
    assert_eq!(above["value"].as_array().map(Vec::len), Some(0));
    roles(&face, "GET", &format!("/{base}/roleAssignments/{ID}"), "").refused(404, "RoleAssignmentNotFound");
    assert_eq!(roles(&face, "GET", &path, "").ok()["name"], ID);
    assert_eq!(roles(&face, "DELETE", &path, "").ok()["name"], ID);
    roles(&face, "GET", &path, "").refused(403, "Forbidden");
    for body in [
        json!({ "properties": { "roleDefinitionId": "x", "principalId": "token:a" } }),
        json!({ "properties": { "roleDefinitionId": READER, "principalId": ID } }),
        json!({ "properties": { "principalId": "token:a" } }),
        json!({}),
    ] {
        roles(&face, "PUT", &path, &body.to_string()).refused(400, "BadParameter");
    }
    roles(&face, "GET", &format!("/secrets/s/{base}/roleAssignments"), "").refused(400, "BadParameter");
    roles(&face, "GET", &format!("/{base}/roleDefinitions?$filter=x"), "").refused(400, "BadParameter");
}
