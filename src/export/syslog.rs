//! Syslog: messages of RFC 5424 with JSON as their text, as datagrams (Unix, UDP: RFC 5426) or over TCP with octet
//! counting (RFC 6587, section 3.4.1).
//!
//! Syslog acknowledges nothing. A datagram is delivered when the kernel has taken it, a batch over TCP when all of it
//! is in the connection's buffer: what lies there when the connection breaks is lost.

use std::{fmt, net::SocketAddr, path::PathBuf};

use rustix::io::Errno;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, UdpSocket, UnixDatagram},
};

use super::{
    error::DeliveryError,
    shape::{self, Item},
};
use crate::{audit::Outcome, model::Timestamp};

/// The longest MSGID (RFC 5424, section 6).
const MSGID_BYTES_MAX: usize = 32;
/// The longest HOSTNAME.
const HOSTNAME_BYTES_MAX: usize = 255;

/// To whom messages are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTo {
    /// A Unix datagram socket, usually `/dev/log`.
    Unix(PathBuf),
    /// `HOST:PORT`, a datagram for each message.
    Udp(String),
    /// `HOST:PORT`, a connection.
    Tcp(String),
}

impl fmt::Display for SyslogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

macro_rules! facilities {
    ($($facility:ident $name:literal $code:literal;)*) => {
        /// A facility of RFC 5424, by the names that syslog daemons have for them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Facility { $(#[doc = concat!("`", $name, "`.")] $facility = $code,)* }

        impl Facility {
            /// Each by its name.
            pub const NAMES: &[(&str, Self)] = &[$(($name, Self::$facility)),*];
        }
    };
}

facilities! {
    User "user" 1; Daemon "daemon" 3; Auth "auth" 4; Authpriv "authpriv" 10;
    Local0 "local0" 16; Local1 "local1" 17; Local2 "local2" 18; Local3 "local3" 19;
    Local4 "local4" 20; Local5 "local5" 21; Local6 "local6" 22; Local7 "local7" 23;
}

impl Facility {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, facility)| *facility == self).map_or("user", |(name, _)| name)
    }
}

enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A receiver of syslog, connected when there is something to say.
pub(super) struct SyslogSink {
    to: SyslogTo,
    header: Header,
    socket: Option<Socket>,
}

impl SyslogSink {
    pub(super) fn new(to: SyslogTo, facility: Facility) -> Self {
        Self { to, header: Header::new(facility), socket: None }
    }

    /// Sends a message for each item. A connection on which one failed, or that was given up in the middle, is not used
    /// again: its receiver may have half a message.
    pub(super) async fn send(&mut self, items: &[Item]) -> Result<(), DeliveryError> {
        let open = self.socket.take().filter(Socket::is_open);
        let mut socket = match open {
            Some(socket) => socket,
            None => Socket::connect(&self.to).await.map_err(DeliveryError::io("connect to the syslog receiver"))?,
        };
        match &mut socket {
            Socket::Tcp(stream) => {
                let messages: Vec<u8> = items.iter().flat_map(|item| counted(&self.header.message(item))).collect();
                stream.write_all(&messages).await.map_err(DeliveryError::io("send to the syslog receiver"))?;
            }
            datagrams => {
                for item in items {
                    self.datagram(datagrams, item).await?;
                }
            }
        }
        self.socket = Some(socket);
        Ok(())
    }

    async fn datagram(&self, socket: &Socket, item: &Item) -> Result<(), DeliveryError> {
        let failed = DeliveryError::io("send to the syslog receiver");
        let sent = match socket.datagram(self.header.message(item).as_bytes()).await {
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                let message = format!("{}{}", self.header.before(item), shape::shortened(&item.text)?);
                socket.datagram(message.as_bytes()).await
            }
            sent => sent,
        };
        sent.map_err(failed)
    }
}

impl Socket {
    async fn connect(to: &SyslogTo) -> std::io::Result<Self> {
        match to {
            SyslogTo::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Self::Unix(socket))
            }
            SyslogTo::Udp(address) => {
                let mut addresses = tokio::net::lookup_host(address).await?;
                let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
                let any: SocketAddr =
                    if address.is_ipv4() { ([0; 4], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Ok(Self::Udp(socket))
            }
            SyslogTo::Tcp(address) => Ok(Self::Tcp(TcpStream::connect(address).await?)),
        }
    }

    /// Whether the other side is still there, as far as is known: what is written to a closed connection is lost
    /// without a word.
    fn is_open(&self) -> bool {
        let Self::Tcp(stream) = self else { return true };
        match stream.try_read(&mut [0; 64]) {
            Ok(bytes) => bytes > 0,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    async fn datagram(&self, message: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Unix(socket) => socket.send(message).await.map(drop),
            Self::Udp(socket) => socket.send(message).await.map(drop),
            Self::Tcp(_) => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }
}

/// What messages of this process have in common.
pub(super) struct Header {
    facility: Facility,
    host: String,
    process: u32,
}

impl Header {
    pub(super) fn new(facility: Facility) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { facility, host: printable(host, HOSTNAME_BYTES_MAX), process: std::process::id() }
    }

    /// A message: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD MSG`, with the operation as MSGID and no
    /// structured data.
    pub(super) fn message(&self, item: &Item) -> String {
        format!("{}{}", self.before(item), item.text)
    }

    fn before(&self, item: &Item) -> String {
        // Informational, notice, warning.
        let severity = match item.outcome {
            Outcome::Pending | Outcome::Done => 6,
            Outcome::Refused => 5,
            Outcome::Failed => 4,
        };
        let priority = self.facility as u16 * 8 + severity;
        let Self { host, process, .. } = self;
        let operation = printable(item.operation.clone(), MSGID_BYTES_MAX);
        format!("<{priority}>1 {} {host} strongroom {process} {operation} - ", Timestamp(item.time))
    }
}

/// A field of the header; `-` where it is none.
fn printable(text: String, bytes_max: usize) -> String {
    let is_field = (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_field { text } else { "-".to_owned() }
}

/// Behind its length in bytes.
fn counted(message: &str) -> Vec<u8> {
    format!("{} {message}", message.len()).into_bytes()
}
