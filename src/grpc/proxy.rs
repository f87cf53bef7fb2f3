//! The PROXY protocol, versions 1 and 2: what a proxy says, before anything else, of where a connection comes from. It is
//! read from proxies that are trusted, and from nobody else.
//!
//! Exactly the header is read, and no byte of what follows it: TLS begins there.

use std::{io, net::SocketAddr};

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest header of version 1, its end included (section 2.1).
const V1_BYTES_MAX: usize = 107;
/// What comes first in version 2: signature, version, family and length (section 2.2).
const V2_HEAD_BYTES: usize = 16;
/// The most that may follow it. Addresses take 36 bytes, or 216 of Unix sockets; the rest is for what proxies add.
const V2_BYTES_MAX: usize = 2048;
/// No header of either version is shorter than the signature of version 2.
const BEGINNING_BYTES: usize = 12;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// From there, through the proxy.
    Beyond(SocketAddr),
    /// From the proxy itself, which asks whether we are well, or does not know.
    Proxy,
}

/// Why a header is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// It begins otherwise.
    #[error("no PROXY header")]
    Missing,
    /// It is none that can be.
    #[error("a malformed PROXY header")]
    Malformed,
    /// The connection ended.
    #[error("the connection ended in its PROXY header")]
    Broken(#[source] io::Error),
}

/// Reads the header of a connection.
///
/// # Errors
/// When there is none, or one that cannot be.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<From, HeaderError> {
    let mut header = vec![0; BEGINNING_BYTES];
    stream.read_exact(&mut header).await.map_err(HeaderError::Broken)?;
    if header == v2::PROTOCOL_PREFIX {
        rest_of_v2(stream, &mut header).await?;
    } else if header.starts_with(b"PROXY ") {
        rest_of_v1(stream, &mut header).await?;
    } else {
        return Err(HeaderError::Missing);
    }
    parse(&header)
}

async fn more(stream: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>, bytes: usize) -> Result<(), HeaderError> {
    let from = header.len();
    header.resize(from + bytes, 0);
    stream.read_exact(&mut header[from..]).await.map(drop).map_err(HeaderError::Broken)
}

async fn rest_of_v2(stream: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> Result<(), HeaderError> {
    more(stream, header, V2_HEAD_BYTES - BEGINNING_BYTES).await?;
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length > V2_BYTES_MAX {
        return Err(HeaderError::Malformed);
    }
    more(stream, header, length).await
}

/// It has no length, so it is read byte by byte to its end.
async fn rest_of_v1(stream: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> Result<(), HeaderError> {
    while !header.ends_with(b"\r\n") {
        if header.len() == V1_BYTES_MAX {
            return Err(HeaderError::Malformed);
        }
        more(stream, header, 1).await?;
    }
    Ok(())
}

/// What a whole header says.
fn parse(bytes: &[u8]) -> Result<From, HeaderError> {
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(Ok(header)) if header.header.len() == bytes.len() => Ok(match header.addresses {
            v1::Addresses::Tcp4(found) => From::Beyond((found.source_address, found.source_port).into()),
            v1::Addresses::Tcp6(found) => From::Beyond((found.source_address, found.source_port).into()),
            v1::Addresses::Unknown => From::Proxy,
        }),
        HeaderResult::V2(Ok(header)) => match (header.command, header.protocol, header.addresses) {
            (v2::Command::Local, _, _) | (_, _, v2::Addresses::Unspecified) => Ok(From::Proxy),
            (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(found)) => {
                Ok(From::Beyond((found.source_address, found.source_port).into()))
            }
            (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(found)) => {
                Ok(From::Beyond((found.source_address, found.source_port).into()))
            }
            // Datagrams and Unix sockets: not what comes to us.
            _ => Err(HeaderError::Malformed),
        },
        _ => Err(HeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn said(bytes: &[u8]) -> (Result<From, HeaderError>, Vec<u8>) {
        let mut stream = bytes;
        let said = read(&mut stream).await;
        (said, stream.to_vec())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        header.extend(body);
        header
    }

    const FROM: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 0x20, 0xfb];

    #[tokio::test]
    async fn both_versions_say_from_where_and_nothing_behind_them_is_read() {
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).octets());
        v6[32..34].copy_from_slice(&4711_u16.to_be_bytes());
        let more = [&FROM[..], &[0xea, 0, 2, 1, 2]].concat();
        for (header, from) in [
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 8443\r\n".to_vec(), "203.0.113.9:4711"),
            (b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 8443\r\n".to_vec(), "[2001:db8::9]:4711"),
            (v2(1, 0x11, &FROM), "203.0.113.9:4711"),
            (v2(1, 0x11, &more), "203.0.113.9:4711"),
            (v2(1, 0x21, &v6), "[2001:db8::9]:4711"),
        ] {
            let (found, rest) = said(&[&header[..], b"\x16\x03\x01"].concat()).await;
            assert_eq!(found.expect("is right"), From::Beyond(from.parse().expect("an address")));
            assert_eq!(rest, b"\x16\x03\x01");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_asks_for_itself_has_its_own_address() {
        for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0, 0x00, &[]), v2(0, 0x11, &FROM), v2(1, 0x00, &[])] {
            assert_eq!(said(&header).await.0.expect("is right"), From::Proxy);
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_told_from_one_that_is_wrong() {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00";
        assert!(matches!(said(hello).await.0, Err(HeaderError::Missing)));
        assert!(matches!(said(b"GET / HTTP/1.1\r\n").await.0, Err(HeaderError::Missing)));
        assert!(matches!(said(b"PROXY TCP4 1.2.3.4").await.0, Err(HeaderError::Broken(_))));
        assert!(matches!(said(&v2(1, 0x11, &FROM)[..20]).await.0, Err(HeaderError::Broken(_))));
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        for wrong in [
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4711\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 8443 9\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.900 10.0.0.1 4711 8443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::9 2001:db8::1 4711 8443\r\n".to_vec(),
            b"PROXY UDP4 203.0.113.9 10.0.0.1 4711 8443\r\n".to_vec(),
            b"PROXY \r\nabcdefgh\r\n".to_vec(),
            long,
            v2(1, 0x12, &FROM),
            v2(1, 0x11, &FROM[..8]),
            v2(2, 0x11, &FROM),
            v2(1, 0x41, &FROM),
            v2(1, 0x31, &[0; 216]),
            v2(1, 0x11, &[0; V2_BYTES_MAX + 1]),
        ] {
            let found = said(&wrong).await.0;
            assert!(matches!(found, Err(HeaderError::Malformed)), "{found:?}: {:?}", String::from_utf8_lossy(&wrong));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
            let beginning: &[u8] = match kind { 0 => &[], 1 => b"PROXY TCP4 ", _ => v2::PROTOCOL_PREFIX };
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("builds");
            let bytes = [beginning, &bytes].concat();
            let _ = runtime.block_on(read(&mut &bytes[..]));
        }
    }
}
