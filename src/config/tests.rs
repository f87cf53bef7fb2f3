//! What is accepted, and how faults are named.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use super::*;
use crate::{
    export::{Start, Target},
    store::postgres::Tls,
};

const SAMPLE: &str = include_str!("../../softhsm-config/strongroom.sample.toml");

const SMALL: &str = r#"
[server]
listen = "127.0.0.1:8443"
certificate = "server.pem"
key = "server.key"
client_ca = "/etc/clients.pem"
[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token = { label = "strongroom" }
pin_file = "pin"
state_dir = "state"
[store]
sqlite = "strongroom.db"
[audit]
dir = "audit"
"#;

fn faults(text: &str) -> Vec<String> {
    parse(text, Path::new("/srv")).expect_err("has faults").iter().map(ToString::to_string).collect()
}

#[test]
fn the_sample_is_right_and_says_the_defaults() {
    let sample = parse(SAMPLE, Path::new("/etc/strongroom")).expect("the sample is right");
    let small = parse(SMALL, Path::new("/etc/strongroom")).expect("is right");
    assert_eq!(sample.server.deadline_default, small.server.deadline_default);
    assert_eq!(sample.server.requests_max, small.server.requests_max);
    assert_eq!(sample.server.connections_max, small.server.connections_max);
    assert_eq!(sample.hsm.cached_keys_max, small.hsm.cached_keys_max);
    assert_eq!(sample.hsm.canary_every, small.hsm.canary_every);
    assert_eq!(sample.log, small.log);
}

#[test]
fn what_a_module_is_told_is_passed_on_as_it_stands() {
    let nss = include_str!("../../softhsm-config/nss-softokn.toml");
    let (before, rest) = SMALL.split_once("[hsm]\n").expect("a table");
    let (_, after) = rest.split_once("[store]\n").expect("a table");
    let text = format!("{before}{nss}\n[store]\n{after}");
    let config = parse(&text, Path::new("/etc/strongroom")).expect("the sample is right");
    let told = "configdir='sql:/etc/strongroom/nss' dbTokenDescription='strongroom'";
    assert_eq!(config.hsm.module_parameters.as_deref(), Some(told));
    assert_eq!(config.hsm.profile("strongroom".into()).module_parameters.as_deref(), Some(told));
    let cut = SMALL.replace("[hsm]", "[hsm]\nmodule_parameters = \"a\\u0000b\"");
    assert_eq!(faults(&cut), ["hsm.module_parameters: holds a zero byte, which would end it"]);
}

fn oidc(text: &str) -> String {
    format!("{SMALL}\n[[oidc]]\n{text}")
}

const ISSUER: &str = "issuer = \"https://a.example\"\naudiences = [\"strongroom\"]";

#[test]
fn an_issuer_has_a_name_and_an_audience_and_safe_defaults() {
    let config = parse(&oidc(ISSUER), Path::new("/srv")).expect("is right");
    let trust = &config.oidc[0];
    assert_eq!((trust.rules.leeway, trust.rules.life_max), (Duration::from_secs(30), Duration::from_secs(86_400)));
    assert_eq!(trust.rules.algorithms, crate::bearer::ALGORITHMS);
    assert!(trust.channel.ca.is_none() && !trust.channel.plain_loopback && trust.rules.groups.is_none());
    let sample = parse(SAMPLE, Path::new("/etc/strongroom")).expect("the sample is right");
    assert_eq!((sample.oidc[0].refresh_every, sample.oidc[0].kept_max), (trust.refresh_every, trust.kept_max));
    assert_eq!(sample.tokens.life_max, config.tokens.life_max);
}

#[test]
fn what_an_issuer_must_not_say_is_named() {
    for (text, key) in [
        ("audiences = [\"a\"]", "oidc[0].issuer: is missing"),
        ("issuer = \"https://a.example\"", "oidc[0].audiences: is missing"),
        ("issuer = \"https://a.example\"\naudiences = []", "oidc[0].audiences"),
        ("issuer = \"http://a.example\"\naudiences = [\"a\"]", "oidc[0].issuer"),
        ("issuer = \"http://127.0.0.1:1\"\naudiences = [\"a\"]", "oidc[0].issuer"),
        ("issuer = \"https://a.example/#x\"\naudiences = [\"a\"]", "oidc[0].issuer"),
        (&format!("{ISSUER}\nalgorithms = [\"HS256\"]"), "oidc[0].algorithms"),
        (&format!("{ISSUER}\nalgorithms = [\"none\"]"), "oidc[0].algorithms"),
        (&format!("{ISSUER}\nalgorithms = []"), "oidc[0].algorithms"),
        (&format!("{ISSUER}\nleeway_s = 301"), "oidc[0].leeway_s"),
        (&format!("{ISSUER}\njwks_uri = \"http://a.example/k\""), "oidc[0].jwks_uri"),
        (&format!("{ISSUER}\njwks_uri = \"https://a/k\"\njwks_file = \"k\""), "oidc[0].jwks_file"),
        (&format!("{ISSUER}\nrequired = {{ a = 1.5 }}"), "oidc[0].required.a"),
        (&format!("{ISSUER}\nsecret = \"x\""), "oidc[0].secret"),
        (&format!("{ISSUER}\n[[oidc]]\n{ISSUER}"), "oidc[1].issuer: is there twice"),
        (&format!("{ISSUER}\n[tokens]\nissuer = \"https://a.example\""), "oidc[0].issuer"),
        (&format!("{ISSUER}\n[tokens]\nissuer = \"http://a.example\""), "tokens.issuer"),
        (&format!("{ISSUER}\n[tokens]\nlife_max_s = 86401"), "tokens.life_max_s"),
        (&format!("{ISSUER}\n[tokens]\nlife_max_s = 60\nlife_default_s = 61"), "tokens.life_default_s"),
    ] {
        let found = faults(&oidc(text));
        assert!(found.iter().any(|fault| fault.starts_with(key)), "{key}: {found:?}");
    }
    let loopback = oidc("issuer = \"http://127.0.0.1:1\"\naudiences = [\"a\"]\nallow_http_loopback = true");
    assert!(parse(&loopback, Path::new("/srv")).is_ok());
}

#[test]
fn the_examples_of_issuers_are_right() {
    let page = include_str!("../../docs/tokens.md");
    let examples: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 5, "Kubernetes, GitHub Actions, GitLab, Entra ID, Keycloak");
    for example in &examples {
        let found = parse(&format!("{SMALL}\n{example}"), Path::new("/srv"));
        assert_eq!(found.expect("is right").oidc.len(), 1, "{example}");
    }
    let together = format!("{SMALL}\n{}", examples.concat());
    assert_eq!(parse(&together, Path::new("/srv")).expect("is right").oidc.len(), 5);
}

