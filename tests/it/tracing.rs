//! Traces of requests, as a collector gets them: connected, without secrets, and at nobody's cost when it is in trouble.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64ct::{Base64, Encoding as _};
use futures_util::future::join_all;
use serde_json::Value;
use strongroom_proto::v1::{
    BatchRequest, DecryptRequest, EncryptRequest, GenerateRandomBytesRequest, OperationRequest, SignRequest,
    StreamRequest, crypto_client::CryptoClient, operation_request::Operation,
};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use crate::{
    production::{Serving, Site},
    rpc::sign,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const PLAINTEXT: &[u8] = b"what nobody but its owner is to see";

/// What a collector does with what it is sent.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Takes,
    Hangs,
}

/// A collector on loopback, and what it was sent.
struct Collector {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let url = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&bodies);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                if manner == Manner::Hangs {
                    kept.push(stream);
                } else if let Some(body) = posted(&mut stream) {
                    taken.lock().expect("sound").push(body);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
                }
            }
        });
        Self { url, bodies }
    }

    fn spans(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().expect("sound");
        let spans = |body: &Value| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned();
        bodies.iter().flat_map(|body| spans(body).expect("spans")).collect()
    }

    /// The spans of that trace, once a request's own is among them: it ends last.
    fn trace(&self, id: &str, root: &str) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let spans: Vec<Value> = self.spans().into_iter().filter(|span| span["traceId"] == id).collect();
            if spans.iter().any(|span| span["name"] == root) {
                return spans;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{spans:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The body of a POST, if it is one.
fn posted(stream: &mut TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok()?;
    assert!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse().expect("a length"),
            Some(("content-type", value)) => assert_eq!(value, "application/json"),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).expect("JSON"))
}

/// A server, traced as the lines say, with an EC key and an AES key.
fn served(lines: &str) -> (Site, Serving) {
    let site = Site::new();
    let file = site.path("strongroom.toml");
    let config = fs::read_to_string(&file).expect("reads");
    assert!(config.contains("\n[tracing]\n"));
    fs::write(&file, config.replace("\n[tracing]\n", &format!("\n[tracing]\n{lines}\n"))).expect("writes");
    site.init();
    let serving = site.serve();
    site.client_ok(&["vault", "create", "main"]);
    site.client_ok(&["key", "create", "signer", "--type", "EC"]);
    site.client_ok(&["key", "create", "data", "--type", "oct"]);
    (site, serving)
}

fn tracing(collector: &Collector, more: &str) -> String {
    format!("otlp_endpoint = \"{}\"\nallow_http_loopback = true\n{more}", collector.url)
}

async fn connect(site: &Site) -> CryptoClient<Channel> {
    let read = |name: &str| fs::read(site.path("tls").join(name)).expect("reads");
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("clients.pem")))
        .identity(Identity::from_pem(read("admin.pem"), read("admin.key")));
    let endpoint = Channel::from_shared(site.endpoint()).expect("a URI").timeout(Duration::from_secs(60));
    CryptoClient::new(endpoint.tls_config(tls).expect("TLS").connect().await.expect("connects"))
}

/// A request with a parent that its caller follows, of a trace with that last digit.
fn following<M>(message: M, digit: char) -> Request<M> {
    let mut request = Request::new(message);
    let parent = format!("00-{}{digit}-{SPAN}-01", &TRACE[..31]);
    request.metadata_mut().insert("traceparent", parent.parse().expect("ASCII"));
    request
}

fn trace(digit: char) -> String {
    format!("{}{digit}", &TRACE[..31])
}

fn random() -> GenerateRandomBytesRequest {
    GenerateRandomBytesRequest { length_bytes: 16 }
}

fn signing() -> SignRequest {
    sign("vaults/main/keys/signer")
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let attributes = span["attributes"].as_array().expect("attributes");
    let value = &attributes.iter().find(|attribute| attribute["key"] == key)?["value"];
    value["stringValue"].as_str().or_else(|| value["intValue"].as_str())
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"))
}

fn time(span: &Value, key: &str) -> u64 {
    span[key].as_str().expect("text").parse().expect("a number")
}

