//! The service's own keys rotate while clients work: none of them sees a failed call, and whatever is killed on the way
//! comes to one end.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use serde_json::Value;
use strongroom::{
    audit::{self, Against},
    failpoint,
};

use crate::{
    dev::{Dev, Start, children, signal, text},
    kills::{objects, token_objects},
    production::{Site, private},
};

fn json(dev: &Dev, arguments: &[&str]) -> Value {
    serde_json::from_str(&dev.ok(&[arguments, &["-o", "json"]].concat())).expect("JSON")
}

/// The names of the issuer's keys, oldest first.
fn issuer_keys(dev: &Dev) -> Vec<String> {
    let shown = json(dev, &["own-keys", "show"]);
    let keys = shown["issuerKeys"].as_array().expect("an array").iter();
    keys.map(|key| key["name"].as_str().expect("a name").to_owned()).collect()
}

/// Every intent of the stopped server has its outcome.
fn all_is_settled(dev: &Dev, after: &str) {
    let verified = audit::verify(&dev.data().join("audit"), &Against::default());
    assert!(verified.unwrap_or_else(|error| panic!("{after}: {error}")).open.is_empty(), "after {after}");
}

/// Lets three clients work until `work` is done: one signs, one has tokens issued and uses them, one uses a token that it
/// has. None of their calls may fail.
fn while_clients_work(dev: &Dev, work: impl FnOnce()) {
    let token = dev.path("held");
    dev.ok(&["access", "grant", "--principal", "token:ci", "--role", "Key Vault Reader", "--scope", "vaults/dev"]);
    dev.ok(&["token", "create", "ci", "--out", text(&token)]);
    let file = dev.file("file", "text");
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let until_done = |name: &str, call: &dyn Fn()| {
        while !done.load(Ordering::Acquire) {
            call();
            calls.fetch_add(1, Ordering::AcqRel);
        }
        assert!(!name.is_empty());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sig = dev.path("sig");
            until_done("signs", &|| {
                dev.ok(&["key", "sign", "k", "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)]);
            });
        });
        scope.spawn(|| {
            let fresh = dev.path("fresh");
            until_done("issues", &|| {
                dev.ok(&["token", "create", "ci", "--out", text(&fresh)]);
                dev.ok(&["vault", "show", "dev", "--token-file", text(&fresh)]);
            });
        });
        scope.spawn(|| {
            until_done("uses", &|| {
                dev.ok(&["vault", "show", "dev", "--token-file", text(&token)]);
            });
        });
        // A failed one must not leave the others going for ever.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Release);
        worked.expect("works");
    });
    assert!(calls.load(Ordering::Acquire) > 5, "they worked");
}

#[test]
fn tokens_are_issued_and_used_while_their_key_rotates() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    while_clients_work(&dev, || {
        for n in 2..8 {
            let rotated = json(&dev, &["own-keys", "rotate-issuer"]);
            let keys = issuer_keys(&dev);
            assert!((n - 1..=n).contains(&keys.len()) && rotated["issuerKey"]["name"] == keys[keys.len() - 1].as_str());
        }
    });
    let token = dev.path("held");
    let rotated = json(&dev, &["own-keys", "rotate-issuer", "--revoke"]);
    assert!(rotated["revokedTokens"].as_i64().expect("a number") > 1, "{rotated}");
    let refused = dev.run(&["vault", "show", "dev", "--token-file", text(&token)]);
    assert!(!refused.status.success());
    assert_eq!(issuer_keys(&dev), [rotated["issuerKey"]["name"].as_str().expect("a name")]);
    dev.ok(&["token", "create", "ci", "--out", text(&token)]);
    dev.ok(&["vault", "show", "dev", "--token-file", text(&token)]);
}

