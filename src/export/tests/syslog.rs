//! Messages as RFC 5424 has them, over all three ways.

use tokio::net::{UdpSocket, UnixDatagram};

use super::{
    super::{Facility, SyslogTo, shape::items, syslog::Header},
    *,
};

fn to(to: SyslogTo) -> Exporter {
    exporter(Target::Syslog { to, facility: Facility::Authpriv, form: Form::Strongroom })
}

/// The record's index, if the message is one of ours at that severity.
fn index_of(message: &str, priority: &str) -> u64 {
    let fields: Vec<&str> = message.splitn(8, ' ').collect();
    assert_eq!(fields[0], format!("<{priority}>1"), "{message}");
    assert_eq!(fields[1], "2023-11-14T22:13:20Z");
    assert_eq!((fields[3], fields[5], fields[6]), ("strongroom", "keys.sign", "-"));
    assert_eq!(fields[4], std::process::id().to_string());
    index(fields[7])
}

#[test]
fn the_priority_says_how_it_ended() {
    let message = |outcome| {
        let entry = serde_json::to_vec(&Record { outcome, ..signature() }).unwrap();
        Header::new(Facility::Local3).message(&items(Form::Strongroom, 1, &entry).unwrap()[0])
    };
    assert!(message(Outcome::Done).starts_with("<158>1 "));
    assert!(message(Outcome::Refused).starts_with("<157>1 "));
    assert!(message(Outcome::Failed).starts_with("<156>1 "));
}

#[tokio::test]
async fn a_unix_socket_gets_a_datagram_for_each_record() {
    let kept = Kept::new();
    kept.sign(2).await;
    let path = kept.path("log.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let running = kept.export(to(SyslogTo::Unix(path)));
    for wanted in 0..2 {
        let mut message = vec![0; 4096];
        let bytes = timeout(HANGS, socket.recv(&mut message)).await.expect("it comes").unwrap();
        assert_eq!(index_of(std::str::from_utf8(&message[..bytes]).unwrap(), "86"), wanted);
    }
    running.end().await;
}

#[tokio::test]
async fn a_record_too_long_for_a_datagram_comes_without_its_details() {
    let kept = Kept::new();
    // An entry of the log has at most 65,535 bytes, a datagram 65,507: with what is put before it, it is too long.
    let others = serde_json::to_vec(&Record { detail: Some(String::new()), ..signature() }).unwrap().len();
    let long = Record { detail: Some("x".repeat(65_530 - others)), ..signature() };
    kept.log.append(long, Durability::Write).await.unwrap();
    kept.make_readable().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let running = kept.export(to(SyslogTo::Udp(socket.local_addr().unwrap().to_string())));
    let mut message = vec![0; 65_536];
    let bytes = timeout(HANGS, socket.recv(&mut message)).await.expect("it comes").unwrap();
    let message = std::str::from_utf8(&message[..bytes]).unwrap();
    assert_eq!(index_of(message, "86"), 0);
    assert!(message.contains("\"omitted\":[\"detail\"]"), "{message}");
    running.end().await;
}

#[tokio::test]
async fn over_tcp_each_message_is_behind_its_length_and_a_new_connection_goes_on() {
    let kept = Kept::new();
    kept.sign(2).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = kept.export(to(SyslogTo::Tcp(listener.local_addr().unwrap().to_string())));
    let (mut first, _) = listener.accept().await.unwrap();
    assert_eq!([counted(&mut first).await, counted(&mut first).await], [0, 1]);
    drop(first);
    kept.sign(1).await;
    let (mut second, _) = timeout(HANGS, listener.accept()).await.expect("it connects again").unwrap();
    assert_eq!(counted(&mut second).await, 2);
    running.end().await;
}

/// Reads one message, and answers with its record's index.
async fn counted(stream: &mut tokio::net::TcpStream) -> u64 {
    let read = async {
        let mut length = 0;
        loop {
            match stream.read_u8().await.unwrap() {
                b' ' => break,
                digit => length = length * 10 + usize::from(digit - b'0'),
            }
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await.unwrap();
        index_of(std::str::from_utf8(&message).unwrap(), "86")
    };
    timeout(HANGS, read).await.expect("it comes")
}
