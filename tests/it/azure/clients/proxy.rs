//! A proxy that takes every host to one port of this machine. A server on loopback gets any name by it, in the eyes of
//! clients that verify names, and nothing on the machine is changed for that.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// More than any client sends before the connection is made.
const HEAD_BYTES_MAX: usize = 8192;

/// A proxy; it serves until the tests end.
pub(super) struct Proxy {
    address: SocketAddr,
}

impl Proxy {
    /// A proxy to this port of loopback.
    pub(super) fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that goes away is no concern of the proxy's.
                thread::spawn(move || drop(carry(stream, port)));
            }
        });
        Self { address }
    }

    /// What clients have in `HTTPS_PROXY`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers one CONNECT and carries what both sides say.
fn carry(mut client: TcpStream, port: u16) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"CONNECT ") {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n");
    }
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let there = thread::spawn(move || pour(from, to));
    pour(server, client)?;
    there.join().expect("does not panic")
}

fn pour(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let poured = io::copy(&mut from, &mut to);
    // The other side may still have something to say.
    to.shutdown(Shutdown::Write)?;
    poured.map(drop)
}
