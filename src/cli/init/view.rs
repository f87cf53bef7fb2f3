//! What `init` and `recover` have to say when they are done.

use serde::Serialize;

use super::shown_escrow;
use crate::{
    cli::compose::{failure, first_log},
    config::Config,
    model::{Escrow, InstanceRow, Principal},
    service::checkpoints,
};

/// A new instance.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct InitialisedView {
    pub(in crate::cli) instance: String,
    pub(in crate::cli) token_label: String,
    pub(in crate::cli) token_serial: String,
    pub(in crate::cli) unwrap_template: bool,
    /// Absent when an interrupted run had made it before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) administrator: Option<String>,
    pub(in crate::cli) recovery_keys: Vec<String>,
    pub(in crate::cli) store: String,
    pub(in crate::cli) audit_dir: String,
    /// The verifier key of the log's checkpoints.
    pub(in crate::cli) log_key: String,
    #[serde(skip)]
    pub(in crate::cli) escrow: String,
}

impl InitialisedView {
    /// What was made.
    pub(super) fn of(
        config: &Config,
        instance: &InstanceRow,
        administrator: Option<&Principal>,
    ) -> anyhow::Result<Self> {
        let log_key = checkpoints::key(instance, &first_log(config, instance.id))
            .map_err(|error| failure("the log has no key", &error))?;
        Ok(Self {
            instance: base16ct::lower::encode_string(&instance.id),
            token_label: instance.token_label.clone(),
            token_serial: instance.token_serial.clone(),
            unwrap_template: instance.unwrap_template,
            administrator: administrator.map(Principal::to_string),
            recovery_keys: fingerprints(&instance.escrow),
            store: config.store.to_string(),
            audit_dir: config.audit.dir.display().to_string(),
            log_key: log_key.to_string(),
            escrow: shown_escrow(&instance.escrow),
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { instance, token_label, token_serial, store, audit_dir, log_key, escrow, .. } = self;
        let administrator = self.administrator.as_deref().unwrap_or("made before");
        let template = if self.unwrap_template {
            "yes"
        } else {
            "no: this module lacks it; PIN and store together give keys away"
        };
        format!(
            "Initialised.\n\
             \x20 instance         {instance}\n\
             \x20 token            {token_label} (serial {token_serial})\n\
             \x20 unwrap template  {template}\n\
             \x20 administrator    {administrator}\n\
             \x20 recovery keys    {escrow}\n\
             \x20 store            {store}\n\
             \x20 audit log        {audit_dir}\n\
             \x20 log key          {log_key}\n\
             Keep: store and audit log in one backup, of one moment; the private halves of the recovery keys away from\n\
             this machine; the token and its PINs. Without token and without recovery key every key is lost.\n\
             Give the log key to whoever is to verify the audit log: it is no secret, and only a copy proves anything.\n\
             Next: strongroom serve --config FILE"
        )
    }
}

/// A token that took the place of another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RecoveredView {
    pub(in crate::cli) instance: String,
    pub(in crate::cli) token_label: String,
    pub(in crate::cli) token_serial: String,
}

impl RecoveredView {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { instance, token_label, token_serial } = self;
        format!(
            "Recovered.\n\
             \x20 instance         {instance}\n\
             \x20 token            {token_label} (serial {token_serial})\n\
             The root key opened the store's keys, and the new canary signs. Keys of `token` residency and the KEKs of\n\
             vaults that have one are not there.\n\
             Next: strongroom serve --config FILE"
        )
    }
}

/// The recovery keys, as OpenSSL would say who they are.
pub(super) fn fingerprints(escrow: &[Escrow]) -> Vec<String> {
    escrow.iter().map(|escrow| format!("sha256:{}", base16ct::lower::encode_string(&escrow.recovery_key))).collect()
}
