//! Receivers that hang, records that are gone, cursors that are not right.

use std::fs;

use super::{
    super::{Cursor, CursorError, Facility, SyslogTo},
    *,
};

#[tokio::test]
async fn an_exporter_ends_although_its_receiver_never_answers() {
    let kept = Kept::new();
    kept.sign(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    // It would wait for longer than the test.
    let running = kept.export(Exporter { within: Duration::from_secs(3600), ..webhook(url) });
    let (_held, _) = timeout(HANGS, listener.accept()).await.expect("it connects").unwrap();
    running.end().await;
    assert_eq!(Cursor::look(kept.log.dir(), "test").unwrap(), Some(0));
}

#[tokio::test]
async fn a_delivery_that_is_not_answered_in_time_is_made_again() {
    let kept = Kept::new();
    kept.sign(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let running = kept.export(Exporter { within: Duration::from_millis(100), ..webhook(url) });
    let (_first, _) = timeout(HANGS, listener.accept()).await.expect("it connects").unwrap();
    let (_second, _) = timeout(HANGS, listener.accept()).await.expect("it connects again").unwrap();
    running.end().await;
}

#[tokio::test]
async fn a_tcp_peer_that_stops_reading_is_left_and_nothing_is_counted_as_delivered() {
    let kept = Kept::new();
    // More than the buffers of a connection on loopback hold.
    let long = || Record { detail: Some("x".repeat(60_000)), ..signature() };
    for _ in 0..500 {
        kept.log.append(long(), Durability::Write).await.unwrap();
    }
    kept.make_readable().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = SyslogTo::Tcp(listener.local_addr().unwrap().to_string());
    let target = Target::Syslog { to, facility: Facility::Authpriv, form: Form::Strongroom };
    let stuck = Exporter { records_max: 1000, within: Duration::from_millis(300), ..exporter(target) };
    let running = kept.export(stuck);
    let (_first, _) = timeout(HANGS, listener.accept()).await.expect("it connects").unwrap();
    let (_second, _) = timeout(HANGS, listener.accept()).await.expect("it gives up and connects again").unwrap();
    running.end().await;
    let next = Cursor::look(kept.log.dir(), "test").unwrap().unwrap();
    assert!(next < 500, "{next}");
}

#[tokio::test]
async fn what_was_pruned_is_passed_over() {
    let kept = Kept::new();
    kept.sign(600).await;
    let bundle = |number: u64| {
        kept.log.dir().join(crate::audit::tlog::tile::entries_path(number, crate::audit::tlog::tile::WIDTH))
    };
    fs::remove_file(bundle(0)).unwrap();
    let out = kept.path("out.jsonl");
    let running = kept.export(Exporter { records_max: 1000, ..file(out.clone()) });
    assert_eq!(indices(&out, 344).await, (256..600).collect::<Vec<u64>>());
    running.end().await;
    assert_eq!(Cursor::look(kept.log.dir(), "test").unwrap(), Some(600));
}

#[tokio::test]
async fn a_cursor_of_something_else_is_not_taken_and_one_beyond_the_log_begins_at_its_end() {
    let kept = Kept::new();
    kept.sign(2).await;
    let folder = kept.log.dir().join("exporters");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("test.json"), "{\"exporter\":\"other\",\"next\":1}\n").unwrap();
    assert!(matches!(Cursor::look(kept.log.dir(), "test"), Err(CursorError::Form(_))));
    fs::write(folder.join("test.json"), "{\"exporter\":\"test\",\"next\":70}\n").unwrap();
    let out = kept.path("out.jsonl");
    let running = kept.export(file(out.clone()));
    let moved = async {
        while Cursor::look(kept.log.dir(), "test").unwrap() != Some(2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANGS, moved).await.expect("the cursor is moved");
    kept.sign(1).await;
    assert_eq!(indices(&out, 1).await, [2]);
    running.end().await;
}