#[test]
fn traces_are_off_until_somebody_says_where_to() {
    let config = |lines: &str| parse(&format!("{SMALL}\n[tracing]\n{lines}"), Path::new("/srv"));
    assert!(config("").expect("is right").tracing.is_none());
    assert!(parse(SAMPLE, Path::new("/etc/strongroom")).expect("the sample is right").tracing.is_none());
    let endpoint = "otlp_endpoint = \"https://collector.example:4318/v1/traces\"";
    let tracing = config(endpoint).expect("is right").tracing.expect("is on");
    assert_eq!((tracing.sample_ratio, tracing.trust_parent), (0.01, false));
    let more = format!("{endpoint}\nsample_ratio = 1\ntrust_parent = true\nca = \"ca.pem\"");
    let tracing = config(&more).expect("is right").tracing.expect("is on");
    assert_eq!((tracing.sample_ratio, tracing.trust_parent), (1.0, true));
    assert_eq!(tracing.channel.ca.as_deref(), Some(Path::new("/srv/ca.pem")));
    for (lines, key) in [
        ("sample_ratio = 0.5", "tracing.otlp_endpoint: is missing"),
        ("ca = \"ca.pem\"", "tracing.otlp_endpoint: is missing"),
        ("otlp_endpoint = \"http://127.0.0.1:4318/v1/traces\"", "tracing.otlp_endpoint"),
        (&format!("{endpoint}\nsample_ratio = 1.01"), "tracing.sample_ratio"),
        (&format!("{endpoint}\nsample_ratio = -0.1"), "tracing.sample_ratio"),
        (&format!("{endpoint}\nsample_ratio = 2"), "tracing.sample_ratio"),
        (&format!("{endpoint}\nsample_ratio = nan"), "tracing.sample_ratio"),
        (&format!("{endpoint}\nsample_ratio = \"1\""), "tracing.sample_ratio"),
        (&format!("{endpoint}\nurl = \"x\""), "tracing.url"),
    ] {
        let found = faults(&format!("{SMALL}\n[tracing]\n{lines}"));
        assert!(found.len() == 1 && found[0].starts_with(key), "{key}: {found:?}");
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse(SMALL, Path::new("/srv")).expect("is right");
    assert_eq!(config.server.key, Path::new("/srv/server.key"));
    assert_eq!(config.server.authorities[0].file, Path::new("/etc/clients.pem"));
    assert_eq!(config.store.file(), Some(Path::new("/srv/strongroom.db")));
}

/// With a store in PostgreSQL.
fn on_postgres(lines: &str) -> String {
    let postgres = format!("[store.postgres]\ndatabase = \"d\"\nuser = \"u\"\n{lines}");
    let store = format!("[replica]\nname = \"a\"\n{postgres}");
    SMALL.replace("[store]\nsqlite = \"strongroom.db\"", &store)
}

#[test]
fn the_sample_of_postgres_is_right_when_it_is_no_comment() {
    let (before, rest) = SAMPLE.split_once("sqlite = \"strongroom.db\"\n").expect("the store");
    let (commented, after) = rest.split_once("[audit]\n").expect("the next table");
    let lines =
        commented.lines().map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(""));
    let text = format!("{before}{}\n[audit]\n{after}", lines.collect::<Vec<_>>().join("\n"));
    let config = parse(&text, Path::new("/etc/strongroom")).expect("is right");
    let StoreChoice::Postgres(settings) = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(settings.hosts.len(), 2);
    assert_eq!(settings.password_file.as_deref(), Some(Path::new("/etc/strongroom/postgres-password")));
    assert!(matches!(&settings.tls, Tls::Verified { client: Some(_), .. }));
    let small = parse(&on_postgres("hosts = [\"/run\"]"), Path::new("/srv")).expect("is right");
    let StoreChoice::Postgres(small) = &small.store else { panic!("{:?}", small.store) };
    assert_eq!((&settings.schema, settings.connections_max), (&small.schema, small.connections_max));
    assert_eq!(config.store.to_string(), "postgres strongroom/strongroom on db1.example:5432, db2.example:5432");
}

