//! `strongroom hsm-worker`: the worker program, started by the pool and by nobody else.

use std::{fs, process::ExitCode};

/// Serves the socket that is standard input.
pub(super) fn run() -> ExitCode {
    // It was started as /proc/self/exe, which would be its name in `ps` and `top`. Without the name it
    // works as well.
    let _ = fs::write("/proc/self/comm", "strongroom-hsm");
    strongroom_hsm::worker::main()
}
