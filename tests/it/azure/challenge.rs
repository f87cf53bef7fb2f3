//! How a client becomes somebody, and that before it has it learns nothing else.

use super::face::{Ask, Face, HOST, HSM, VERSION};

/// The challenge of a host, whose tenant is the instance.
fn challenge(host: &str, resource: &str, found: &str) {
    let begin = format!("Bearer authorization=\"https://{host}/");
    let end = format!("\", resource=\"https://{resource}\"");
    let tenant = found.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(&end));
    let tenant = tenant.unwrap_or_else(|| panic!("{found}"));
    assert!(uuid::Uuid::try_parse(tenant).is_ok(), "{tenant}");
}

#[test]
fn the_unauthenticated_learn_nothing_but_the_challenge() {
    let face = Face::new();
    face.key("there");
    let mut seen = std::collections::BTreeSet::new();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
        for target in [
            &format!("/keys/there?{VERSION}"),
            &format!("/keys/missing?{VERSION}"),
            "/keys/there/sign",
            "/nothing/of/the/kind",
            "/%zz?a=1&a=2",
            "/",
        ] {
            for (host, resource) in [
                (face.at(HOST), face.at("vault.localhost")),
                (face.at("nosuch.vault.localhost"), face.at("vault.localhost")),
                (face.at("localhost"), face.at("localhost")),
                (face.at("127.0.0.1"), face.at("127.0.0.1")),
                (face.at(HSM), face.at("managedhsm.localhost")),
            ] {
                let answer =
                    face.send(&Ask { headers: Vec::new(), host: host.clone(), ..face.request(method, target, "") });
                assert_eq!(answer.status, 401, "{method} {target} {host}");
                challenge(&host, &resource, answer.header("www-authenticate"));
                seen.insert(answer.body);
            }
        }
    }
    assert_eq!(seen.len(), 1, "one text for all of them: {seen:?}");
}

#[test]
fn a_token_that_is_not_believed_is_none_and_two_are_none() {
    let face = Face::new();
    let target = format!("/keys?{VERSION}");
    let good = format!("Bearer {}", face.token);
    let broken = format!("{}x", good);
    for values in
        [vec!["Bearer wrong".to_owned()], vec![broken], vec!["Basic eA==".to_owned()], vec![good.clone(), good.clone()]]
    {
        let headers = values.into_iter().map(|value| ("authorization", value)).collect();
        let answer = face.send(&Ask { headers, ..face.request("GET", &target, "") });
        answer.refused(401, "Unauthorized");
        challenge(&face.at("localhost"), &face.at("localhost"), answer.header("www-authenticate"));
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let headers = vec![("authorization", format!("{scheme} {}", face.token))];
        face.send(&Ask { headers, ..face.request("GET", &target, "") }).ok();
    }
}

#[test]
fn who_may_only_look_is_refused_with_the_right_that_is_missing() {
    let face = Face::new();
    let as_reader = |method: &str, target: &str, body: &str| {
        let headers = vec![("authorization", format!("Bearer {}", face.reader))];
        face.send(&Ask { headers, ..face.request(method, target, body) })
    };
    as_reader("GET", &format!("/keys?{VERSION}"), "").ok();
    let refused = as_reader("POST", &format!("/keys/k/create?{VERSION}"), r#"{"kty":"EC"}"#);
    refused.refused(403, "Forbidden");
    assert_eq!(refused.error().1, "ForbiddenByRbac");
    let refused = as_reader("GET", &format!("/secrets/s?{VERSION}"), "");
    refused.refused(403, "Forbidden");
    assert!(String::from_utf8_lossy(&refused.body).contains("secrets/getSecret/action"));
    face.ask("GET", &format!("/keys/k?{VERSION}"), "").refused(404, "KeyNotFound");
}

#[test]
fn every_answer_carries_what_a_vault_sends() {
    let face = Face::new();
    for (target, client_id) in [(format!("/keys?{VERSION}"), "a-b"), ("/keys".to_owned(), "c")] {
        let mut ask = face.request("GET", &target, "");
        ask.headers.push(("x-ms-client-request-id", client_id.to_owned()));
        let answer = face.send(&ask);
        assert_eq!(answer.header("x-ms-client-request-id"), client_id);
        assert!(uuid::Uuid::try_parse(answer.header("x-ms-request-id")).is_ok());
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(answer.header("strict-transport-security").starts_with("max-age=31536000"));
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    }
}
