//! Which user's process is at the other end of a connection on this machine: the kernel says it in `/proc/net/tcp` (proc(5)),
//! in the line of that end. Where there is no such line, or more than one, nobody is.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

/// The state of a connection that is open (`TCP_ESTABLISHED`).
const ESTABLISHED: &str = "01";

/// The user whose socket `from` is, of a connection to `own`.
#[must_use]
pub fn uid(from: SocketAddr, own: SocketAddr) -> Option<u32> {
    let table = match from {
        SocketAddr::V4(_) => "/proc/net/tcp",
        SocketAddr::V6(_) => "/proc/net/tcp6",
    };
    find(&fs::read_to_string(table).ok()?, from, own)
}

fn find(table: &str, from: SocketAddr, own: SocketAddr) -> Option<u32> {
    let (from, own) = (written(from), written(own));
    let mut found = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, local, remote, state, _, _, _, uid, ..] if (*local, *remote, *state) == (&from, &own, ESTABLISHED) => {
                uid.parse::<u32>().ok()
            }
            _ => None,
        }
    });
    found.next().filter(|_| found.next().is_none())
}

/// As the kernel writes an address: each word of 32 bits in the machine's own order.
fn written(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let words: String = words.map(|word| format!("{word:08X}")).collect();
    format!("{words}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_this_process_is_of_its_user() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let own = listener.local_addr().expect("bound");
            let stream = TcpStream::connect(own).expect("connects");
            let (_accepted, from) = listener.accept().expect("accepts");
            assert_eq!(uid(from, own), Some(rustix::process::getuid().as_raw()), "{host}");
            drop(stream);
            let nobody = SocketAddr::new(from.ip(), 1);
            assert_eq!(uid(nobody, own), None);
        }
    }

    #[test]
    fn what_is_not_told_clearly_is_nobody() {
        let (from, own) = ("127.0.0.1:4660".parse().expect("one"), "127.0.0.1:80".parse().expect("one"));
        let line = |state: &str, uid: &str| {
            format!("   1: {}:1234 {}:0050 {state} 0:0 00:0 0 {uid} 0 99\n", "0100007F", "0100007F")
        };
        if cfg!(target_endian = "little") {
            assert_eq!(find(&line("01", "1000"), from, own), Some(1000));
            assert_eq!(find(&line("06", "1000"), from, own), None, "it is closed");
            assert_eq!(find(&format!("{0}{0}", line("01", "1000")), from, own), None);
        }
        assert_eq!(find("  sl  local_address rem_address\n", from, own), None);
    }
}