#[test]
fn replicas_that_share_a_store_have_names() {
    let nameless = on_postgres("hosts = [\"/run\"]").replace("name = \"a\"", "");
    assert!(faults(&nameless)[0].starts_with("replica.name: is missing"));
    let wrong = format!("{SMALL}\n[replica]\nname = \"A_1\"\n");
    assert!(faults(&wrong)[0].starts_with("replica.name: "), "{:?}", faults(&wrong));
    assert_eq!(parse(SMALL, Path::new("/srv")).expect("is right").replica.as_str(), "main");
}

#[test]
fn there_is_one_store() {
    let both = SMALL.replace("[audit]", "[store.postgres]\nhosts = [\"/run\"]\n[audit]");
    assert_eq!(faults(&both), ["store.postgres: is one store, and sqlite another: there can be only one"]);
    let none = SMALL.replace("sqlite = \"strongroom.db\"", "");
    assert_eq!(faults(&none), ["store.sqlite: is missing: name a file, or servers in [store.postgres]"]);
}

#[test]
fn other_machines_are_reached_with_tls() {
    for right in [
        "hosts = [\"/run/postgresql\", \"localhost\", \"[::1]:5433\"]",
        "hosts = [\"db1\"]\nca = \"ca.pem\"",
        "hosts = [\"db1\"]\nallow_plaintext = true",
    ] {
        assert!(parse(&on_postgres(right), Path::new("/srv")).is_ok(), "{right}");
    }
    for (wrong, told) in [
        ("hosts = [\"/run\", \"db1\"]", "store.postgres.ca: is missing: db1:5432 is another machine"),
        ("hosts = [\"db1\"]\nca = \"c\"\nallow_plaintext = true", "store.postgres.allow_plaintext: says the opposite"),
        ("hosts = [\"db1\"]\nca = \"c\"\nclient_key = \"k\"", "store.postgres.client_key: belongs to"),
        (
            "hosts = [\"/run\"]\nclient_key = \"k\"\nclient_certificate = \"c\"",
            "store.postgres.client_certificate: is for",
        ),
        ("hosts = [\"user:word@db1\"]", "store.postgres.hosts: "),
        ("hosts = [\"/run\"]\nschema = \"A\"", "store.postgres.schema: is not 1 to 40"),
        ("hosts = [\"/run\"]\npassword = \"secret\"", "store.postgres.password: is not a key"),
        ("", "store.postgres.hosts: is missing"),
    ] {
        let found = faults(&on_postgres(wrong));
        assert!(found.iter().any(|fault| fault.starts_with(told)), "{wrong}: {found:?}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_path() {
    let text = SMALL.replace("pin_file", "pin_flie").replace("[audit]", "[audit]\nsync = true\n[rest]\n[audit.x]\n");
    let found = faults(&text.replace("[rest]\n[audit.x]\n", ""));
    assert!(found.contains(&"hsm.pin_flie: is not a key that this release knows".to_owned()), "{found:?}");
    assert!(found.contains(&"hsm.pin_file: is missing".to_owned()), "{found:?}");
    assert!(found.contains(&"audit.sync: is not a key that this release knows".to_owned()), "{found:?}");
}

#[test]
fn all_faults_are_found_at_once() {
    let text = SMALL
        .replace("127.0.0.1:8443", "nowhere")
        .replace("label = \"strongroom\"", "label = 7")
        .replace("dir = \"audit\"", "dir = \"\"");
    let found = faults(&text);
    for key in ["server.listen: ", "hsm.token.label: ", "audit.dir: "] {
        assert!(found.iter().any(|fault| fault.starts_with(key)), "{key} in {found:?}");
    }
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    let open = SMALL.replace("127.0.0.1:8443", "0.0.0.0:8443");
    assert!(faults(&open)[0].starts_with("server.listen: 0.0.0.0:8443 can be reached by other machines"));
    let said = open.replace("[server]", "[server]\nallow_non_loopback = true");
    assert!(parse(&said, Path::new("/srv")).is_ok());
}

#[test]
fn numbers_words_and_tables_are_checked() {
    let cases = [
        ("[metrics]\nlisten = \"127.0.0.1:99999\"", "metrics.listen: "),
        ("[metrics]\nlisten = 7", "metrics.listen: is text in quotes, not a whole number"),
        ("[log]\nlevel = \"loud\"", "log.level: \"loud\" is none of error, warn, info, debug"),
        ("[hsm.lanes.short]\nworkers = 0", "hsm.lanes.short.workers: is a number from 1 to 256, not 0"),
        ("[hsm.lanes.fast]\nworkers = 1", "hsm.lanes.fast: is not a key that this release knows"),
        ("[hsm.environment]\nX = 1", "hsm.environment.X: is text in quotes, not a whole number"),
        ("rest = 1", "rest: is not a key that this release knows"),
    ];
    for (addition, expected) in cases {
        let text =
            if addition.starts_with('[') { format!("{SMALL}\n{addition}\n") } else { format!("{addition}\n{SMALL}") };
        let found = faults(&text);
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected} in {found:?}");
    }
    assert!(faults("[server")[0].starts_with("is not TOML: "));
}

#[test]
fn lanes_can_be_changed_one_by_one() {
    let text = format!("{SMALL}\n[hsm.lanes.medium]\nworkers = 7\nhang_ms = 1500\n");
    let config = parse(&text, Path::new("/srv")).expect("is right");
    let medium = config.hsm.lanes[&Lane::Medium];
    assert_eq!((medium.workers, medium.hang), (7, Duration::from_millis(1500)));
    assert_eq!(config.hsm.lanes[&Lane::Short], Profile::softhsm_lanes(2)[&Lane::Short]);
}

#[test]
fn what_is_missing_or_open_on_disk_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = parse(SMALL, folder.path()).expect("is right");
    let named: Vec<String> = faults_on_disk(&config).into_iter().map(|fault| fault.key).collect();
    assert!(named.contains(&"server.certificate".to_owned()), "{named:?}");
    let key = folder.path().join("server.key");
    fs::write(&key, "x").expect("writes");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("permits");
    let found = faults_on_disk(&config);
    assert!(found.iter().any(|fault| fault.key == "server.key" && fault.why.contains("has mode 644")), "{found:?}");
}

