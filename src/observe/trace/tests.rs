//! Which requests are followed, which spans they leave, and how these look on the way.

use std::time::Duration;

use http::HeaderValue;
use serde_json::{Value as Json, json};
use strongroom_hsm::{
    algorithms::Lane,
    pool::{Served, Timing},
};

use super::*;
use crate::{audit::Outcome, export::otlp::Resource, outbound::Channel};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const SPAN: u64 = 0xb7ad_6b71_6920_3331;

fn tracer(sample_ratio: f64, trust_parent: bool) -> (Arc<Tracer>, mpsc::Receiver<Span>) {
    let url = "http://127.0.0.1:9/v1/traces".parse().expect("a URL");
    let channel = Channel { plain_loopback: true, ..Channel::default() };
    let (mut tracer, _) = Tracer::new(&Tracing { url, channel, sample_ratio, trust_parent }, "5a");
    let (spans, queue) = mpsc::channel(8);
    Arc::get_mut(&mut tracer).expect("nobody else has it").spans = spans;
    (tracer, queue)
}

fn headers(parent: Option<&'static str>) -> HeaderMap {
    parent
        .map(|parent| ("traceparent".parse().expect("a name"), HeaderValue::from_static(parent)))
        .into_iter()
        .collect()
}

fn taken(queue: &mut mpsc::Receiver<Span>) -> Vec<Span> {
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

fn ends(trace: &Trace) {
    trace.end("strongroom.v1.Crypto/Sign", Moment::now(), 0, false);
}

#[test]
fn about_as_many_are_followed_as_were_asked_for() {
    for (ratio, least, most) in [(0.0, 0, 0), (0.1, 800, 1200), (0.5, 4700, 5300), (1.0, 10_000, 10_000)] {
        let (tracer, _queue) = tracer(ratio, false);
        let followed = (0..10_000).filter(|_| tracer.begin(Uuid::new_v4(), &HeaderMap::new()).0.is_some()).count();
        assert!((least..=most).contains(&followed), "{ratio}: {followed}");
    }
}

#[test]
fn a_trusted_parent_decides_and_is_the_parent() {
    for ratio in [0.0, 1.0] {
        let (tracer, mut queue) = tracer(ratio, true);
        ends(&tracer.begin(Uuid::new_v4(), &headers(Some(PARENT))));
        let spans = taken(&mut queue);
        assert_eq!((spans[0].trace, spans[0].parent, spans[0].link), (TRACE, Some(SPAN), None));
        assert!(tracer.begin(Uuid::new_v4(), &headers(Some(UNSAMPLED))).0.is_none(), "{ratio}");
        // Without a parent, or with none that can be read, the ratio decides.
        for parent in [None, Some("00-0-0-01")] {
            assert_eq!(tracer.begin(Uuid::new_v4(), &headers(parent)).0.is_some(), ratio > 0.5);
        }
    }
}

#[test]
fn a_parent_that_is_not_trusted_decides_nothing_and_is_linked_to() {
    let (never, _queue) = tracer(0.0, false);
    assert!(never.begin(Uuid::new_v4(), &headers(Some(PARENT))).0.is_none());
    let (always, mut queue) = tracer(1.0, false);
    for parent in [PARENT, UNSAMPLED] {
        let request = Uuid::new_v4();
        ends(&always.begin(request, &headers(Some(parent))));
        let span = taken(&mut queue).pop().expect("one");
        assert_eq!((span.trace, span.parent), (request.as_u128(), None), "a trace of its own, named as the request is");
        let link = span.link.expect("is linked");
        assert_eq!((link.trace, link.span), (TRACE, SPAN));
    }
}

#[test]
fn what_begins_within_an_operation_lies_in_it() {
    let (tracer, mut queue) = tracer(1.0, false);
    let trace = tracer.begin(Uuid::new_v4(), &HeaderMap::new());
    let began = Moment::now();
    let place = Where::At(Scope::key(&"payments".parse().expect("a name"), &"invoices".parse().expect("a name")));
    let operation = trace.operation("keys.sign", &place, "r");
    let calls = trace.calls().expect("is followed");
    calls.ended(&timing(Lane::Medium, Some(1)));
    drop(calls);
    let append = trace.append(audit::Kind::Operation, Durability::Write);
    append.end(&Ok::<(), ()>(()));
    operation.conclude((Outcome::Failed, Some("UNAVAILABLE")));
    trace.end("strongroom.v1.Crypto/Sign", began, 14, true);
    let spans = taken(&mut queue);
    let names: Vec<&str> = spans.iter().map(|span| span.name).collect();
    assert_eq!(names, ["hsm.queue", "hsm.worker", "audit.append", "keys.sign", "strongroom.v1.Crypto/Sign"]);
    let (root, operation) = (spans[4].id, spans[3].id);
    assert_eq!(spans[4].parent, None);
    assert_eq!(spans[3].parent, Some(root));
    assert!(spans[..3].iter().all(|span| span.parent == Some(operation)));
    assert!(spans.iter().all(|span| span.trace == spans[0].trace && span.begin_ns <= span.end_ns));
    assert!(spans[3].failed && spans[4].failed && !spans[2].failed);
    // What begins after it is beside it.
    let _ = trace.operation("keys.get", &Where::Anywhere, "r");
    assert_eq!(taken(&mut queue)[0].parent, Some(root));
}

fn timing(lane: Lane, seat: Option<usize>) -> Timing {
    let now = Moment::now();
    let served = seat.map(|seat| Served {
        seat,
        sent_at: now.after(Duration::from_micros(10)),
        answered_at: now.after(Duration::from_micros(200)),
        service: Duration::from_micros(100),
        with_row: true,
    });
    Timing { lane, queued_at: now, served }
}

#[test]
fn the_calls_of_a_batch_are_two_spans_for_each_lane() {
    let (tracer, mut queue) = tracer(1.0, false);
    let trace = tracer.begin(Uuid::new_v4(), &HeaderMap::new());
    let gathering = trace.gathering().expect("is followed");
    for seat in [0, 1, 0] {
        gathering.calls().expect("is followed").ended(&timing(Lane::Medium, Some(seat)));
    }
    gathering.calls().expect("is followed").ended(&timing(Lane::Short, Some(3)));
    gathering.calls().expect("is followed").ended(&timing(Lane::Long, None));
    assert!(taken(&mut queue).is_empty(), "not before the batch ends");
    drop(gathering);
    let spans = taken(&mut queue);
    let told: Vec<(&str, Option<Value>, Option<Value>)> = spans
        .iter()
        .map(|span| (span.name, said(span, "strongroom.hsm.calls"), said(span, "strongroom.hsm.worker")))
        .collect();
    let number = |number: i64| Some(Value::Number(number));
    assert_eq!(
        told,
        [
            ("hsm.queue", number(1), None),
            ("hsm.worker", number(1), number(3)),
            ("hsm.queue", number(3), None),
            // Two workers: none is named.
            ("hsm.worker", number(3), None),
            ("hsm.queue", number(1), None),
        ]
    );
    assert_eq!(said(&spans[3], "strongroom.hsm.service_ns"), number(300_000));
    assert!(spans[4].failed, "nobody took it");
}

fn said(span: &Span, key: &str) -> Option<Value> {
    span.attributes.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone())
}