#[test]
fn the_issuers_key_rotates_through_a_kill_at_every_point() {
    let mut dev = Dev::new();
    dev.ok(&["access", "grant", "--principal", "token:ci", "--role", "Key Vault Reader", "--scope", "vaults/dev"]);
    let token = dev.path("token");
    dev.ok(&["token", "create", "ci", "--out", text(&token)]);
    let points = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::SERVICE_AFTER_GENERATE,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::SERVICE_BEFORE_OUTCOME,
    ];
    for point in points {
        let before = issuer_keys(&dev);
        dev.stop();
        dev.start(Start { failpoints: &format!("{point}=kill@1"), ..Start::default() });
        let id = uuid::Uuid::new_v4().to_string();
        let rotate = ["--timeout", "20", "own-keys", "rotate-issuer", "--request-id", &id];
        assert!(!dev.run(&rotate).status.success(), "{point}");
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
        dev.start(Start::default());
        let after = issuer_keys(&dev);
        assert!(after.len() - before.len() <= 1, "{point}");
        dev.ok(&["vault", "show", "dev", "--token-file", text(&token)]);
        dev.ok(&rotate);
        assert_eq!(issuer_keys(&dev).len(), before.len() + 1, "{point}: once");
        dev.stop();
        all_is_settled(&dev, point);
        dev.start(Start::default());
    }
    // The same with all that was before.
    dev.stop();
    dev.start(Start { failpoints: "store.after_commit=kill@1", ..Start::default() });
    assert!(!dev.run(&["--timeout", "20", "own-keys", "rotate-issuer", "--revoke"]).status.success());
    assert_eq!(dev.wait_dead().signal(), Some(9));
    dev.start(Start::default());
    assert_eq!(issuer_keys(&dev).len(), 1);
    assert_eq!(json(&dev, &["token", "list"]).as_array().map(Vec::len), Some(0));
    assert!(!dev.run(&["vault", "show", "dev", "--token-file", text(&token)]).status.success());
    dev.stop();
    all_is_settled(&dev, "a revocation");
    let records: String = fs::read_dir(dev.data().join("audit/journal"))
        .expect("a folder")
        .filter_map(|entry| fs::read_to_string(entry.expect("an entry").path()).ok())
        .collect();
    assert!(records.contains("taken away with 1 tokens"), "the intent says it");
}

#[test]
fn the_pin_changes_under_a_running_service() {
    let site = Site::new();
    site.init();
    let mut server = site.serve();
    site.client_ok(&["vault", "create", "main"]);
    site.client_ok(&["--vault", "main", "key", "create", "k", "--type", "EC"]);
    let file = site.path("text");
    fs::write(&file, "text").expect("writes");
    let sign = || {
        let sig = site.path("sig");
        let sign = ["key", "sign", "k", "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)];
        site.client_ok(&[&["--vault", "main"], &sign[..]].concat());
    };
    let pin = || fs::read_to_string(site.path("pin")).expect("reads");
    for (n, new) in ["86420135", "97531024"].into_iter().enumerate() {
        private(&site.path("new-pin"), format!("{new}\n"));
        let said = site.operator_ok(&["pin", "change", "--new-pin-file", text(&site.path("new-pin")), "-o", "json"]);
        assert!(said.contains("\"wasBegun\": false"), "{said}");
        assert_eq!(pin(), format!("{new}\n"));
        for worker in children(server.id()) {
            sign();
            // The next one logs in with the new PIN.
            signal(worker, "KILL");
        }
        sign();
        if n == 0 {
            server.stop();
            server = site.serve();
        }
    }
    // As if it had been killed between the token and the file.
    private(&site.path("pin.new"), "97531024\n");
    private(&site.path("pin"), "86420135\n");
    for worker in children(server.id()) {
        signal(worker, "KILL");
        sign();
    }
    assert_eq!(pin(), "97531024\n", "a worker has finished it");
    private(&site.path("pin.new"), "11223344\n");
    let said = site.operator_ok(&["pin", "change", "-o", "json"]);
    assert!(said.contains("\"wasBegun\": true") && pin() == "11223344\n", "{said}");
    let refused = site.operator(&["pin", "change", "--new-pin-file", text(&site.path("pin"))]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("has already"), "{said}");
    sign();
    server.stop();
}

/// A vault with a KEK of its own and the key `k` in it, and how many KEKs it has on the token.
fn own_vault(dev: &Dev) {
    dev.ok(&["vault", "create", "own", "--own-kek"]);
    dev.ok(&["--vault", "own", "key", "create", "k", "--type", "EC"]);
}

fn keks(dev: &Dev) -> usize {
    let shown = json(dev, &["vault", "show", "own"]);
    1 + shown["retiredKekIds"].as_array().map_or(0, Vec::len)
}

#[test]
fn keys_are_made_and_used_while_their_vaults_kek_rotates() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    own_vault(&dev);
    let (file, made) = (dev.file("text", "text"), AtomicBool::new(false));
    while_clients_work(&dev, || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let sig = dev.path("own.sig");
                let mut n = 0;
                while !made.load(Ordering::Acquire) {
                    dev.ok(&["--vault", "own", "key", "create", &format!("n{n}"), "--type", "EC"]);
                    dev.ok(&["--vault", "own", "key", "rotate", "k"]);
                    let sign = ["key", "sign", "k", "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)];
                    dev.ok(&[&["--vault", "own"], &sign[..]].concat());
                    n += 1;
                }
            });
            for n in 2..7 {
                dev.ok(&["vault", "rotate-kek", "own"]);
                assert_eq!(keks(&dev), n);
            }
            made.store(true, Ordering::Release);
        });
    });
}

