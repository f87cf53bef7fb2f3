//! What `init` or `recover` has made so far, in the state folder, until it is in the store. It holds
//! wrapped keys and public values; mode 0600 all the same.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_hsm::protocol::Hierarchy;

use crate::{
    cli::{
        compose::{failure, sync_folder},
        failure::Failure,
        files::{Content, Out},
    },
    config::Config,
};

/// The file of `init`.
pub(super) const INIT: &str = "init-begun.json";
/// The file of `recover`.
pub(super) const RECOVER: &str = "recover-begun.json";

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    /// The instance's id.
    pub(super) instance: [u8; 16],
    /// The fingerprints of the recovery keys, in order.
    pub(super) recovery: Vec<[u8; 32]>,
    /// What the HSM made.
    pub(super) hierarchy: Option<Hierarchy>,
}

impl Pending {
    /// Nothing was made yet.
    pub(super) fn new(instance: [u8; 16], recovery: &[[u8; 32]]) -> Self {
        Self { instance, recovery: recovery.to_vec(), hierarchy: None }
    }

    fn path(config: &Config, name: &str) -> PathBuf {
        config.hsm.state_dir.join(name)
    }

    /// What an interrupted run has left.
    pub(super) fn read(config: &Config, name: &str) -> anyhow::Result<Option<Self>> {
        let path = Self::path(config, name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failure(format!("cannot read {}", path.display()), &error).into()),
        };
        let read = serde_json::from_slice(&text).map_err(|_| {
            Failure::new(format!("{} is not what this release writes", path.display()))
                .hint("it is what an interrupted command has left: go on with the release that wrote it")
        })?;
        Ok(Some(read))
    }

    /// Writes it, durably.
    pub(super) fn write(&self, config: &Config, name: &str) -> anyhow::Result<()> {
        Out::prepare(&Self::path(config, name), Content::Secret)?.commit(&serde_json::to_vec(self)?)?;
        sync_folder(&config.hsm.state_dir)
    }

    /// Removes it: all is in the store.
    pub(super) fn forget(&self, config: &Config, name: &str) -> anyhow::Result<()> {
        let path = Self::path(config, name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failure(format!("cannot remove {}", path.display()), &error).into())
            }
            _ => sync_folder(&config.hsm.state_dir),
        }
    }

    /// The recovery keys, for people.
    pub(super) fn shown_recovery(&self) -> String {
        if self.recovery.is_empty() {
            return "none (--no-recovery)".to_owned();
        }
        let shown: Vec<String> =
            self.recovery.iter().map(|key| format!("sha256:{}", base16ct::lower::encode_string(key))).collect();
        shown.join(", ")
    }
}