/// Every span but that of the request has its parent among them, and lies within it.
fn assert_nested(spans: &[Value]) {
    let by_id: HashMap<&str, &Value> =
        spans.iter().map(|span| (span["spanId"].as_str().expect("text"), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "no id is there twice");
    for span in spans.iter().filter(|span| span["kind"] != 2) {
        let parent = by_id[span["parentSpanId"].as_str().expect("has one")];
        let (begin, end) = (time(span, "startTimeUnixNano"), time(span, "endTimeUnixNano"));
        let within = time(parent, "startTimeUnixNano") <= begin && begin <= end;
        assert!(within && end <= time(parent, "endTimeUnixNano"), "{span} in {parent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_leaves_connected_spans_and_no_secret() {
    let collector = Collector::new(Manner::Takes);
    let (site, _serving) = served(&tracing(&collector, "sample_ratio = 0\ntrust_parent = true"));
    let mut crypto = connect(&site).await;
    assert!(collector.spans().is_empty(), "without a parent the ratio decides");
    let answer = crypto.sign(following(signing(), '1')).await.expect("signs");
    assert!(answer.metadata().get("traceparent").is_none() && answer.metadata().get("tracestate").is_none());
    let request_id = answer.metadata().get("x-request-id").expect("is there").to_str().expect("text").to_owned();

    let method = "strongroom.v1.Crypto/Sign";
    let spans = collector.trace(&trace('1'), method);
    let (root, operation) = (named(&spans, method), named(&spans, "keys.sign"));
    assert_eq!((root["parentSpanId"].as_str(), root["kind"].as_u64()), (Some(SPAN), Some(2)));
    assert_eq!(operation["parentSpanId"], root["spanId"]);
    for inner in ["hsm.queue", "hsm.worker", "audit.append"] {
        assert_eq!(named(&spans, inner)["parentSpanId"], operation["spanId"], "{inner}");
    }
    assert_eq!(spans.len(), 5, "{spans:?}");
    assert_nested(&spans);
    let says = |span: &str, key: &str| attribute(named(&spans, span), key).map(str::to_owned);
    for (span, key, value) in [
        (method, "rpc.system", "grpc"),
        (method, "rpc.service", "strongroom.v1.Crypto"),
        (method, "rpc.method", "Sign"),
        (method, "rpc.grpc.status_code", "0"),
        (method, "strongroom.request_id", &request_id),
        ("keys.sign", "strongroom.vault", "main"),
        ("keys.sign", "strongroom.key", "signer"),
        ("keys.sign", "strongroom.outcome", "done"),
        ("hsm.worker", "strongroom.hsm.lane", "medium"),
        ("audit.append", "strongroom.audit.durability", "write"),
    ] {
        assert_eq!(says(span, key).as_deref(), Some(value), "{span} {key}");
    }
    assert!(says("hsm.worker", "strongroom.hsm.worker").is_some());
    let (worker, own) = (named(&spans, "hsm.worker"), says("hsm.worker", "strongroom.hsm.service_ns"));
    let took = time(worker, "endTimeUnixNano") - time(worker, "startTimeUnixNano");
    assert!((1..=took).contains(&own.expect("is said").parse().expect("a number")));
    many_at_once(&collector, &mut crypto).await;
    nothing_secret(&collector, &mut crypto).await;
}

/// A batch has one operation, and so has each message of a stream.
async fn many_at_once(collector: &Collector, crypto: &mut CryptoClient<Channel>) {
    let operations = [Operation::Sign(signing()), Operation::Sign(signing()), Operation::GenerateRandomBytes(random())];
    let messages = operations.map(|operation| OperationRequest { operation: Some(operation) });
    let batch = BatchRequest { operations: messages.to_vec() };
    crypto.batch(following(batch, '2')).await.expect("done");
    let spans = collector.trace(&trace('2'), "strongroom.v1.Crypto/Batch");
    assert_nested(&spans);
    assert_eq!(attribute(named(&spans, "keys.batch"), "strongroom.batch.operations"), Some("3"));
    let mut calls: Vec<_> = spans
        .iter()
        .filter(|span| span["name"] == "hsm.worker")
        .map(|span| (attribute(span, "strongroom.hsm.lane"), attribute(span, "strongroom.hsm.calls")))
        .collect();
    calls.sort_unstable();
    assert_eq!(calls, [(Some("medium"), Some("2")), (Some("short"), Some("1"))]);

    let stream: Vec<StreamRequest> = (1..=2)
        .map(|id| StreamRequest {
            id,
            operation: Some(OperationRequest { operation: Some(Operation::Sign(signing())) }),
        })
        .collect();
    let mut answers = crypto.stream(following(tokio_stream::iter(stream), '3')).await.expect("is opened").into_inner();
    while answers.message().await.expect("answers").is_some() {}
    let spans = collector.trace(&trace('3'), "strongroom.v1.Crypto/Stream");
    assert_nested(&spans);
    assert_eq!(spans.iter().filter(|span| span["name"] == "keys.sign").count(), 2);
    assert_eq!(spans.len(), 1 + 2 * 4, "{spans:?}");
}

async fn nothing_secret(collector: &Collector, crypto: &mut CryptoClient<Channel>) {
    let request = EncryptRequest {
        name: "vaults/main/keys/data".to_owned(),
        algorithm: "A256GCM".to_owned(),
        plaintext: PLAINTEXT.to_vec(),
        additional_data: b"bound to it".to_vec(),
        ..EncryptRequest::default()
    };
    let made = crypto.encrypt(following(request, '4')).await.expect("encrypts").into_inner();
    let request = DecryptRequest {
        name: made.name.clone(),
        algorithm: "A256GCM".to_owned(),
        ciphertext: made.ciphertext.clone(),
        iv: made.iv.clone(),
        tag: made.tag.clone(),
        additional_data: b"bound to it".to_vec(),
        ..DecryptRequest::default()
    };
    let wrong = DecryptRequest { tag: vec![0; 16], ..request.clone() };
    crypto.decrypt(following(request, '5')).await.expect("decrypts");
    crypto.decrypt(following(wrong, '6')).await.expect_err("another tag");
    collector.trace(&trace('5'), "strongroom.v1.Crypto/Decrypt");
    let refused = collector.trace(&trace('6'), "strongroom.v1.Crypto/Decrypt");
    assert_eq!(attribute(named(&refused, "keys.decrypt"), "error.type"), Some("DECRYPTION_FAILED"));
    assert!(refused.iter().all(|span| span.get("status").is_none()), "the caller's doing is no error of ours");
    let all = collector.bodies.lock().expect("sound").iter().map(Value::to_string).collect::<String>();
    let secrets = [PLAINTEXT, b"bound to it", &made.ciphertext, &made.tag, &made.iv, b"spiffe://example.org/admin"];
    for secret in secrets {
        let forms = [
            String::from_utf8_lossy(secret).into_owned(),
            Base64::encode_string(secret),
            base16ct::lower::encode_string(secret),
        ];
        for form in forms {
            assert!(!all.contains(&form), "{form}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_is_not_trusted_is_linked_to() {
    let collector = Collector::new(Manner::Takes);
    let (site, _serving) = served(&tracing(&collector, "sample_ratio = 1"));
    let answer = connect(&site).await.sign(following(signing(), '7')).await.expect("signs");
    let request_id = answer.metadata().get("x-request-id").expect("is there").to_str().expect("text").replace('-', "");
    let spans = collector.trace(&request_id, "strongroom.v1.Crypto/Sign");
    let root = named(&spans, "strongroom.v1.Crypto/Sign");
    assert!(root.get("parentSpanId").is_none());
    assert_eq!((&root["links"][0]["traceId"], &root["links"][0]["spanId"]), (&trace('7').into(), &SPAN.into()));
    assert_nested(&spans);
}

/// The figures of a server.
fn figures(site: &Site) -> String {
    let log = fs::read_to_string(site.path("serve.log")).expect("reads");
    let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut addresses =
        lines.filter_map(|line| line["fields"]["metrics"].as_str().or(line["metrics"].as_str()).map(str::to_owned));
    let address = addresses.next().unwrap_or_else(|| panic!("no address in {log}"));
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("writes");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("reads");
    said
}

fn spans_counted(site: &Site, outcome: &str) -> u64 {
    let wanted = format!("strongroom_trace_spans_total{{outcome=\"{outcome}\"}} ");
    figures(site).lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_costs_nobody_anything() {
    let collector = Collector::new(Manner::Hangs);
    let (site, serving) = served(&tracing(&collector, "sample_ratio = 1"));
    let crypto = connect(&site).await;
    let begun = Instant::now();
    // Each leaves five spans: more than the queue holds.
    for _ in 0..40 {
        let calls = (0..32).map(|_| {
            let mut crypto = crypto.clone();
            async move { crypto.generate_random_bytes(random()).await }
        });
        for answer in join_all(calls).await {
            answer.expect("is answered");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(spans_counted(&site, "dropped") > 0);
    assert_eq!(spans_counted(&site, "exported"), 0);
    // It does not wait for it at its end either.
    let begun = Instant::now();
    serving.stop();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_it_comes_nothing_is_traced() {
    let (site, serving) = served("");
    connect(&site).await.sign(following(signing(), '8')).await.expect("signs");
    assert!(!figures(&site).contains("strongroom_trace_spans_total{"));
    serving.stop();
    assert!(!fs::read_to_string(site.path("serve.log")).expect("reads").contains("sending traces"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_sent_at_the_end() {
    let collector = Collector::new(Manner::Takes);
    let (site, serving) = served(&tracing(&collector, "sample_ratio = 0\ntrust_parent = true"));
    connect(&site).await.sign(following(signing(), '9')).await.expect("signs");
    serving.stop();
    let spans: Vec<Value> =
        collector.spans().into_iter().filter(|span| span["traceId"] == trace('9').as_str()).collect();
    assert_eq!(spans.len(), 5);
}