#[test]
fn a_vaults_kek_rotates_through_a_kill_at_every_point() {
    let mut dev = Dev::new();
    let of_service = token_objects(&dev.data());
    own_vault(&dev);
    let file = dev.file("text", "text");
    let points = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::SERVICE_AFTER_GENERATE,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::SERVICE_BEFORE_OUTCOME,
    ];
    for point in points {
        let before = keks(&dev);
        dev.stop();
        dev.start(Start { failpoints: &format!("{point}=kill@1"), ..Start::default() });
        let id = uuid::Uuid::new_v4().to_string();
        let rotate = ["--timeout", "20", "vault", "rotate-kek", "own", "--request-id", &id];
        assert!(!dev.run(&rotate).status.success(), "{point}");
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
        dev.start(Start::default());
        assert_eq!(token_objects(&dev.data()), of_service + keks(&dev), "{point}: what no row names is reaped");
        dev.ok(&rotate);
        assert_eq!(keks(&dev), before + 1, "{point}: once");
        assert_eq!(token_objects(&dev.data()), of_service + keks(&dev), "{point}");
        let sig = dev.path("own.sig");
        let sign = ["key", "sign", "k", "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)];
        dev.ok(&[&["--vault", "own"], &sign[..]].concat());
        dev.stop();
        all_is_settled(&dev, point);
        dev.start(Start::default());
    }
    dev.ok(&["vault", "delete", "own"]);
    dev.ok(&["vault", "purge", "own"]);
    assert_eq!(token_objects(&dev.data()), of_service, "all of them are gone with the vault");
}

/// A site whose configuration says where a recovery key lies, with as many keys as that, and one that signs.
fn escrowed(keys: usize) -> Site {
    let site = Site::new();
    let path = site.path("strongroom.toml");
    let config = fs::read_to_string(&path).expect("reads");
    let with =
        config.replace("#recovery_key_file = \"/run/strongroom/recovery.pem\"", "recovery_key_file = \"put-here.pem\"");
    assert_ne!(with, config);
    fs::write(&path, with).expect("writes");
    site.init();
    let serving = site.serve();
    site.client_ok(&["vault", "create", "main"]);
    site.client_ok(&["key", "create", "signs", "--type", "EC"]);
    for n in 0..keys {
        let kind: &[&str] = if n % 2 == 0 { &["--type", "EC"] } else { &["--type", "oct", "--size", "256"] };
        site.client_ok(&[&["key", "create", &format!("k-{n}")], kind].concat());
    }
    serving.stop();
    site
}

fn shown(site: &Site) -> Value {
    serde_json::from_str(&site.client_ok(&["own-keys", "show", "-o", "json"])).expect("JSON")
}

