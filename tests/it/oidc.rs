//! `serve` with issuers of tokens, by its front door: a caller is who its token says and has that name's and its groups'
//! roles; every attack is UNAUTHENTICATED; and a key that its issuer takes back takes its callers with it.

use std::{
    fs,
    process::{Command, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use aws_lc_rs::hmac;
use serde_json::{Value, json};
use strongroom_client::{Algorithm, Code, Input, Settings};

use crate::{
    dev::{PROGRAM, text},
    issuer::{Issuer, Key, part, unsigned},
    production::{Serving, Site},
};

/// A server that trusts the issuers `a`, with the key `one`, and `b`, with the key `two`.
struct Served {
    site: Site,
    a: Issuer,
    b: Issuer,
    one: Key,
    two: Key,
    _serving: Serving,
}

impl Served {
    fn new() -> Self {
        let (site, a, b, one, two) = (Site::new(), Issuer::new(), Issuer::new(), Key::new("one"), Key::new("two"));
        a.publish(&[&one]);
        b.publish(&[&two]);
        let file = site.path("strongroom.toml");
        let config = fs::read_to_string(&file).expect("reads");
        let sample = "issuer = \"https://issuer.example.org\"\n";
        assert!(config.contains(sample));
        let more = |issuer: &Issuer| {
            let ca = issuer.ca();
            format!("issuer = \"{}\"\nca = \"{}\"\ngroups_claim = \"groups\"\nrefresh_s = 10\n", issuer.url, text(&ca))
        };
        let second = format!("\n[[oidc]]\n{}audiences = [\"strongroom\"]\n", more(&b));
        fs::write(&file, config.replace(sample, &more(&a)) + &second).expect("writes");
        site.init();
        let serving = site.serve();
        site.client_ok(&["vault", "create", "main"]);
        Self { site, a, b, one, two, _serving: serving }
    }

    fn grant(&self, principal: &str, role: &str) {
        self.site.client_ok(&["access", "grant", "--principal", principal, "--role", role, "--scope", "vaults/main"]);
    }

    /// What somebody with that token is told who wants to see the vault: nothing, or code and reason.
    fn ask(&self, token: &str) -> Result<(), String> {
        let file = self.site.path("caller.token");
        fs::write(&file, token).expect("writes");
        let output = Command::new(PROGRAM)
            .args(["vault", "show", "main", "-o", "json", "--token-file", text(&file)])
            .env("STRONGROOM_ENDPOINT", self.site.endpoint())
            .env("STRONGROOM_CA", self.site.path("tls/clients.pem"))
            .stdin(Stdio::null())
            .output()
            .expect("runs");
        if output.status.success() {
            return Ok(());
        }
        let error: Value = serde_json::from_slice(&output.stderr).expect("JSON and nothing else");
        let field = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        Err(format!("{} {}", field("code"), field("reason")))
    }

    fn refused(&self, what: &str, token: &str, reason: &str) {
        assert_eq!(self.ask(token), Err(format!("UNAUTHENTICATED {reason}")), "{what}");
    }
}

fn but(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

#[test]
fn a_caller_is_who_its_token_says_with_the_roles_of_that_name_and_of_its_groups() {
    let served = Served::new();
    let (a, b) = (&served.a, &served.b);
    let denied = Err("PERMISSION_DENIED PERMISSION_DENIED".to_owned());
    let ci = served.one.token("RS256", &a.claims());
    assert_eq!(served.ask(&ci), denied, "nobody is anybody without a role");
    served.grant(&format!("oidc:{}#ci", a.url), "Key Vault Reader");
    assert_eq!(served.ask(&ci), Ok(()));
    let grouped = but(&but(&a.claims(), "sub", "somebody".into()), "groups", json!(["dev", "ops"]));
    let grouped = served.one.token("PS384", &grouped);
    assert_eq!(served.ask(&grouped), denied);
    served.grant(&format!("group:oidc:{}#ops", a.url), "Key Vault Reader");
    assert_eq!(served.ask(&grouped), Ok(()));
    // The same words of another issuer are somebody else's.
    let same = but(&b.claims(), "groups", json!(["ops"]));
    assert_eq!(served.ask(&served.two.token("RS256", &same)), denied);
    served.grant(&format!("oidc:{}#deploy", b.url), "Key Vault Reader");
    for subject in ["deploy", &format!("{}#deploy", b.url), &format!("oidc:{}#deploy", b.url)] {
        let posed = but(&a.claims(), "sub", subject.into());
        assert_eq!(served.ask(&served.one.token("RS256", &posed)), denied, "{subject}");
    }
    assert_eq!(served.ask(&served.two.token("RS256", &but(&b.claims(), "sub", "deploy".into()))), Ok(()));
}

#[test]
fn every_attack_is_unauthenticated() {
    let served = Served::new();
    served.grant(&format!("oidc:{}#ci", served.a.url), "Key Vault Reader");
    let good = served.one.token("RS256", &served.a.claims());
    assert_eq!(served.ask(&good), Ok(()));
    let evil = Issuer::new();
    evil.publish(&[&Key::new("one")]);
    unsigned_or_signed_by_what_is_public(&served, &good);
    for_others_or_for_other_times(&served);
    names_of_keys_and_keys_brought_along(&served, &evil);
    issuers_that_speak_for_others(&served, &evil);
    assert_eq!(evil.asked.load(Ordering::SeqCst), 0, "nobody is asked because a token says so");
    assert_eq!(served.ask(&good), Ok(()), "others do not notice");
    let log = fs::read_to_string(served.site.path("serve.log")).expect("reads");
    assert!(!log.contains("eyJ"), "no token is in the log: {log}");
}

fn unsigned_or_signed_by_what_is_public(served: &Served, good: &str) {
    let claims = served.a.claims();
    let signature = good.rsplit('.').next().expect("parts");
    for algorithm in ["none", "None", "NONE", ""] {
        let signed = unsigned(&json!({ "alg": algorithm, "kid": "one" }), &claims);
        for signature in ["", signature] {
            served.refused("no algorithm", &format!("{signed}.{signature}"), "TOKEN_ALGORITHM");
        }
    }
    let other = unsigned(&json!({ "alg": "RS256", "kid": "one" }), &but(&claims, "sub", "admin".into()));
    served.refused("another token's signature", &format!("{other}.{signature}"), "TOKEN_SIGNATURE");
    let pem = served.one.public_pem();
    let set = json!({ "keys": [served.one.jwk()] }).to_string();
    for key in [pem.trim_ascii(), &pem, set.as_bytes()] {
        for (algorithm, reason) in [("HS256", "TOKEN_ALGORITHM"), ("RS256", "TOKEN_SIGNATURE")] {
            let signed = unsigned(&json!({ "alg": algorithm, "kid": "one" }), &claims);
            let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
            served.refused("a public key as a secret", &format!("{signed}.{}", part(mac.as_ref())), reason);
        }
    }
}

fn for_others_or_for_other_times(served: &Served) {
    let claims = served.a.claims();
    let now = claims["iat"].as_i64().expect("a time");
    for (name, value, reason) in [
        ("aud", json!("kubernetes"), "TOKEN_AUDIENCE"),
        ("aud", json!(["kubernetes", "STRONGROOM"]), "TOKEN_AUDIENCE"),
        ("aud", Value::Null, "TOKEN_AUDIENCE"),
        ("exp", json!(now - 60), "TOKEN_EXPIRED"),
        ("nbf", json!(now + 300), "TOKEN_NOT_YET_VALID"),
        ("iat", json!(now + 300), "TOKEN_NOT_YET_VALID"),
        ("exp", json!(now + 10 * 86_400), "TOKEN_LIFE"),
        ("exp", Value::Null, "TOKEN_MALFORMED"),
        ("cnf", json!({ "jkt": "x" }), "TOKEN_BOUND"),
        ("sub", json!(""), "TOKEN_SUBJECT"),
        ("groups", json!([7]), "TOKEN_GROUPS"),
    ] {
        served.refused(name, &served.one.token("RS256", &but(&claims, name, value)), reason);
    }
}

fn names_of_keys_and_keys_brought_along(served: &Served, evil: &Issuer) {
    let (claims, other) = (served.a.claims(), Key::new("one"));
    let url = format!("{}/keys", evil.url);
    for kid in ["../../../../dev/null", "/dev/null", "' OR '1'='1", &url, "one\u{0}", "ONE", "two", ""] {
        let header = json!({ "alg": "RS256", "kid": kid });
        served.refused(kid, &served.one.token_with(&header, &claims), "TOKEN_KEY");
    }
    for (name, value) in [("jku", json!(url)), ("jwk", other.jwk()), ("x5u", json!(url)), ("x5c", json!(["MIIB"]))] {
        let mut header = json!({ "alg": "RS256", "kid": "one" });
        header[name] = value;
        served.refused(name, &other.token_with(&header, &claims), "TOKEN_SIGNATURE");
    }
    let header = json!({ "alg": "RS256", "kid": "one", "crit": ["exp"] });
    served.refused("crit", &served.one.token_with(&header, &claims), "TOKEN_MALFORMED");
}

fn issuers_that_speak_for_others(served: &Served, evil: &Issuer) {
    let (a, b) = (served.a.claims(), served.b.claims());
    served.refused("a's key for b", &served.one.token("RS256", &b), "TOKEN_KEY");
    let posed = json!({ "alg": "RS256", "kid": "two" });
    served.refused("a's key by the name of b's", &served.one.token_with(&posed, &b), "TOKEN_SIGNATURE");
    let both = json!({ "alg": "RS256", "kid": "one" });
    served.refused("b's key by the name of a's", &served.two.token_with(&both, &a), "TOKEN_SIGNATURE");
    for issuer in [evil.url.clone(), format!("{}/", served.a.url), served.a.url.to_uppercase()] {
        let claims = but(&a, "iss", issuer.as_str().into());
        served.refused(&issuer, &served.one.token("RS256", &claims), "TOKEN_ISSUER");
    }
}

#[tokio::test]
async fn a_key_that_its_issuer_takes_back_ends_cached_tokens_and_open_streams() {
    let served = Served::new();
    served.site.client_ok(&["key", "create", "k", "--type", "EC"]);
    served.grant(&format!("oidc:{}#ci", served.a.url), "Key Vault Crypto User");
    let file = served.site.path("stream.token");
    fs::write(&file, served.one.token("RS256", &served.a.claims())).expect("writes");
    let ca = fs::read(served.site.path("tls/clients.pem")).expect("reads");
    let settings = Settings::with_token(&served.site.endpoint(), ca, &file).expect("right");
    let client = settings.connect().await.expect("connects");
    let stream = client.stream().await.expect("opens");
    let sign = async || stream.sign("vaults/main/keys/k", &Algorithm::ES256, Input::Message(b"text")).await;
    sign().await.expect("signs");
    client.random_bytes(16).await.expect("a cached token");
    // It is asked by two connections each time: with the third from here on, one fetch is over.
    let asked = served.a.asked.load(Ordering::SeqCst);
    served.a.publish(&[&served.one, &served.two]);
    while served.a.asked.load(Ordering::SeqCst) < asked + 3 {
        sign().await.expect("a key beside it changes nothing");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let next = Key::new("next");
    served.a.publish(&[&next]);
    let ended = async {
        loop {
            match sign().await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends with its key");
    assert_eq!(error.refusal().map(|refusal| refusal.code), Some(Code::Unauthenticated), "{error}");
    let error = client.random_bytes(16).await.expect_err("its key is gone");
    assert_eq!(error.refusal().map(|refusal| refusal.reason.as_str()), Some("TOKEN_KEY"), "{error}");
    fs::write(&file, next.token("RS256", &served.a.claims())).expect("writes");
    client.random_bytes(16).await.expect("the new key's");
}