#[test]
fn messages_of_a_stream_do_not_lie_in_each_other() {
    let (tracer, mut queue) = tracer(1.0, false);
    let stream = tracer.begin(Uuid::new_v4(), &HeaderMap::new());
    let messages = [stream.message(), stream.message()];
    let open: Vec<Step> = messages.iter().map(|trace| trace.operation("keys.sign", &Where::Anywhere, "r.1")).collect();
    drop(open);
    ends(&stream);
    let spans = taken(&mut queue);
    assert!(spans[..2].iter().all(|span| span.parent == Some(spans[2].id)));
    assert!(Trace::default().message().0.is_none());
}

#[test]
fn a_full_queue_drops_and_holds_nobody_up() {
    let (tracer, mut queue) = tracer(1.0, false);
    for _ in 0..20 {
        ends(&tracer.begin(Uuid::new_v4(), &HeaderMap::new()));
    }
    assert_eq!(taken(&mut queue).len(), 8);
}

#[test]
fn nothing_is_made_for_what_is_not_followed() {
    let trace = Trace::default();
    assert!(trace.calls().is_none() && trace.gathering().is_none());
    let mut step = trace.operation("keys.sign", &Where::Anywhere, "r");
    step.count(7);
    step.conclude((Outcome::Done, None));
    trace.append(audit::Kind::Intent, Durability::Fsync).end(&Ok::<(), ()>(()));
    ends(&trace);
    assert_eq!(size_of::<Trace>(), size_of::<usize>());
}

#[test]
fn the_json_is_that_of_otlp() {
    let attributes = vec![("rpc.system", "grpc".into()), ("rpc.grpc.status_code", 14.into())];
    let link = Some(Parent { trace: 1, span: 2, sampled: false });
    let span = Span {
        trace: TRACE,
        id: SPAN,
        parent: Some(0x0a),
        link,
        kind: Kind::Server,
        name: "strongroom.v1.Crypto/Sign",
        begin_ns: 1_544_712_660_000_000_000,
        end_ns: u64::MAX,
        attributes,
        failed: true,
    };
    let body: Json = serde_json::from_slice(&otlp::request(&Resource::new("5a"), &[span])).expect("JSON");
    let resource = &body["resourceSpans"][0];
    assert_eq!(
        resource["resource"]["attributes"][0],
        json!({"key": "service.name", "value": {"stringValue": "strongroom"}})
    );
    // The protobuf JSON mapping as the OpenTelemetry protocol changes it: bytes of ids in lower case hexadecimal,
    // fixed64 and int64 as text, enumerations as numbers.
    assert_eq!(
        resource["scopeSpans"][0]["spans"],
        json!([{
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": "b7ad6b7169203331",
            "parentSpanId": "000000000000000a",
            "links": [{"traceId": "00000000000000000000000000000001", "spanId": "0000000000000002"}],
            "name": "strongroom.v1.Crypto/Sign",
            "kind": 2,
            "startTimeUnixNano": "1544712660000000000",
            "endTimeUnixNano": "18446744073709551615",
            "attributes": [
                {"key": "rpc.system", "value": {"stringValue": "grpc"}},
                {"key": "rpc.grpc.status_code", "value": {"intValue": "14"}},
            ],
            "status": {"code": 2},
        }])
    );
}