/// Waits until no root takes another's place any more.
fn until_done(site: &Site) {
    for _ in 0..600 {
        if shown(site)["root"].get("rotation").is_none() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{}", shown(site));
}

#[test]
fn the_root_rotates_by_a_recovery_key_through_kills_at_random() {
    let site = escrowed(40);
    let mut serving = site.serve();
    let (file, sig) = (text(&site.path("pin")).to_owned(), text(&site.path("sig")).to_owned());
    let signs = || site.client_ok(&["key", "sign", "signs", "--algorithm", "ES256", "--in", &file, "--out", &sig]);
    let verifies =
        || site.client_ok(&["key", "verify", "signs", "--algorithm", "ES256", "--in", &file, "--signature", &sig]);
    signs();
    let before = objects(&site.path("tokens"));
    let rotate = ["own-keys", "rotate-root", "--recovery-key", text(&site.path("recovery.pub.pem")), "-o", "json"]
        .map(str::to_owned);
    let rotate: Vec<&str> = rotate.iter().map(String::as_str).collect();
    let refused = site.client(&rotate);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("is not there"), "{why}");
    fs::copy(site.path("recovery.pem"), site.path("put-here.pem")).expect("the holder puts it there");
    let prepared: Value = serde_json::from_str(&site.client_ok(&rotate)).expect("JSON");
    assert_eq!(prepared["id"], "", "{prepared}");
    let next = prepared["rotation"]["otherId"].as_str().expect("an id").to_owned();
    for kill_after_ms in [150, 700, 1300, 400] {
        std::thread::sleep(std::time::Duration::from_millis(kill_after_ms));
        // Which kills it, and its workers with it.
        drop(serving);
        serving = site.serve();
        verifies();
        signs();
    }
    until_done(&site);
    assert_eq!(shown(&site)["root"]["id"], next.as_str());
    verifies();
    serving.stop();
    // Whoever has the store of before, and the token of now, has nothing: the old root is gone.
    assert_eq!(objects(&site.path("tokens")), before);
    let serving = site.serve();
    verifies();
    for n in 0..40 {
        let name = format!("k-{n}");
        if n % 2 == 0 {
            site.client_ok(&["key", "sign", &name, "--algorithm", "ES256", "--in", &file, "--out", &sig]);
        } else {
            let (enc, dec) = (text(&site.path("enc")).to_owned(), text(&site.path("dec")).to_owned());
            site.client_ok(&["key", "encrypt", &name, "--algorithm", "A256GCM", "--in", &file, "--out", &enc]);
            site.client_ok(&["key", "decrypt", &name, "--algorithm", "A256GCM", "--in", &enc, "--out", &dec]);
        }
    }
    serving.stop();
    let verified = audit::verify(&site.path("audit"), &Against::default()).expect("the log proves itself");
    assert!(verified.open.is_empty(), "{:?}", verified.open);
}

/// Waits until the old log key is destroyed.
fn log_has_changed_over(dev: &Dev) {
    for _ in 0..300 {
        if json(dev, &["own-keys", "show"]).get("logKeyRotation").is_none() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("the old log key is there still");
}

#[test]
fn the_log_key_rotates_through_a_kill_at_every_point_and_the_first_one_leads_to_the_last() {
    let mut dev = Dev::new();
    let data = dev.data();
    let of_service = token_objects(&data);
    let key = json(&dev, &["audit", "key", "--data-dir", text(&data)])["key"].as_str().expect("a key").to_owned();
    let (state, witness_key) = (dev.path("witness"), dev.path("witness.key"));
    let look = |dev: &Dev| {
        let witness = ["audit", "witness", "--state", text(&state), "--witness-key", text(&witness_key)];
        dev.ok(&[&witness[..], &["--name", "witness.example.org/one", "--log-key", &key]].concat());
    };
    let points = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::SERVICE_AFTER_GENERATE,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::SERVICE_BEFORE_OUTCOME,
        "audit.after_checkpoint",
    ];
    for (n, point) in points.into_iter().enumerate() {
        look(&dev);
        dev.stop();
        dev.start(Start { failpoints: &format!("{point}=kill@{}", if n == 5 { 3 } else { 1 }), ..Start::default() });
        let id = uuid::Uuid::new_v4().to_string();
        let rotate = ["--timeout", "20", "own-keys", "rotate-log", "--request-id", &id];
        let answered = dev.run(&rotate).status.success();
        assert!(!answered || n == 5, "{point}");
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
        dev.start(Start::default());
        dev.ok(&rotate);
        log_has_changed_over(&dev);
        assert_eq!(token_objects(&data), of_service, "{point}: one log key");
        let shown = json(&dev, &["audit", "key", "--data-dir", text(&data)]);
        assert_eq!(shown["former"].as_array().map(Vec::len), Some(n + 1), "{point}: once");
        assert!(shown["former"][0]["until"].is_string(), "{shown}");
        dev.stop();
        all_is_settled(&dev, point);
        dev.start(Start::default());
    }
    look(&dev);
    let verified = json(&dev, &["audit", "verify", "--log", text(&data.join("audit")), "--key", &key]);
    assert_eq!(verified["handovers"].as_array().map(Vec::len), Some(points.len()), "{verified}");
    let shown = dev.ok(&["audit", "verify", "--log", text(&data.join("audit")), "--key", &key]);
    assert!(shown.contains("key handed over"), "{shown}");
    dev.ok(&["audit", "verify", "--data-dir", text(&data)]);
}

#[test]
fn the_log_key_rotates_while_clients_work() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    while_clients_work(&dev, || {
        for _ in 0..3 {
            dev.ok(&["own-keys", "rotate-log"]);
            log_has_changed_over(&dev);
        }
    });
}
