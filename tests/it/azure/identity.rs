//! The identity endpoint: who gets a token there, and that it is one.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use super::face::{Ask, Face, VERSION};

const RESOURCE: &str = "resource=https%3A%2F%2Fvault.localhost";

/// Asks over plain HTTP.
fn ask(face: &Face, path: &str, headers: &str) -> (u16, Value) {
    let endpoint = face.dev.variable("IDENTITY_ENDPOINT");
    let host = endpoint.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL").0.to_owned();
    assert!(host.starts_with("127.0.0.1:"), "on this machine only: {host}");
    let mut stream = TcpStream::connect(&host).expect("connects");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n").as_bytes()).expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("one answer, and the connection ends");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

#[test]
fn who_sends_the_secret_gets_a_token_and_nobody_else_does() {
    let face = Face::new();
    let secret = format!("X-IDENTITY-HEADER: {}\r\n", face.dev.variable("IDENTITY_HEADER"));
    let path = format!("/msi/token?api-version=2019-08-01&{RESOURCE}");
    let (status, body) = ask(&face, &path, &secret);
    assert_eq!(
        (status, &body["resource"], &body["token_type"]),
        (200, &"https://vault.localhost".into(), &"Bearer".into())
    );
    assert!(body["expires_on"].as_str().is_some_and(|text| text.parse::<i64>().is_ok()), "a number as text");
    let token = body["access_token"].as_str().expect("a token").to_owned();
    let headers = vec![("authorization", format!("Bearer {token}"))];
    face.send(&Ask { headers, ..face.request("GET", &format!("/keys?{VERSION}"), "") }).ok();
    assert_eq!(ask(&face, &path, &secret).1["access_token"], token, "it is given out again");
    for headers in ["", "X-IDENTITY-HEADER: \r\n", "X-IDENTITY-HEADER: x\r\n", "Metadata: true\r\n"] {
        assert_eq!(ask(&face, &path, headers).0, 401, "{headers}");
    }
    assert_eq!(ask(&face, "/msi/token", &secret).0, 400, "without a resource");
    assert_eq!(ask(&face, "/", &secret).0, 404);
    let imds = format!("/metadata/identity/oauth2/token?api-version=2018-02-01&{RESOURCE}");
    assert_eq!(ask(&face, &imds, "Metadata: true\r\n").0, 404, "unless that is asked for");
    // One that was revoked meanwhile is not given out again.
    let listed: Value = serde_json::from_str(&face.dev.ok(&["token", "list", "-o", "json"])).expect("JSON");
    for issued in listed.as_array().expect("a list") {
        let id = issued["name"].as_str().and_then(|name| name.strip_prefix("tokens/")).expect("a name");
        face.dev.ok(&["token", "revoke", id]);
    }
    let (status, body) = ask(&face, &path, &secret);
    assert_eq!(status, 200);
    assert_ne!(body["access_token"], token);
}

#[test]
fn processes_of_the_user_need_no_secret_where_that_is_asked_for() {
    let face = Face::with(&["--identity-imds"]);
    let path = format!("/metadata/identity/oauth2/token?api-version=2018-02-01&{RESOURCE}");
    let (status, body) = ask(&face, &path, "Metadata: true\r\n");
    assert_eq!(status, 200, "{body}");
    assert!(body["expires_in"].is_string() && body["access_token"].is_string());
    assert_eq!(ask(&face, &path, "").0, 401, "a browser that was led here does not send it");
    assert_eq!(ask(&face, &path, "Metadata: true\r\nX-Forwarded-For: 10.0.0.1\r\n").0, 401);
}
