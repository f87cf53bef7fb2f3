//! Events: told to those who watch, and delivered to webhooks that do not behave.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    dev::{Dev, PROGRAM, openssl, text},
    production::{Site, private},
};

/// Nothing here takes so long, unless it hangs.
const HANGS: Duration = Duration::from_secs(90);

/// Events as `event watch` shows them, and where it says to go on.
fn watched(dev: &Dev, more: &[&str]) -> (Vec<Value>, String) {
    let arguments = [&["event", "watch", "--no-follow", "-o", "json"][..], more].concat();
    let output = dev.run(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stderr).expect("text");
    let shown = String::from_utf8(output.stdout).expect("text");
    let events = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let place = said.lines().find_map(|line| line.split_once("--after ")).expect("it says where to go on");
    (events, place.1.trim().to_owned())
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("a type").trim_start_matches("strongroom.v1.")).collect()
}

#[test]
fn what_happens_to_keys_is_told_in_order_and_again_from_any_place() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    dev.ok(&["key", "rotation-policy", "set", "k", "--rotate-after", "P90D"]);
    dev.ok(&["key", "rotate", "k"]);
    let (events, place) = watched(&dev, &["--from-beginning"]);
    assert_eq!(kinds(&events), ["KeyNewVersionCreated", "KeyRotationPolicyUpdated", "KeyNewVersionCreated"]);
    assert!(
        events[1]["subject"] == "vaults/dev/keys/k"
            && events[0]["principal"].as_str().expect("who").starts_with("spiffe:")
    );
    dev.ok(&["key", "delete", "k"]);
    dev.ok(&["key", "purge", "k"]);
    let (later, _) = watched(&dev, &["--after", &place]);
    assert_eq!(kinds(&later), ["KeyDeleted", "KeyPurged"]);
    assert!(later[0]["dueTime"].is_string());
    let (all, _) = watched(&dev, &["--from-beginning", "--all-vaults", "--type", "strongroom.v1.KeyPurged"]);
    assert_eq!(all, later[1..]);
    assert_eq!(watched(&dev, &["--from-beginning", "--vault", "dev"]).0.len(), 5);
    let wrong = dev.fails(&["event", "watch", "--no-follow", "--after", "999999999.0"]);
    assert!(wrong.contains("no event of this store stands there"), "{wrong}");
    let wrong = dev.fails(&["event", "watch", "--no-follow", "--type", "KeyDeleted"]);
    assert!(wrong.contains("strongroom.v1.KeyDeleted"), "{wrong}");
    let wrong = dev.fails(&["webhook", "dead-letters", "ops"]);
    assert!(wrong.contains("webhooks/ops does not exist"), "{wrong}");
}

/// A delivery, as it came.
#[derive(Clone, Debug)]
struct Posted {
    head: String,
    body: Vec<u8>,
}

impl Posted {
    fn header(&self, name: &str) -> &str {
        let wanted = format!("{name}: ");
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&wanted));
        line.map(|line| &line[wanted.len()..]).unwrap_or_else(|| panic!("{name} in {}", self.head))
    }
}

/// What a receiver does with a delivery.
#[derive(Clone, Copy)]
enum Manner {
    Answer(&'static str),
    /// Says nothing, and keeps the connection.
    Hang,
}

const OK: Manner = Manner::Answer("HTTP/1.1 204 No Content\r\n\r\n");

/// A receiver on loopback, whose manner can be changed.
struct Receiver {
    url: String,
    manner: Arc<Mutex<Manner>>,
    posted: mpsc::Receiver<Posted>,
}

impl Receiver {
    fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let url = format!("http://{}/in", listener.local_addr().expect("an address"));
        let (manner, (sender, posted)) = (Arc::new(Mutex::new(manner)), mpsc::channel());
        let shared = Arc::clone(&manner);
        thread::spawn(move || {
            let mut hung = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(posted) = read(&mut stream) else { continue };
                match *shared.lock().expect("a manner") {
                    Manner::Answer(answer) => drop(stream.write_all(answer.as_bytes())),
                    Manner::Hang => hung.push(stream),
                }
                if sender.send(posted).is_err() {
                    return;
                }
            }
        });
        Self { url, manner, posted }
    }

    fn behave(&self, manner: Manner) {
        *self.manner.lock().expect("a manner") = manner;
    }

    fn next(&self) -> Posted {
        self.posted.recv_timeout(HANGS).expect("something is delivered")
    }
}

