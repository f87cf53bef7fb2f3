//! The loop: reads packets, works through their calls in order, sends answers together.
//!
//! Answers are sent when so much time has passed that the front should hear something, when the next
//! would not fit, and when nothing more is to be done. Sending each alone costs a wake-up of the front
//! for each; sending only at the end of a read lets the first wait for the last.

use std::{os::fd::BorrowedFd, process::ExitCode, time::Duration};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use zeroize::Zeroizing;

use super::{provision::Provisioner, sandbox, serve::Server};
use crate::{
    protocol::{
        Answer, Call, Damage, Fault, Hello, Moment, PACKET_BYTES_MAX, Request, Response, Role, append_frame,
        read_frames,
    },
    secret::wipe,
};

/// Why a worker ended; the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The front closed the socket, or is gone.
    Closed = 0,
    /// The socket is not one, or cannot be read or written.
    Socket = 71,
    /// A packet did not follow the protocol.
    Protocol = 76,
    /// The start was refused; the answer said why.
    Refused = 78,
    /// The login or the handles are lost; the answer said so.
    LoginLost = 81,
    /// The token or the module is lost; the answer said so.
    TokenLost = 82,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What the worker is, after its Hello.
enum Worker {
    New,
    Serving(Server),
    Provisioning(Provisioner),
}

/// Answers that wait to be sent.
struct Outbox<'a> {
    socket: BorrowedFd<'a>,
    /// Twice a packet: one that is full, and the answer that did not fit. It never grows, because growing
    /// leaves unwiped copies behind.
    packet: Zeroizing<Vec<u8>>,
    flush: Duration,
    sent: Moment,
}

impl<'a> Outbox<'a> {
    fn new(socket: BorrowedFd<'a>) -> Self {
        let packet = Zeroizing::new(Vec::with_capacity(2 * PACKET_BYTES_MAX));
        Self { socket, packet, flush: Duration::ZERO, sent: Moment::now() }
    }

    fn push(&mut self, answer: &Answer) -> Result<(), Exit> {
        let before = self.packet.len();
        append_frame(&mut self.packet, answer);
        if self.packet.len() > PACKET_BYTES_MAX && before > 0 {
            let rest = Zeroizing::new(self.packet[before..].to_vec());
            self.packet.truncate(before);
            self.send()?;
            self.packet.extend_from_slice(&rest);
        }
        if Moment::now().since(self.sent) >= self.flush {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Exit> {
        if self.packet.is_empty() {
            return Ok(());
        }
        loop {
            match rustix::net::send(self.socket, &self.packet, SendFlags::NOSIGNAL) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(Exit::Closed),
                Err(_) => return Err(Exit::Socket),
            }
        }
        wipe(&mut self.packet);
        self.packet.clear();
        self.sent = Moment::now();
        Ok(())
    }
}

/// Serves until the socket closes or there is a reason to end.
pub(crate) fn run(socket: BorrowedFd<'_>) -> Exit {
    let mut outbox = Outbox::new(socket);
    let mut worker = Worker::New;
    // One byte more than the longest packet, so that a longer one shows.
    let mut buffer = Zeroizing::new(vec![0; PACKET_BYTES_MAX + 1]);
    loop {
        let exit = match receive(socket, &mut buffer) {
            Ok(length) => handle_packet(&mut buffer[..length], &mut worker, &mut outbox),
            Err(exit) => Err(exit),
        };
        if let Err(exit) = exit {
            // What is finished is answered even so.
            let _ = outbox.send();
            return exit;
        }
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Exit> {
    loop {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Err(Exit::Closed),
            Ok((_, length)) if length > PACKET_BYTES_MAX => return Err(Exit::Protocol),
            Ok((_, length)) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(_) => return Err(Exit::Socket),
        }
    }
}

fn handle_packet(packet: &mut [u8], worker: &mut Worker, outbox: &mut Outbox<'_>) -> Result<(), Exit> {
    let calls = read_frames::<Call>(packet);
    // Calls hold their own copies, which wipe themselves where they are secret.
    wipe(packet);
    let calls = calls.map_err(|_| Exit::Protocol)?;
    // After a pause the first answer would otherwise always be sent alone.
    outbox.sent = Moment::now();
    for call in calls {
        let started = Moment::now();
        let (id, exit, result) = answer(call, started, worker, outbox);
        let service_ns = u64::try_from(Moment::now().since(started).as_nanos()).unwrap_or(u64::MAX);
        outbox.push(&Answer { id, service_ns, result })?;
        if let Some(exit) = exit {
            return Err(exit);
        }
    }
    outbox.send()
}

/// The answer to one call, and whether the worker ends after it.
fn answer(
    call: Call,
    now: Moment,
    worker: &mut Worker,
    outbox: &mut Outbox<'_>,
) -> (u32, Option<Exit>, Result<Response, Fault>) {
    let Call { id, deadline, request } = call;
    if deadline < now {
        // A Hello that came too late leaves a worker that can do nothing.
        let exit = matches!(worker, Worker::New).then_some(Exit::Refused);
        return (id, exit, Err(Fault::Expired));
    }
    let result = match worker {
        Worker::New => return begin(id, request, worker, outbox),
        Worker::Serving(server) => server.answer(&request),
        Worker::Provisioning(provisioner) => provisioner.answer(&request),
    };
    (id, exit_after(&result), result)
}

/// The first call, which must be a Hello. A worker that could not start ends.
fn begin(
    id: u32,
    request: Request,
    worker: &mut Worker,
    outbox: &mut Outbox<'_>,
) -> (u32, Option<Exit>, Result<Response, Fault>) {
    let Request::Hello(hello) = request else { return (id, Some(Exit::Protocol), Err(Fault::Protocol)) };
    outbox.flush = Duration::from_micros(u64::from(hello.flush_us));
    match greet(*hello) {
        Ok((greeted, response)) => {
            *worker = greeted;
            (id, None, Ok(response))
        }
        Err(fault) => (id, Some(Exit::Refused), Err(fault)),
    }
}

fn greet(hello: Hello) -> Result<(Worker, Response), Fault> {
    sandbox::enter(hello.sandbox)?;
    match &hello.role {
        Role::Serve(keys) => {
            let (server, ready) = Server::start(&hello, keys)?;
            Ok((Worker::Serving(server), Response::Ready(ready)))
        }
        Role::Renew(renewing) => {
            let (server, ready) = Server::start_renewing(&hello, renewing)?;
            Ok((Worker::Serving(server), Response::Ready(ready)))
        }
        Role::Provision => {
            let (provisioner, ready) = Provisioner::start(hello)?;
            Ok((Worker::Provisioning(provisioner), Response::Ready(ready)))
        }
    }
}

/// A worker whose login or token is lost cannot help itself: the front starts another.
fn exit_after(result: &Result<Response, Fault>) -> Option<Exit> {
    match result {
        Err(Fault::Module { damage: Damage::Login, .. }) => Some(Exit::LoginLost),
        Err(Fault::Module { damage: Damage::Token, .. }) => Some(Exit::TokenLost),
        Ok(_) | Err(_) => None,
    }
}
