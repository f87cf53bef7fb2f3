//! Paths, parameters and hosts in every spelling in which clients send them.

use super::face::{Ask, Face, HOST, VERSION};

#[test]
fn a_key_is_reached_by_every_spelling() {
    let face = Face::new();
    let kid = face.key("Release")["key"]["kid"].clone();
    for path in
        ["/keys/Release", "/keys/Release/", "//keys/Release", "/keys/release", "/KEYS/RELEASE", "/keys/%52elease"]
    {
        assert_eq!(face.ask("GET", &format!("{path}?{VERSION}"), "").ok()["key"]["kid"], kid, "{path}");
    }
    assert_eq!(face.ask("GET", "/keys/Release/?api%2Dversion=7.4", "").ok()["key"]["kid"], kid);
    let digest = format!(r#"{{"alg":"ES256","value":"{}"}}"#, "A".repeat(43));
    let version = kid.as_str().and_then(|kid| kid.rsplit('/').next()).expect("a version");
    for path in
        ["/keys/Release/sign", "/keys/Release//sign", "/keys/release/SIGN", &format!("/keys/Release/{version}/sign")]
    {
        assert_eq!(face.ask("POST", &format!("{path}?{VERSION}"), &digest).ok()["kid"], kid, "{path}");
    }
    face.ask("GET", &format!("/keys/Release/{}?{VERSION}", version.to_uppercase()), "").ok();
}

#[test]
fn any_version_of_the_protocol_is_taken_and_none_is_not() {
    let face = Face::new();
    for version in ["7.0", "7.6-preview.2", "2016-10-01", "2025-07-01", "2026-04-01", "2026-05-01-preview"] {
        face.ask("GET", &format!("/keys?api-version={version}"), "").ok();
    }
    for query in ["", "?", "?api-version=", "?api-version=new", "?api-version=7.4&api-version=7.4", "?version=7.4"] {
        face.ask("GET", &format!("/keys{query}"), "").refused(400, "BadParameter");
    }
}

#[test]
fn ids_are_made_of_the_host_that_was_called() {
    let face = Face::new();
    face.key("k");
    let target = format!("/keys/k?{VERSION}");
    for host in [face.at("localhost"), face.at(HOST), face.at("127.0.0.1"), face.at("[::1]")] {
        let kid = face.ask_at(&host, "GET", &target, "").ok()["key"]["kid"].as_str().expect("text").to_owned();
        assert!(kid.starts_with(&format!("https://{host}/keys/k/")), "{kid}");
    }
    // One client library leaves the port out: then the face's own is meant.
    let kid = face.ask_at(HOST, "GET", &target, "").ok()["key"]["kid"].as_str().expect("text").to_owned();
    assert!(kid.starts_with(&format!("https://{}/keys/k/", face.at(HOST))), "{kid}");
    for host in ["de v", "a,b", "a=b", "x@y", "dev.vault.localhost:x"] {
        assert_eq!(face.ask_at(host, "GET", &target, "").status, 400, "{host}");
    }
    let mut twice = face.request("GET", &target, "");
    twice.headers.push(("host", face.at(HOST)));
    assert_eq!(face.send(&twice).status, 400);
    let absent = face.send(&Ask { host: face.at("payments"), ..face.request("GET", &target, "") });
    absent.refused(400, "BadParameter");
}

#[test]
fn base64_is_taken_in_either_alphabet_padded_or_not() {
    let face = Face::new();
    face.key("k");
    let digest = [0xfb_u8; 32];
    use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding as _};
    for text in [
        Base64::encode_string(&digest),
        Base64Unpadded::encode_string(&digest),
        Base64Url::encode_string(&digest),
        Base64UrlUnpadded::encode_string(&digest),
    ] {
        let body = format!(r#"{{"alg":"ES256","value":"{text}","unknown":{{"a":[1]}}}}"#);
        let signature = face.ask("POST", &format!("/keys/k/sign?{VERSION}"), &body).ok()["value"].clone();
        let signature = signature.as_str().expect("text").to_owned();
        assert_eq!(signature.len(), 86, "64 bytes in base64url without padding: {signature}");
        let body = format!(r#"{{"alg":"ES256","digest":"{text}","value":"{signature}"}}"#);
        assert_eq!(face.ask("POST", &format!("/keys/k/verify?{VERSION}"), &body).ok()["value"], true);
    }
}