fn read(stream: &mut TcpStream) -> Option<Posted> {
    stream.set_read_timeout(Some(HANGS)).ok()?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let length: usize = length?.trim().parse().ok()?;
        if bytes.len() >= end + 4 + length {
            return Some(Posted { head, body: bytes[end + 4..].to_vec() });
        }
    }
}

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn with_webhooks(hooks: &[(&str, &Receiver, &str)]) -> Site {
    let site = Site::new();
    private(&site.path("webhook.secret"), format!("whsec_{SECRET}\n"));
    let mut config = fs::read_to_string(site.path("strongroom.toml")).expect("reads");
    for (name, receiver, more) in hooks {
        config.push_str(&format!(
            "\n[[webhooks]]\nname = \"{name}\"\nurl = \"{}\"\nallow_http_loopback = true\n\
             signature_key_file = \"webhook.secret\"\n{more}\n",
            receiver.url
        ));
    }
    fs::write(site.path("strongroom.toml"), config).expect("writes");
    site.init();
    site
}

const HERE: &str = "allowed_ranges = [\"127.0.0.0/8\"]";

/// The signature of a delivery, by another implementation.
fn signature(site: &Site, posted: &Posted) -> String {
    let key: String =
        openssl(&["base64", "-d", "-A", "-in", text(&file(site, "secret", format!("{SECRET}\n").as_bytes()))])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
    let signed = [
        posted.header("webhook-id").as_bytes(),
        b".",
        posted.header("webhook-timestamp").as_bytes(),
        b".",
        &posted.body,
    ];
    let signed = file(site, "signed", &signed.concat());
    let mac = format!("hexkey:{key}");
    let made = openssl(&["dgst", "-sha256", "-mac", "HMAC", "-macopt", &mac, "-binary", text(&signed)]);
    let made = openssl(&["base64", "-A", "-in", text(&file(site, "mac", &made))]);
    format!("v1,{}", String::from_utf8(made).expect("base64").trim())
}

fn file(site: &Site, name: &str, content: &[u8]) -> std::path::PathBuf {
    let path = site.path(name);
    fs::write(&path, content).expect("writes");
    path
}

