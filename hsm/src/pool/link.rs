//! The socket pair to one worker: whole packets out, whole packets in.
//!
//! Only the front's end is non-blocking: O_NONBLOCK belongs to the open description, and the worker
//! wants to wait in its reads. Both ends close on exec; the worker gets its own as standard input and
//! nothing else, so that end-of-file means that the other side is gone.

use std::{
    io,
    os::{fd::OwnedFd, unix::net},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair,
        sockopt::{set_socket_send_buffer_size, socket_send_buffer_size},
    },
};
use tokio::{io::Interest, net::UnixDatagram, sync::Notify};

use crate::protocol::PACKET_BYTES_MAX;

/// Room for the two packets that may be under way: a packet longer than the buffer cannot be sent at all.
const SEND_BUFFER_BYTES: usize = 2 * PACKET_BYTES_MAX;

/// The front's end.
pub(super) struct Link {
    /// A SOCK_SEQPACKET socket in the clothes of a datagram one, for the runtime's readiness only:
    /// `AsyncFd`, made for this, can no longer be made without `unsafe`.
    socket: UnixDatagram,
    /// A packet waits for room in the socket.
    blocked: AtomicBool,
    /// Wakes the task that attends the worker: something about it has changed.
    pub(super) nudge: Notify,
    /// Wakes the seat's keeper: the worker has used up its loads.
    pub(super) worn: Notify,
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way.
    Whole,
    /// There is no room: keep it and wait for [`Link::writable`].
    Blocked,
    /// The other end is gone, or the socket is unusable.
    Broken,
}

/// What was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A packet of that many bytes.
    Packet(usize),
    /// A packet longer than the protocol allows.
    TooLong,
    /// The other end is closed.
    End,
}

impl Link {
    /// A new pair: the front's end and the worker's. To be called inside a tokio runtime.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (front, worker) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for end in [&front, &worker] {
            // Capped by net.core.wmem_max; what counts is what came of it.
            set_socket_send_buffer_size(end, SEND_BUFFER_BYTES)?;
            if socket_send_buffer_size(end)? < SEND_BUFFER_BYTES {
                return Err(io::Error::other("net.core.wmem_max is too small for a packet to a worker"));
            }
        }
        fcntl_setfl(&front, fcntl_getfl(&front)? | OFlags::NONBLOCK)?;
        let socket = UnixDatagram::from_std(net::UnixDatagram::from(front))?;
        Ok((Self { socket, blocked: AtomicBool::new(false), nudge: Notify::new(), worn: Notify::new() }, worker))
    }

    /// Sends a packet, or says that there is no room. Never waits.
    pub(super) fn send(&self, packet: &[u8]) -> Sent {
        loop {
            match send(&self.socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                // A packet is taken whole or not at all (unix(7), SOCK_SEQPACKET).
                Ok(_) => {
                    self.blocked.store(false, Ordering::Release);
                    return Sent::Whole;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    self.blocked.store(true, Ordering::Release);
                    self.nudge.notify_one();
                    return Sent::Blocked;
                }
                Err(_) => {
                    self.blocked.store(false, Ordering::Release);
                    return Sent::Broken;
                }
            }
        }
    }

    /// Tells the worker that no more will come. What it has sent can still be read, and then the end.
    pub(super) fn shutdown(&self) {
        // It fails only when the other side is already gone.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// Whether the last packet found no room.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Waits for room and runs `again`, which says whether it found some, until it did.
    pub(super) async fn writable(&self, again: impl Fn() -> Sent) -> io::Result<Sent> {
        let attempt = || match again() {
            Sent::Blocked => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        };
        self.socket.async_io(Interest::WRITABLE, attempt).await
    }

    /// Waits for a packet. `buffer` has room for [`PACKET_BYTES_MAX`] bytes. Nothing is lost when the
    /// future is dropped.
    pub(super) async fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let received = self
            .socket
            .async_io(Interest::READABLE, || {
                // With TRUNC the length is the packet's own, even when it does not fit.
                let (_, length) = recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
                Ok(length)
            })
            .await;
        match received {
            Ok(0) => Ok(Received::End),
            Ok(length) if length > PACKET_BYTES_MAX.min(buffer.len()) => Ok(Received::TooLong),
            Ok(length) => Ok(Received::Packet(length)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Received::End),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_packet_without_room_is_sent_when_there_is_some() {
        let (link, worker) = Link::pair().expect("pair");
        set_socket_send_buffer_size(&link.socket, 4096).expect("option");
        let packet = [7; 2000];
        let mut whole = 0;
        while link.send(&packet) == Sent::Whole {
            whole += 1;
        }
        assert!(link.is_blocked());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4000];
            for _ in 0..=whole {
                let (_, length) = recv(&worker, &mut buffer[..], RecvFlags::empty()).expect("recv");
                assert_eq!(length, 2000);
            }
        });
        assert_eq!(link.writable(|| link.send(&packet)).await.expect("writable"), Sent::Whole);
        assert!(!link.is_blocked());
        reader.join().expect("every packet arrives whole");
    }

    #[tokio::test]
    async fn a_packet_that_is_too_long_and_a_closed_end_are_told_apart() {
        let (link, worker) = Link::pair().expect("pair");
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        send(&worker, &vec![1; PACKET_BYTES_MAX], SendFlags::empty()).expect("send");
        assert_eq!(link.recv(&mut buffer).await.expect("recv"), Received::Packet(PACKET_BYTES_MAX));
        send(&worker, &vec![1; PACKET_BYTES_MAX + 1], SendFlags::empty()).expect("send");
        assert_eq!(link.recv(&mut buffer).await.expect("recv"), Received::TooLong);
        drop(worker);
        assert_eq!(link.recv(&mut buffer).await.expect("recv"), Received::End);
        assert_eq!(link.send(&[1]), Sent::Broken);
    }
}
