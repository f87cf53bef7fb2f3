//! What every change can be asked with: a request id (AIP-155) and the state that was seen (AIP-154).

use clap::Args;

use super::failure::Failure;
use crate::model::RequestId;

/// `--request-id`, on every change.
#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// Repeat an earlier change safely: the same UUID changes nothing twice [default: a new one]
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
}

impl ChangeArgs {
    /// The request id to send: the caller's, or a new one.
    pub(super) fn request_id(&self) -> anyhow::Result<String> {
        match &self.request_id {
            Some(id) => Ok(id.parse::<RequestId>()?.to_string()),
            None => Ok(uuid::Uuid::new_v4().to_string()),
        }
    }
}

/// `--etag`, on changes of what exists.
#[derive(Debug, Args)]
pub(super) struct EtagArgs {
    /// Change it only if its etag is still this one
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl EtagArgs {
    /// The etag to send; empty when any will do.
    pub(super) fn value(&self) -> String {
        self.etag.clone().unwrap_or_default()
    }
}

/// `--dry-run`, on changes of access.
#[derive(Debug, Args)]
pub(super) struct DryRunArgs {
    /// Change nothing, and list what would become possible and impossible for whom
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Refuses an update that names no field.
pub(super) fn check_mask(paths: &[String], flags: &str) -> Result<(), Failure> {
    if paths.is_empty() {
        return Err(Failure::new("nothing to change was named").hint(format!("pass at least one of {flags}")));
    }
    Ok(())
}
