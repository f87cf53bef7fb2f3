//! The worker's side: a process with the PKCS#11 module in it.
//!
//! [`main`] is the program `strongroom hsm-worker`. Its standard input is one end of a SOCK_SEQPACKET
//! pair; when the other end closes, its parent is gone and it ends. One thread, because SoftHSM's lock
//! makes a second one slower for short work; two processes double it (ADR 0003).
//!
//! From the inside out: `token` is the seam, `module` and `ffi` the real module behind it, [`faults`] a
//! failing one. An `engine` is a token and its root; it loads, generates and operates. `serve` adds seals
//! and the cache of loaded keys; `provision` makes the hierarchy in the first place. `link` is the loop
//! around them.

use std::{os::fd::AsFd, process::ExitCode};

mod byok;
mod cache;
mod change_pin;
mod code;
mod engine;
pub mod faults;
#[cfg(feature = "failpoints")]
mod faulty;
mod ffi;
mod generate;
mod hierarchy;
mod import;
mod kek;
mod key_wrap;
mod link;
mod listed;
mod load;
mod log_key;
mod module;
mod oaep;
mod operate;
mod pin;
mod pkcs7;
pub(crate) mod private;
mod probe;
mod provision;
pub(crate) mod public;
pub mod raw;
mod recover;
mod root;
mod rsaes15;
mod sandbox;
mod serve;
mod start;
mod sync;
mod token;
mod trial;

pub use link::Exit;
pub use pin::{LATCH_FILE, files as pin_files, staged_path as staged_pin_path};
pub use start::LOCK_FILE;

/// The worker program: serves the socket that is standard input until it closes. Returns the exit code,
/// see [`Exit`].
///
/// A panic ends the process at once and says only where it was: its message could hold what must not be
/// written anywhere.
#[must_use]
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let _ = rustix::io::write(std::io::stderr(), format!("hsm-worker: panic at {place}\n").as_bytes());
        std::process::abort();
    }));
    serve_on(std::io::stdin()).into()
}

/// Serves one end of a SOCK_SEQPACKET pair until the other closes. A process can do so once: the sandbox
/// is entered for good, and the module stays loaded.
pub fn serve_on(socket: impl AsFd) -> Exit {
    link::run(socket.as_fd())
}