#[test]
fn what_issuers_are_believed_by_is_there_and_can_be_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = oidc(&format!("{ISSUER}\nca = \"ca.pem\"\njwks_file = \"keys.json\"\nfetch_token_file = \"token\""));
    let config = parse(&text, folder.path()).expect("is right");
    let found = || -> Vec<String> {
        let faults = faults_on_disk(&config).into_iter().map(|fault| fault.to_string());
        faults.filter(|fault| fault.starts_with("oidc")).collect()
    };
    let missing = found();
    for (key, fault) in ["oidc[0].ca: ", "oidc[0].jwks_file: ", "oidc[0].fetch_token_file: "].iter().zip(&missing) {
        assert!(fault.starts_with(key) && fault.contains("cannot be read"), "{fault}");
    }
    assert_eq!(missing.len(), 3, "{missing:?}");
    let write = |name: &str, content: &str| {
        fs::write(folder.path().join(name), content).expect("writes");
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o644)).expect("permits");
    };
    let ca = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate").cert.pem();
    for name in ["ca.pem", "keys.json", "token"] {
        write(name, "nonsense");
    }
    let [no_ca, no_keys]: [String; 2] = found().try_into().expect("two faults");
    assert!(no_ca.starts_with("oidc[0].ca: ") && no_ca.contains("no certificate of an authority"), "{no_ca}");
    assert!(no_keys.starts_with("oidc[0].jwks_file: ") && no_keys.contains("no JSON object with a list"), "{no_keys}");
    write("ca.pem", &ca);
    write("keys.json", r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#);
    let [useless]: [String; 1] = found().try_into().expect("one fault");
    assert!(useless.contains("no key that verifies"), "{useless}");
    write("keys.json", &format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{}"}}]}}"#, "A".repeat(43)));
    assert_eq!(found(), Vec::<String>::new());
    // Whoever can write it decides who is let in.
    fs::set_permissions(folder.path().join("keys.json"), fs::Permissions::from_mode(0o666)).expect("permits");
    let [open]: [String; 1] = found().try_into().expect("one fault");
    assert!(open.contains("has mode 666: take away 002"), "{open}");
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let error = load(Path::new("/nowhere/strongroom.toml")).expect_err("is not there");
    assert!(error.to_string().starts_with("/nowhere/strongroom.toml: cannot be read: "), "{error}");
}

/// The small configuration with these lines in `[server]` and, if there are tables, without its `client_ca`.
fn with_server(lines: &str) -> String {
    let text = SMALL.replace("[hsm]\n", &format!("{lines}\n[hsm]\n"));
    if lines.contains("client_ca") { text.replace("client_ca = \"/etc/clients.pem\"\n", "") } else { text }
}

const TWO: &str = r#"
[[server.client_ca]]
name = "own"
file = "own.pem"
crl = ["own.crl"]
trust_domains = ["example.org"]
groups = ["organizational_unit"]
[[server.client_ca]]
name = "partner"
file = "partner.pem"
trust_domains = []
"#;

#[test]
fn authorities_are_told_apart_by_what_they_may_name() {
    let mapping = r#"
[[server.mapping]]
authority = "partner"
from = "dns"
within = ["Partner.example"]
[[server.mapping]]
authority = "own"
from = "dns"
within = ["example.org"]
[[server.mapping]]
authority = "own"
from = "common_name"
"#;
    let config = parse(&with_server(&format!("{TWO}{mapping}")), Path::new("/srv")).expect("is right");
    let [own, partner] = &config.server.authorities[..] else { panic!("two") };
    assert_eq!(own.crls, [Path::new("/srv/own.crl")]);
    assert_eq!(own.naming.trust_domains.as_deref(), Some(&["example.org".to_owned()][..]));
    assert_eq!(own.naming.rules.len(), 2);
    assert_eq!(partner.naming.trust_domains.as_deref(), Some(&[][..]));
    assert_eq!(partner.naming.rules[0].within, ["partner.example"]);
    assert_eq!(config.server.reload_every, Duration::from_secs(10));
}

#[test]
fn what_two_authorities_could_both_name_is_a_fault() {
    let twice =
        TWO.replace("trust_domains = []", "trust_domains = [\"example.org\"]\ngroups = [\"organizational_unit\"]");
    let dns = |authority: &str, within: &str| {
        format!("[[server.mapping]]\nauthority = \"{authority}\"\nfrom = \"dns\"\n{within}\n")
    };
    let below = [dns("own", "within = [\"example.org\"]"), dns("partner", "within = [\"a.example.org\"]")].concat();
    let all = [dns("own", "within = [\"example.org\"]"), dns("partner", "")].concat();
    let cases = [
        (twice.clone(), "server.client_ca: \"own\" and \"partner\" both name the trust domain example.org"),
        (twice, "server.client_ca: \"own\" and \"partner\" both make groups of the organizational_unit"),
        (TWO.replace("\"partner\"", "\"own\""), "server.client_ca: \"own\" is there twice"),
        (TWO.replace("trust_domains = []", ""), "server.client_ca: \"partner\" has no trust_domains: "),
        (format!("{TWO}{below}"), "server.mapping[1].within: \"own\" and \"partner\" could both make one name"),
        (format!("{TWO}{all}"), "server.mapping[1].within: \"own\" and \"partner\" could both make one name"),
        (format!("{TWO}{}", dns("nobody", "")), "server.mapping[0].authority: \"nobody\" is no name of"),
        (format!("{TWO}[[server.mapping]]\nfrom = \"dns\""), "server.mapping[0].authority: is missing"),
        (format!("crl = [\"x\"]\n{TWO}"), "server.crl: belongs into each"),
    ];
    for (lines, expected) in cases {
        let found = faults(&with_server(&lines));
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected} in {found:?}");
    }
}

