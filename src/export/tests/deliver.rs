//! Each record arrives, in order, and the cursor says how far.

use std::fs;

use super::{super::Cursor, *};

#[tokio::test]
async fn a_file_gets_each_record_once_across_restarts_of_the_exporter() {
    let kept = Kept::new();
    let out = kept.path("out.jsonl");
    kept.sign(5).await;
    let running = kept.export(file(out.clone()));
    assert_eq!(indices(&out, 5).await, [0, 1, 2, 3, 4]);
    running.end().await;
    assert_eq!(Cursor::look(kept.log.dir(), "test").unwrap(), Some(5));
    kept.sign(2).await;
    let running = kept.export(file(out.clone()));
    assert_eq!(indices(&out, 7).await, [0, 1, 2, 3, 4, 5, 6]);
    running.end().await;
}

#[tokio::test]
async fn without_a_cursor_an_exporter_begins_where_it_is_told() {
    let kept = Kept::new();
    kept.sign(4).await;
    let out = kept.path("out.jsonl");
    let running = kept.export(Exporter { start: Start::Now, ..file(out.clone()) });
    // The cursor is kept before anything is exported: what comes after a crash is not lost.
    let begun = async {
        while Cursor::look(kept.log.dir(), "test").unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANGS, begun).await.expect("it begins");
    kept.sign(2).await;
    assert_eq!(indices(&out, 2).await, [4, 5]);
    running.end().await;
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew() {
    let kept = Kept::new();
    let (out, moved) = (kept.path("out.jsonl"), kept.path("out.jsonl.1"));
    kept.sign(2).await;
    let running = kept.export(file(out.clone()));
    assert_eq!(indices(&out, 2).await, [0, 1]);
    fs::rename(&out, &moved).unwrap();
    kept.sign(2).await;
    assert_eq!(indices(&out, 2).await, [2, 3]);
    assert_eq!(indices(&moved, 2).await, [0, 1]);
    running.end().await;
}

#[tokio::test]
async fn a_line_that_was_cut_off_does_not_spoil_the_next() {
    let kept = Kept::new();
    let out = kept.path("out.jsonl");
    fs::write(&out, "{\"index\":9}\n{\"index\":10,\"ti").unwrap();
    kept.sign(1).await;
    let running = kept.export(file(out.clone()));
    timeout(HANGS, async {
        while fs::read_to_string(&out).unwrap().matches('\n').count() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the line comes");
    let text = fs::read_to_string(&out).unwrap();
    assert_eq!(index(text.lines().last().unwrap()), 0, "{text}");
    running.end().await;
}

#[tokio::test]
async fn a_webhook_gets_arrays_that_are_repeated_until_they_are_taken() {
    let kept = Kept::new();
    kept.sign(4).await;
    let busy = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
    let (url, mut posted) = receiver(vec![busy, OK]).await;
    let (token, secret) = (kept.path("token"), kept.path("secret"));
    fs::write(&token, "t0ken\n").unwrap();
    fs::write(&secret, [b's'; 32]).unwrap();
    let channel = Channel { token_file: Some(token), ..loopback() };
    let target = Target::Webhook { url, channel, signature_key_file: Some(secret), form: Form::Strongroom };
    let running = kept.export(exporter(target));
    let (refused, taken, rest) = (next(&mut posted).await, next(&mut posted).await, next(&mut posted).await);
    assert_eq!(refused.body, taken.body);
    let header = |posted: &Posted, name: &str| {
        posted.head.lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned())).unwrap_or_default()
    };
    assert_eq!(header(&taken, "authorization: "), "Bearer t0ken");
    assert_eq!(header(&refused, "webhook-id: "), header(&taken, "webhook-id: "));
    assert_ne!(header(&rest, "webhook-id: "), header(&taken, "webhook-id: "));
    assert!(header(&taken, "webhook-signature: ").starts_with("v1,"));
    assert_eq!(array(&taken), [0, 1, 2]);
    assert_eq!(array(&rest), [3]);
    running.end().await;
}

#[tokio::test]
async fn what_is_too_much_at_once_is_halved() {
    let kept = Kept::new();
    kept.sign(3).await;
    let too_long = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n";
    let (url, mut posted) = receiver(vec![too_long, OK]).await;
    let running = kept.export(webhook(url));
    assert_eq!(array(&next(&mut posted).await), [0, 1, 2]);
    assert_eq!(array(&next(&mut posted).await), [0]);
    assert_eq!(array(&next(&mut posted).await), [1, 2]);
    running.end().await;
}

fn array(posted: &Posted) -> Vec<u64> {
    let records: Vec<serde_json::Value> = serde_json::from_slice(&posted.body).unwrap();
    records.iter().map(|record| record["index"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_collector_gets_requests_and_what_it_rejects_is_not_repeated() {
    let kept = Kept::new();
    kept.sign(4).await;
    let partly = "HTTP/1.1 200 OK\r\ncontent-length: 45\r\n\r\n{\"partialSuccess\":{\"rejectedLogRecords\":\"3\"}}";
    let (url, mut posted) = receiver(vec![partly, OK]).await;
    let running = kept.export(exporter(Target::Otlp { url, channel: loopback() }));
    let indices = |posted: &Posted| -> Vec<String> {
        let body: serde_json::Value = serde_json::from_slice(&posted.body).unwrap();
        let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
        let index =
            |record: &serde_json::Value| record["attributes"][0]["value"]["intValue"].as_str().unwrap().to_owned();
        records.iter().map(index).collect()
    };
    assert_eq!(indices(&next(&mut posted).await), ["0", "1", "2"]);
    assert_eq!(indices(&next(&mut posted).await), ["3"]);
    running.end().await;
}
