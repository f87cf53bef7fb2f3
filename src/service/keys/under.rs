//! What wrapped keys are under, and what a whole key that comes has to find: shared by restores and moves.

use strongroom_hsm::{KekId, protocol::Moment};

use crate::{
    model::{Residency, Stage, VaultRow, VersionId, VersionRow},
    service::{
        KeyRef, Service,
        error::{Problem, ServiceError},
    },
};

/// Whether a version's blob opens in that vault as long as it is there: it is under a key-encryption key of the vault's own, or under
/// that root (none: the one of `init`). What has no blob needs neither.
pub(in crate::service) fn opens_in(version: &VersionRow, vault: &VaultRow, root: Option<KekId>) -> bool {
    let is_under = match vault.kek {
        // Its versions are under it, or under one before it that is there still.
        Some(_) => vault.kek_ids().any(|kek| version.kek == Some(kek)),
        None => version.kek == root.map(VersionId::from_bytes),
    };
    version.residency != Residency::Wrapped || is_under
}

impl Service {
    /// The present root. While its rows are carried over to another, no whole key is taken from where it is or put there: it
    /// would be missed.
    pub(super) fn resting_root(&self) -> Result<Option<KekId>, ServiceError> {
        let instance = self.instance();
        if instance.renewal.as_ref().is_some_and(|renewal| renewal.stage != Stage::Prepared) {
            let why = "another root key is taking the root's place: try again when it has".to_owned();
            return Err(Problem::Precondition { reason: "ROOT_IN_ROTATION", why }.into());
        }
        Ok(instance.service_keys.root.map(|root| root.id))
    }

    /// That no key has that name, or had it and is not purged yet: before a whole key comes to it.
    pub(super) async fn check_name_is_free(
        &self,
        vault: &VaultRow,
        name: &KeyRef,
        deadline: Moment,
    ) -> Result<(), ServiceError> {
        let problem = match self.catalog.key(vault, &name.key, deadline).await {
            Ok(key) if key.row.state.is_active() => Problem::Exists { name: name.to_string() },
            Ok(_) => Problem::Deleted { name: name.to_string() },
            Err(ServiceError { problem: Problem::NotFound { .. }, .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        Err(problem.into())
    }
}