#[test]
fn what_callers_come_in_by_is_checked() {
    let cases = [
        ("crl_expired = \"perhaps\"", "server.crl_expired: \"perhaps\" is none of refuse, accept"),
        ("proxy_protocol = true", "server.trusted_proxies: is missing"),
        ("trusted_proxies = [\"10.0.0.2\"]", "server.trusted_proxies: means nothing without"),
        (
            "proxy_protocol = true\ntrusted_proxies = [\"10.0.0.1/8\"]",
            "server.trusted_proxies: \"10.0.0.1/8\" is no address",
        ),
        ("[server.unix]\nmode = \"0660\"", "server.unix.path: is missing"),
        ("[server.unix]\npath = \"s\"\nmode = \"rw\"", "server.unix.mode: \"rw\" is no mode"),
        ("[server.unix]\npath = \"s\"\nuids = [-1]", "server.unix.uids: is a list of ids"),
        ("[server.unix]\npath = \"s\"\nusers = [1]", "server.unix.users: is not a key"),
        ("[[server.mapping]]\nfrom = \"serial\"", "server.mapping[0].from: \"serial\" is none of uri, dns"),
        ("[[server.mapping]]\nwithin = []", "server.mapping[0].from: is missing"),
        ("[[server.mapping]]\nfrom = \"uri\"", "server.mapping[0].within: is missing"),
        (
            "[[server.mapping]]\nfrom = \"uri\"\nwithin = [\"https://a.example\"]",
            "server.mapping[0].within: \"https://a.example\" is no beginning",
        ),
        (
            "[[server.mapping]]\nfrom = \"uri\"\nwithin = [\"spiffe://a/\"]",
            "server.mapping[0].within: \"spiffe://a/\" is no beginning",
        ),
        (
            "[[server.mapping]]\nfrom = \"dns\"\nwithin = [\"*.example.org\"]",
            "server.mapping[0].within: \"*.example.org\" is no domain",
        ),
        ("[[server.mapping]]\nfrom = \"common_name\"\nwithin = [\"a\"]", "server.mapping[0].within: \"a\" cannot be"),
        ("client_ca = 7", "server.client_ca: is text in quotes"),
        ("client_ca = []", "server.client_ca: names nobody"),
    ];
    for (lines, expected) in cases {
        let found = faults(&with_server(lines));
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected} in {found:?}");
    }
    let said = "proxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nconnection_age_max_ms = 0\n[server.unix]\npath = \"run/s\"\nmode = \"0666\"\ngids = [100]";
    let server = parse(&with_server(said), Path::new("/srv")).expect("is right").server;
    assert_eq!((server.trusted_proxies.len(), server.connection_age_max), (2, None));
    let unix = server.unix.expect("is there");
    assert_eq!((unix.path.as_path(), unix.mode, unix.gids), (Path::new("/srv/run/s"), 0o666, vec![100]));
}

