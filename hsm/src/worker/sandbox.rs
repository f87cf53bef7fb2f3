//! Shuts the worker in, before the module is loaded.
//!
//! What must hold is an error when it does not; what the machine may refuse (locked memory in a small
//! container, a network namespace without user namespaces) is done as far as it allows.

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior, set_parent_process_death_signal,
        setrlimit,
    },
    thread::{UnshareFlags, set_no_new_privs},
};

use crate::{profile::Sandbox, protocol::Fault};

/// Enters the sandbox for good.
///
/// # Errors
/// [`Fault::Setup`] when privileges or dumps cannot be given up.
pub(crate) fn enter(sandbox: Sandbox) -> Result<(), Fault> {
    let refused = |what: &str, error: rustix::io::Errno| Fault::Setup(format!("the worker cannot {what}: {error}"));
    set_no_new_privs(true).map_err(|error| refused("give up new privileges", error))?;
    // Neither a core file nor another process of the same user reads the memory that holds keys.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|error| refused("give up core dumps", error))?;
    // A worker inside a long call does not see its parent's end; the kernel does.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| refused("end with its parent", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| refused("forbid tracing", error))?;
    lock_memory();
    match sandbox {
        Sandbox::Strict => leave_network(),
        Sandbox::Network => {}
    }
    Ok(())
}

/// Keeps keys out of swap. What is allocated later is locked too only where there is no limit: under one,
/// the allocation that exceeds it would fail, and with it the worker.
fn lock_memory() {
    let no_limit = Rlimit { current: None, maximum: None };
    let _ = setrlimit(Resource::Memlock, no_limit);
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT;
    let flags = if unlimited { flags | MlockAllFlags::FUTURE } else { flags };
    let _ = mlockall(flags);
}

/// Moves to an empty network namespace: no address, no route. Sockets in the file system (syslog) still
/// work.
#[expect(deprecated, reason = "rustix marks it unsafe for CLONE_FILES only, which is not among the flags")]
fn leave_network() {
    if rustix::thread::unshare(UnshareFlags::NEWNET).is_err() {
        let _ = rustix::thread::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET);
    }
}
