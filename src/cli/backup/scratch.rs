//! A site of its own in a scratch folder: store, log, state and a SoftHSM token, as a configuration that touches nothing else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use strongroom_hsm::profile::{LaneProfile, Sandbox, TokenName};

use crate::{
    cli::{
        compose::{failure, make_folder},
        dev,
    },
    config::{Audit, Config, Hsm, StoreChoice},
};

/// The folder. Dropped, it is taken away with all that is in it.
pub(super) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// Makes one (0700) in that folder, or where temporary files go.
    pub(super) fn make(within: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("strongroom-drill-");
        let folder = match within {
            Some(within) => builder.tempdir_in(within),
            None => builder.tempdir(),
        };
        let scratch = Self { folder: folder.map_err(|error| failure("there is no scratch folder", &error))? };
        for folder in [scratch.tokens(), scratch.path("state")] {
            make_folder(&folder)?;
        }
        dev::write_softhsm_configuration(&scratch.path("softhsm2.conf"), &scratch.tokens())?;
        for pin in ["pin", "so-pin"] {
            dev::write_pin(&scratch.path(pin))?;
        }
        Ok(scratch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where its token's files are.
    pub(super) fn tokens(&self) -> PathBuf {
        self.path("tokens")
    }

    /// The security officer's PIN of the token that is to be made.
    pub(super) fn so_pin(&self) -> PathBuf {
        self.path("so-pin")
    }

    /// The configuration, with everything that could be touched replaced by what is here.
    pub(super) fn config(&self, of: &Config, label: &str, pin: Option<&Path>) -> anyhow::Result<Config> {
        let is_softhsm = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("softhsm"));
        let module = if is_softhsm(&of.hsm.module) { of.hsm.module.clone() } else { dev::softhsm()? };
        let one_each = of.hsm.lanes.iter().map(|(lane, profile)| (*lane, LaneProfile { workers: 1, ..*profile }));
        let hsm = Hsm {
            module,
            module_parameters: None,
            environment: BTreeMap::from([(
                "SOFTHSM2_CONF".to_owned(),
                self.path("softhsm2.conf").display().to_string(),
            )]),
            token: TokenName { label: label.to_owned(), serial: None },
            pin_file: pin.map_or_else(|| self.path("pin"), Path::to_owned),
            state_dir: self.path("state"),
            recovery_key_file: None,
            sandbox: Sandbox::Strict,
            sync_dirs: vec![self.tokens()],
            lanes: one_each.collect(),
            ..of.hsm.clone()
        };
        Ok(Config {
            hsm,
            store: StoreChoice::Sqlite(self.path("store.db")),
            audit: Audit { dir: self.path("audit"), exporters: Vec::new(), ..of.audit.clone() },
            oidc: Vec::new(),
            webhooks: Vec::new(),
            backup: None,
            tracing: None,
            ..of.clone()
        })
    }

    /// Takes it away now, and says if that fails.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let path = self.folder.path().to_owned();
        self.folder.close().map_err(|error| failure(format!("{} is still there", path.display()), &error))?;
        debug_assert!(!fs::exists(&path).unwrap_or(false), "it is gone");
        Ok(())
    }
}