#[test]
fn quotas_are_of_everybody_or_of_those_who_are_named() {
    let quota = r#"
[quota.principal]
per_second = 1000
[quota.principals."spiffe://example.org/batch"]
per_second = 5000
burst = 50000
[quota.principals."spiffe://example.org/free"]
[quota.vaults.payments]
per_second = 7
"#;
    let found = parse(&format!("{SMALL}{quota}"), Path::new("/srv")).expect("is right").quota;
    assert_eq!(found.principal, Some(Rate { per_second: 1000, burst: 1000 }));
    assert_eq!(found.vault, None);
    let of = |name: &str| found.principals.get(&name.parse().expect("a principal")).copied();
    assert_eq!(of("spiffe://example.org/batch"), Some(Some(Rate { per_second: 5000, burst: 50_000 })));
    assert_eq!(of("spiffe://example.org/free"), Some(None));
    assert_eq!(found.vaults.len(), 1);
    let none = parse(SMALL, Path::new("/srv")).expect("is right").quota;
    assert!(none.principal.is_none() && none.vault.is_none() && none.principals.is_empty() && none.vaults.is_empty());
    let wrong =
        "[quota.principals.nobody]\nper_second = 1\n[quota.vault]\nburst = 0\n[quota.vaults.1x]\n[quota.other]\n";
    let found = faults(&format!("{SMALL}{wrong}"));
    for key in ["quota.principals: ", "quota.vault.burst: ", "quota.vaults: ", "quota.other: "] {
        assert!(found.iter().any(|fault| fault.starts_with(key)), "{key} in {found:?}");
    }
}