fn waits(site: &Site, name: &str) -> (String, String) {
    let listed: Value = serde_json::from_str(&site.client_ok(&["webhook", "list", "-o", "json"])).expect("JSON");
    let hook = listed.as_array().expect("a list").iter().find(|hook| hook["name"] == format!("webhooks/{name}"));
    let count = |field: &str| hook.map_or("none", |hook| hook[field].as_str().expect("a number")).to_owned();
    (count("pending"), count("deadLetters"))
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < HANGS, "{what}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_webhook_is_told_of_every_event_whatever_it_does_first() {
    let receiver = Receiver::new(OK);
    let site = with_webhooks(&[("ops", &receiver, &format!("{HERE}\nwithin_ms = 1000"))]);
    let serving = site.serve();
    // It is told of what comes from now on.
    until("the webhook begins", || waits(&site, "ops").0 == "0");
    site.client_ok(&["vault", "create", "main"]);
    site.client_ok(&["key", "create", "k", "--type", "EC"]);
    let posted = receiver.next();
    assert_eq!(posted.header("content-type"), "application/cloudevents+json");
    assert_eq!(posted.header("webhook-signature"), signature(&site, &posted));
    let event: Value = serde_json::from_slice(&posted.body).expect("JSON");
    assert_eq!((&event["specversion"], &event["type"]), (&"1.0".into(), &"strongroom.v1.KeyNewVersionCreated".into()));
    assert!(
        event["id"] == posted.header("webhook-id") && event["data"]["key"] == "k" && event["data"]["vault"] == "main"
    );
    // It fails, and is told again with the same id.
    receiver.behave(Manner::Answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"));
    site.client_ok(&["key", "delete", "k"]);
    let first = receiver.next();
    receiver.behave(OK);
    let again = receiver.next();
    assert!(first.header("webhook-id") == again.header("webhook-id") && first.body == again.body);
    // It hangs, and the server is killed meanwhile.
    until("it is noted", || waits(&site, "ops").0 == "0");
    receiver.behave(Manner::Hang);
    site.client_ok(&["key", "recover", "k"]);
    let hung = receiver.next();
    drop(serving);
    receiver.behave(OK);
    let _serving = site.serve();
    assert_eq!(receiver.next().header("webhook-id"), hung.header("webhook-id"));
    until("nothing waits any more", || waits(&site, "ops") == ("0".into(), "0".into()));
}

#[test]
fn what_is_given_up_can_be_listed_and_delivered_again() {
    let receivers: Vec<Receiver> = [
        Manner::Answer("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"),
        Manner::Answer(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
        ),
        Manner::Hang,
        Manner::Answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nless"),
        Manner::Answer("220 mail.example.org ESMTP\r\n"),
        OK,
    ]
    .into_iter()
    .map(Receiver::new)
    .collect();
    let [gone, redirects, hangs, lies, other, private] = &receivers[..] else { panic!("six") };
    let quick = format!("{HERE}\nwithin_ms = 500\ntypes = [\"strongroom.v1.KeyDeleted\"]");
    let site = with_webhooks(&[
        ("gone", gone, &quick),
        ("redirects", redirects, &quick),
        ("hangs", hangs, &quick),
        ("lies", lies, &quick),
        ("other", other, &quick),
        ("private", private, "types = [\"strongroom.v1.KeyDeleted\"]\nvaults = [\"main\"]"),
    ]);
    let serving = site.serve();
    let names = ["gone", "redirects", "hangs", "lies", "other", "private"];
    until("all begin", || names.iter().all(|name| waits(&site, name).0 == "0"));
    site.client_ok(&["vault", "create", "main"]);
    site.client_ok(&["key", "create", "k", "--type", "EC"]);
    site.client_ok(&["key", "delete", "k"]);
    let id = gone.next().header("webhook-id").to_owned();
    until("it is given up", || waits(&site, "gone").1 == "1");
    let letters: Value =
        serde_json::from_str(&site.client_ok(&["webhook", "dead-letters", "gone", "-o", "json"])).expect("JSON");
    assert!(
        letters[0]["event"]["id"] == id && letters[0]["failure"].as_str().expect("why").contains("410"),
        "{letters}"
    );
    gone.behave(OK);
    let other_id = site.client(&["webhook", "replay", "gone", "--event", "9a2f5a30-6f2e-4d58-9d2b-0a0f4f5b8b11"]);
    assert_eq!(other_id.status.code(), Some(2));
    let replayed = site.client_ok(&["webhook", "replay", "gone", "--event", &id, "-o", "json"]);
    assert!(replayed.contains("\"1\""), "{replayed}");
    assert_eq!(gone.next().header("webhook-id"), id);
    // The others are tried again, and nobody is told what is not his.
    for receiver in [redirects, hangs, lies, other] {
        let (first, again) = (receiver.next(), receiver.next());
        assert!(first.header("webhook-id") == id && again.header("webhook-id") == id);
    }
    assert!(private.posted.try_recv().is_err(), "a private address is not connected to");
    assert_eq!(waits(&site, "private"), ("1".into(), "0".into()));
    serving.stop();
    let said = fs::read_to_string(site.path("serve.log")).expect("a log");
    for why in ["redirects (status 307)", "did not answer within", "is not public", "cannot be read"] {
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn a_webhook_that_cannot_be_is_refused_before_the_service_starts() {
    let receiver = Receiver::new(OK);
    let site = Site::new();
    let good = fs::read_to_string(site.path("strongroom.toml")).expect("reads");
    private(&site.path("webhook.secret"), "a secret that is long enough for everybody\n");
    let check = |hook: &str| {
        fs::write(site.path("strongroom.toml"), format!("{good}\n[[webhooks]]\n{hook}\n")).expect("writes");
        let file = site.path("strongroom.toml");
        let output = std::process::Command::new(PROGRAM).args(["config", "check", text(&file)]).output().expect("runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).expect("text"))
    };
    let base = "name = \"ops\"\nsignature_key_file = \"webhook.secret\"\n";
    for (hook, why) in [
        (format!("{base}url = \"http://example.org/\""), "https://"),
        (format!("{base}url = \"{}\"", receiver.url), "allow_http_loopback"),
        (format!("{base}url = \"https://u:p@example.org/\""), "https://"),
        (format!("{base}url = \"https://example.org/\"\ntypes = [\"KeyDeleted\"]"), "is no type"),
        (format!("{base}url = \"https://example.org/\"\nallowed_ranges = [\"10.0.0.1/8\"]"), "zeros behind its prefix"),
        (format!("{base}url = \"https://example.org/\"\nsecret = \"x\""), "secret"),
        (
            "name = \"Ops!\"\nsignature_key_file = \"webhook.secret\"\nurl = \"https://example.org/\"".to_owned(),
            "a-z, 0-9",
        ),
        ("name = \"ops\"\nurl = \"https://example.org/\"".to_owned(), "signature_key_file"),
        (
            "name = \"ops\"\nsignature_key_file = \"nowhere\"\nurl = \"https://example.org/\"".to_owned(),
            "cannot be read",
        ),
    ] {
        let (passes, said) = check(&hook);
        assert!(!passes && said.contains(why), "{hook}: {said}");
    }
    let (passes, said) = check(&format!("{base}url = \"https://example.org/\""));
    assert!(passes, "{said}");
}
