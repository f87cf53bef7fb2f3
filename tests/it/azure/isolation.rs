//! What is in one vault is not reached through another's host.

use super::face::{Face, HOST, OTHER, VERSION};

#[test]
fn nothing_of_one_vault_is_reached_through_another_host() {
    let face = Face::new();
    face.dev.ok(&["vault", "create", "other"]);
    // Somebody who may do everything in both: it is not for want of rights.
    face.dev.ok(&[
        "access",
        "grant",
        "--principal",
        "token:azure",
        "--role",
        "administrator",
        "--scope",
        "vaults/other",
    ]);
    let (own, other) = (face.at(HOST), face.at(OTHER));
    let at = |path: &str| format!("{path}?{VERSION}");
    let kid = face.ask_at(&own, "POST", &at("/keys/k/create"), r#"{"kty":"EC"}"#).ok()["key"]["kid"].clone();
    face.ask_at(&own, "PUT", &at("/secrets/s"), r#"{"value":"mine"}"#).ok();
    let version = kid.as_str().and_then(|kid| kid.rsplit('/').next()).expect("a version");
    face.ask_at(&other, "GET", &at("/keys/k"), "").refused(404, "KeyNotFound");
    face.ask_at(&other, "GET", &at("/secrets/s"), "").refused(404, "SecretNotFound");
    // Also where the other vault has one of the name, and the version is named.
    face.ask_at(&other, "POST", &at("/keys/k/create"), r#"{"kty":"EC"}"#).ok();
    let sign = format!(r#"{{"alg":"ES256","value":"{}"}}"#, "A".repeat(43));
    face.ask_at(&other, "POST", &at(&format!("/keys/k/{version}/sign")), &sign).refused(404, "KeyNotFound");
    let list = face.ask_at(&other, "GET", &at("/secrets"), "").ok();
    assert_eq!(list["value"].as_array().map(Vec::len), Some(0));
    // A page of one list is none of another.
    face.ask_at(&own, "POST", &at("/keys/k2/create"), r#"{"kty":"EC"}"#).ok();
    let page = face.ask_at(&own, "GET", &format!("/keys?{VERSION}&maxresults=1"), "").ok();
    let next = page["nextLink"].as_str().and_then(|next| next.split_once("/keys")).expect("a link").1;
    face.ask_at(&other, "GET", &format!("/keys{next}"), "").refused(400, "BadParameter");
    // What was carried out comes back where it was.
    for (noun, name) in [("keys", "k2"), ("secrets", "s")] {
        let backup = face.ask_at(&own, "POST", &at(&format!("/{noun}/{name}/backup")), "").ok().to_string();
        face.ask_at(&other, "POST", &at(&format!("/{noun}/restore")), &backup).refused(400, "BadParameter");
    }
    // And over HTTP, a host that is no vault's is none.
    face.ask_at(&face.at("nosuch.vault.localhost"), "GET", &at("/keys/k"), "").refused(403, "Forbidden");
}