fn exporters(text: &str) -> String {
    format!("{SMALL}\n{text}")
}

#[test]
fn exporters_are_read_with_their_defaults() {
    let text = exporters(
        "[[audit.exporters]]\nname = \"here\"\nkind = \"file\"\npath = \"out/audit.jsonl\"\n\
         [[audit.exporters]]\nname = \"sys\"\nkind = \"syslog\"\n\
         [[audit.exporters]]\nname = \"siem\"\nkind = \"webhook\"\nurl = \"https://siem.example/in\"\nformat = \"azure\"\n\
         ca = \"ca.pem\"\nstart = \"beginning\"\nrecords_max = 7\nwithin_ms = 500\n\
         [[audit.exporters]]\nname = \"otel\"\nkind = \"otlp\"\nurl = \"http://[::1]:4318/v1/logs\"\nallow_http_loopback = true",
    );
    let config = parse(&text, Path::new("/srv")).expect("is right");
    let described: Vec<String> = config.audit.exporters.iter().map(Exporter::describe).collect();
    assert_eq!(
        described,
        [
            "strongroom to the file /srv/out/audit.jsonl",
            "strongroom to syslog unix:/dev/log as authpriv",
            "azure to https://siem.example/in",
            "OpenTelemetry logs to http://[::1]:4318/v1/logs",
        ]
    );
    let [here, _, siem, _] = &config.audit.exporters[..] else { panic!("four") };
    assert_eq!((here.start, here.records_max, here.within), (Start::Now, 100, Duration::from_secs(10)));
    assert_eq!((siem.start, siem.records_max, siem.within), (Start::Beginning, 7, Duration::from_millis(500)));
    let Target::Webhook { channel, .. } = &siem.target else { panic!("a webhook") };
    assert_eq!(channel.ca.as_deref(), Some(Path::new("/srv/ca.pem")));
}

#[test]
fn faults_of_exporters_are_named() {
    let found = faults(&exporters(
        "[[audit.exporters]]\nname = \"A b\"\nkind = \"pigeon\"\n\
         [[audit.exporters]]\nname = \"x\"\nkind = \"syslog\"\nto = \"tcp:nowhere\"\nfacility = \"mine\"\n\
         [[audit.exporters]]\nname = \"x\"\nkind = \"webhook\"\nurl = \"http://siem.example/\"\n\
         [[audit.exporters]]\nname = \"y\"\nkind = \"otlp\"\nurl = \"https://a/\"\nformat = \"azure\"",
    ));
    assert_eq!(
        found,
        [
            "audit.exporters[0].name: \"A b\" is not 1 to 64 of a-z, 0-9 and -",
            "audit.exporters[0].kind: \"pigeon\" is none of file, syslog, webhook, otlp",
            "audit.exporters[1].to: \"tcp:nowhere\" is none of unix:/PATH, udp:HOST:PORT, tcp:HOST:PORT",
            "audit.exporters[1].facility: \"mine\" is none of user, daemon, auth, authpriv, local0, local1, local2, local3, local4, local5, local6, local7",
            "audit.exporters[2].name: \"x\" is there twice: a cursor belongs to one exporter",
            "audit.exporters[2].url: is not an https:// URL (http:// on loopback: allow_http_loopback = true)",
            "audit.exporters[3].format: is not a key that this release knows",
        ]
    );
}

