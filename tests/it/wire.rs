//! A wire to a server that can be cut, as by a switch that forgets.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A wire to a server: everything that is said on it passes here, until it is cut.
pub(crate) struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes go nowhere, in both directions, and nobody is told.
    is_cut: AtomicBool,
    ended: AtomicBool,
}

impl Wire {
    /// A wire from a loopback port of its own to there.
    pub(crate) fn to(there: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let (address, state) = (listener.local_addr().expect("has one"), Arc::<State>::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(near) = stream else { return };
                if shared.ended.load(Ordering::Acquire) {
                    return;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || join(near, there, &state));
            }
        });
        Self { address, state }
    }

    /// Where it begins.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it, as a switch does that forgets: what is sent is lost, and no connection ends.
    pub(crate) fn cut(&self) {
        self.state.is_cut.store(true, Ordering::Release);
    }

    /// Mends it. Connections that were open while it was cut have lost something, and are ended.
    pub(crate) fn mend(&self) {
        self.state.is_cut.store(false, Ordering::Release);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Release);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn join(near: TcpStream, there: SocketAddr, state: &Arc<State>) {
    let Ok(far) = TcpStream::connect(there) else { return };
    let pair = near.try_clone().and_then(|near| Ok((near, far.try_clone()?)));
    let Ok((near_too, far_too)) = pair else { return };
    let back = Arc::clone(state);
    let other = thread::spawn(move || carry(far_too, near_too, &back));
    carry(near, far, state);
    let _ = other.join();
}

/// Carries bytes until one side ends, or until the wire is mended after bytes were lost.
fn carry(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = [0; 16 * 1024];
    let mut lost = false;
    from.set_read_timeout(Some(Duration::from_millis(20))).expect("is set");
    while !state.ended.load(Ordering::Acquire) {
        let is_cut = state.is_cut.load(Ordering::Acquire);
        if lost && !is_cut {
            break;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) if is_cut => lost = true,
            Ok(read) => {
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
