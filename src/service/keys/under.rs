//! What wrapped keys are under, and what a whole key that comes has to find: shared by restores and moves.

use strongroom_hsm::{KekId, protocol::Moment};

use crate::{
    model::{Residency, Stage, VaultRow, VersionId, VersionRow},
    service::{
        KeyRef, Service,
        error::{Problem, ServiceError},
    },
};

/// Whether what is under that key opens in that vault as long as it is there: it is a key-encryption key of the vault's own, or that
/// root (none: the one of `init`).
pub(in crate::service) fn opens_in(under: Option<VersionId>, vault: &VaultRow, root: Option<KekId>) -> bool {
    match vault.kek {
        // What is in it is under it, or under one before it that is there still.
        Some(_) => vault.kek_ids().any(|kek| under == Some(kek)),
        None => under == root.map(VersionId::from_bytes),
    }
}

/// The same of a version's blob. What has none needs neither.
pub(in crate::service) fn version_opens_in(version: &VersionRow, vault: &VaultRow, root: Option<KekId>) -> bool {
    version.residency != Residency::Wrapped || opens_in(version.kek, vault, root)
}

impl Service {
    /// The present root. While its rows are carried over to another, no whole key is taken from where it is or put there: it
    /// would be missed.
    pub(in crate::service) fn resting_root(&self) -> Result<Option<KekId>, ServiceError> {
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