#[test]
fn backups_go_where_it_is_said_with_the_folders_of_the_token() {
    let without = parse(SMALL, Path::new("/srv")).expect("is right");
    assert!(without.backup.is_none());
    let text = SMALL.replace("pin_file", "sync_dirs = [\"tokens\"]\npin_file") + "\n[backup]\ndir = \"backups\"\n";
    let place = parse(&text, Path::new("/srv")).expect("is right").backup.expect("a place");
    assert_eq!(place.dir, Path::new("/srv/backups"));
    assert_eq!(place.token_dirs, [Path::new("/srv/tokens")]);
    assert_eq!(place.pin_file, Path::new("/srv/pin"));
    assert_eq!(faults(&format!("{text}keep = 3\n")), ["backup.keep: is not a key that this release knows"]);
}

fn azure(text: &str) -> String {
    format!("{SMALL}\n[azure]\n{text}")
}

#[test]
fn the_azure_face_is_served_where_it_is_configured_and_says_what_is_wrong() {
    assert!(parse(SMALL, Path::new("/srv")).expect("is right").azure.is_none());
    let sample = |text: &str| parse(text, Path::new("/etc/strongroom")).expect("the sample is right").azure;
    assert!(sample(SAMPLE).is_none(), "nobody serves it unasked");
    let asked = SAMPLE
        .replace("#[azure]\n", "[azure]\n")
        .replace("#listen = \"127.0.0.1:8445\"", "listen = \"127.0.0.1:8445\"");
    assert_eq!(sample(&asked).expect("is there").listen.port(), 8445);
    let full = azure(
        "listen = \"127.0.0.1:1\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\nexternal_url = \"https://a.example\"\n\
         managed_hsm = [\"hsm.example\"]\nauthority = \"https://login.example/t\"\n[azure.hosts]\n\"Keys.Internal\" = \"dev\"\n\
         [azure.identity]\nlisten = \"127.0.0.1:2\"\nheader_file = \"h\"\ntoken = \"batch\"\nimds_uids = [1000]\n",
    );
    let config = parse(&full, Path::new("/srv")).expect("is right");
    assert_eq!(config.server.azure_pair, Some(("/srv/a.pem".into(), "/srv/a.key".into())));
    let face = config.azure.expect("is there");
    assert!(face.settings.hosts.contains_key("keys.internal"));
    let identity = face.identity.expect("is there");
    assert_eq!((identity.life, identity.imds_uids.as_slice()), (Duration::from_secs(3600), &[1000][..]));
    for (text, key) in [
        ("", "azure.listen"),
        ("listen = \"0.0.0.0:1\"", "azure.listen"),
        ("listen = \"127.0.0.1:1\"\nkey = \"k\"", "azure.certificate"),
        ("listen = \"127.0.0.1:1\"\ncertificate = \"k\"", "azure.key"),
        ("listen = \"127.0.0.1:1\"\nexternal_url = \"http://a\"", "azure.external_url"),
        ("listen = \"127.0.0.1:1\"\nauthority = \"https://login.example\"", "azure.authority"),
        ("listen = \"127.0.0.1:1\"\nauthority = \"https://login.example/a=b\"", "azure.authority"),
        ("listen = \"127.0.0.1:1\"\nmanaged_hsm = [\"a b\"]", "azure.managed_hsm"),
        ("listen = \"127.0.0.1:1\"\n[azure.hosts]\nx = \"a--b\"", "azure.hosts.x"),
        (
            "listen = \"127.0.0.1:1\"\n[azure.identity]\nlisten = \"10.0.0.1:1\"\nheader_file = \"h\"\ntoken = \"a\"",
            "azure.identity.listen",
        ),
        (
            "listen = \"127.0.0.1:1\"\n[azure.identity]\nlisten = \"[::1]:1\"\nheader_file = \"h\"\ntoken = \"A\"",
            "azure.identity.token",
        ),
        ("listen = \"127.0.0.1:1\"\nvault = \"dev\"", "azure.vault"),
    ] {
        let found = faults(&azure(text));
        assert!(found.iter().any(|fault| fault.starts_with(&format!("{key}:"))), "{text}: {found:?}");
    }
}
