//! How a module is to be used: where it is, which token, and what its lanes look like. Differences
//! between modules are said here, never asked by the module's name elsewhere.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::algorithms::Lane;

/// Which token: by label, and by serial number where more than one has the label. Never by slot index,
/// which is not stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenName {
    /// CK_TOKEN_INFO.label, at most 32 bytes.
    pub label: String,
    /// CK_TOKEN_INFO.serialNumber.
    #[serde(default)]
    pub serial: Option<String>,
}

/// How tightly a worker shuts itself in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// No new privileges, no core dump, memory locked where allowed, no network. For modules in software.
    Strict,
    /// As strict, but with the network: for modules that reach their HSM over it.
    Network,
}

/// Workers and limits of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneProfile {
    /// How many worker processes.
    pub workers: usize,
    /// The most calls waiting; more are refused.
    pub queue_max: usize,
    /// A call that runs longer than this means that the module hangs: its worker is replaced.
    pub hang: Duration,
}

/// A module, a token and the lanes in front of it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// Text that the module takes at `C_Initialize` in `pReserved`, which the standard leaves to vendors. NSS
    /// softokn is told there where its files are.
    pub module_parameters: Option<String>,
    /// Environment variables that the module needs (SoftHSM: SOFTHSM2_CONF). Workers get these and no others.
    pub environment: BTreeMap<String, String>,
    /// Which token.
    pub token: TokenName,
    /// The file that holds the user PIN.
    pub pin_file: PathBuf,
    /// Where the start lock and the PIN latch live.
    pub state_dir: PathBuf,
    /// Folders that hold the token's files, synced after a change of a token object (SoftHSM does not).
    pub sync_dirs: Vec<PathBuf>,
    /// How tightly workers shut themselves in.
    pub sandbox: Sandbox,
    /// The lanes.
    pub lanes: BTreeMap<Lane, LaneProfile>,
    /// The most keys a worker keeps loaded: 8 to 10 KB each on SoftHSM.
    pub cached_keys_max: usize,
    /// A worker is replaced by a warm new one after this many key loads: SoftHSM leaks about 250 bytes at each.
    pub loads_max: u64,
    /// How often each worker signs with the canary.
    pub canary_every: Duration,
    /// The program that is a worker when called with `hsm-worker`; our own executable, except in tests.
    pub worker_program: PathBuf,
    /// Arguments of the program.
    pub worker_arguments: Vec<String>,
    /// Scripted faults for tests, per lane: see [`crate::worker::faults`].
    pub faults: BTreeMap<Lane, String>,
}

impl Profile {
    /// The lanes measured best for SoftHSM on a machine with that many cores: one worker for short work,
    /// one for each core for medium work, one each for the rest.
    #[must_use]
    pub fn softhsm_lanes(cores: usize) -> BTreeMap<Lane, LaneProfile> {
        Lane::ALL
            .into_iter()
            .map(|lane| {
                let (workers, hang) = match lane {
                    Lane::Short => (1, Duration::from_secs(5)),
                    Lane::Medium => (cores.clamp(1, 8), Duration::from_secs(10)),
                    Lane::Long => (1, Duration::from_secs(30)),
                    Lane::Generate => (1, Duration::from_secs(120)),
                };
                (lane, LaneProfile { workers, queue_max: 4096, hang })
            })
            .collect()
    }
}
