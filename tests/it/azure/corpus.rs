//! Requests that nobody should send: each gets a well-formed error with a status of its own fault, and the server goes on.

use super::face::{Answer, Ask, Face, VERSION};

/// That it is an error of the caller's, in the form that clients read.
fn is_an_error(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status) || answer.status == 501, "{what}: {}", answer.status);
    let (code, _) = answer.error();
    assert!(!code.is_empty(), "{what}");
}

#[test]
fn paths_methods_and_queries_that_cannot_be() {
    let face = Face::new();
    face.key("k");
    let paths = [
        "/",
        "//",
        "/keys//",
        "/keys/k/k/k/k",
        "/keys/..",
        "/keys/%2e%2e/x",
        "/keys/a%00b",
        "/keys/%ff",
        "/keys/%",
        "/keys/a_b",
        "/keys/k/zzz",
        "/keys/k/00000000000000000000000000000000",
        "/keys/k/versions/x",
        "/rng",
        "/providers",
        "/%3Fx",
        "/providers/Microsoft.Authorization/roleDefinitions/x",
        "/deletedkeys/k/x",
        "/secrets/a%2Fb%2Fc%2Fd",
        "/keys/\u{e9}",
        "/certificates/x/pending/merge/now",
        "/ekm/x",
        "/keys/k//sign//",
        "/.well-known/jwks.json",
        "/metrics",
    ];
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        for path in paths {
            let answer = face.ask(method, &format!("{path}?{VERSION}"), "");
            // What is no HTTP is refused before it is a request, and then there is no JSON.
            let is_bare = answer.status == 400 && answer.body.is_empty() && !path.is_ascii();
            // What these really name is answered; all else is an error.
            if answer.status >= 300 && !is_bare {
                is_an_error(&answer, &format!("{method} {path}"));
            }
            assert!(answer.status < 500 || answer.status == 501, "{method} {path}: {}", answer.status);
            if answer.status == 405 {
                assert!(!answer.header("allow").is_empty(), "{method} {path}");
            }
        }
    }
    for query in ["", "?", "?&&", "?=", "?api-version", "?%=1", "?api-version=7.4&API-VERSION=7.4", "?api-version=%ff"]
    {
        is_an_error(&face.ask("GET", &format!("/keys{query}"), ""), query);
    }
    is_an_error(&face.ask("GET", &format!("/keys?{VERSION}&x={}", "a".repeat(9000)), ""), "a long query");
    face.ask("GET", &format!("/keys/k?{VERSION}"), "").ok();
}

#[test]
fn bodies_that_cannot_be() {
    let face = Face::new();
    face.key("k");
    let deep = |opening: &str, count: usize| opening.repeat(count);
    let bodies = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\u{0}".to_owned(),
        "{\"kty\":".to_owned(),
        deep("[", 100_000),
        deep("{\"a\":", 100_000),
        format!("{{\"tags\":{}1{}}}", deep("[", 1000), deep("]", 1000)),
        format!("{{\"kty\":\"EC\",\"tags\":{{\"a\":\"{}\"}}}}", "x".repeat(300)),
        "{\"kty\":\"EC\",\"kty\":\"RSA\"}".to_owned(),
        "{\"kty\":[],\"alg\":{},\"value\":1,\"key\":\"x\"}".to_owned(),
        "{\"alg\":\"ES256\",\"value\":\"====\"}".to_owned(),
        "{\"alg\":\"ES256\",\"value\":\"\\ud800\"}".to_owned(),
        "{\"kty\":\"EC\",\"attributes\":1,\"properties\":[],\"count\":1e99}".to_owned(),
        "{\"kty\":\"EC\",\"attributes\":{\"exp\":-2086975451},\"count\":-1,\"value\":\"\"}".to_owned(),
        "{\"kty\":\"RSA\",\"key_size\":99999999999999999999,\"count\":0.5,\"value\":null}".to_owned(),
        "{\"kty\":\"EC\",\"key_ops\":[\"fly\"],\"key\":{\"kty\":\"RSA\"},\"value\":\"%%%\"}".to_owned(),
        "{\"key\":{\"kty\":\"RSA-HSM\",\"key_hsm\":\"e30\"},\"kty\":1,\"value\":true}".to_owned(),
    ];
    for (method, path) in [
        ("POST", "/keys/n/create"),
        ("PUT", "/keys/n"),
        ("POST", "/keys/k/sign"),
        ("POST", "/keys/k/verify"),
        ("POST", "/keys/k/encrypt"),
        ("POST", "/keys/k/unwrapkey"),
        ("POST", "/keys/restore"),
        ("PUT", "/keys/none/rotationpolicy"),
        ("PUT", "/secrets/bad_name"),
        ("POST", "/secrets/restore"),
        ("POST", "/rng"),
        ("PUT", "/providers/Microsoft.Authorization/roleAssignments/11111111-2222-3333-4444-555555555555"),
        ("PUT", "/providers/Microsoft.Authorization/roleDefinitions/11111111-2222-3333-4444-555555555555"),
    ] {
        for body in &bodies {
            let answer = face.ask(method, &format!("{path}?{VERSION}"), body);
            is_an_error(&answer, &format!("{method} {path} {}", body.chars().take(60).collect::<String>()));
        }
    }
    let long = face.ask("POST", &format!("/keys/k/sign?{VERSION}"), " ".repeat(300 * 1024));
    long.refused(413, "RequestEntityTooLarge");
    face.ask("GET", &format!("/keys/k?{VERSION}"), "").ok();
}

#[test]
fn heads_that_cannot_be() {
    let face = Face::new();
    let target = format!("/keys?{VERSION}");
    for (name, value) in [
        ("authorization", "Bearer x".to_owned()),
        ("host", "elsewhere.example".to_owned()),
        ("content-length", "7".to_owned()),
        ("x-ms-client-request-id", "x".repeat(4000)),
        ("expect", "200-maybe".to_owned()),
        ("content-type", "\u{1}".to_owned()),
        ("x-long", "x".repeat(40_000)),
        ("transfer-encoding", "gzip".to_owned()),
    ] {
        let mut ask = face.request("GET", &target, "");
        ask.headers.push((name, value));
        let answer = face.send(&ask);
        // What is no HTTP is refused before it is a request, and then there is no JSON.
        assert!(answer.status < 500 || answer.status == 501, "{name}: {}", answer.status);
    }
    let mut many = face.request("GET", &target, "");
    many.headers.extend((0..500).map(|_| ("x-many", "x".to_owned())));
    assert_eq!(face.send(&many).status, 431);
    let lying = face.request("POST", &target, "");
    let lying = Ask { headers: [lying.headers, vec![("transfer-encoding", "chunked".to_owned())]].concat(), ..lying };
    assert!(face.send(&lying).status < 500);
    for bytes in [&b"GARBAGE\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"\x00\x01\x02\r\n\r\n"] {
        assert_eq!(face.exchange(bytes, false).status, 400);
    }
    face.ask("GET", &target, "").ok();
}
