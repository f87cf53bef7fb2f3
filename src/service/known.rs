//! What outlives a key that has backups: [`KnownRow`]. Written with the change that takes the key away, and read when a
//! backup comes back.

use strongroom_hsm::protocol::Moment;

use super::{
    Service,
    catalog::Checked,
    error::ServiceError,
    scopes::{NewRow, Put},
};
use crate::{
    model::{Fate, KeyObjectRow, KnownRow, RowId, RowKind, SecretRow, Timestamp, UsageRow, VaultRow, VersionRow},
    store::HeadScope,
};

/// How what goes is remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// As what.
    pub(super) fate: Fate,
    /// When it went.
    pub(super) at: Timestamp,
}

impl Service {
    /// What is known of a key or version, by its id.
    pub(super) async fn known(
        &self,
        vault: &VaultRow,
        id: [u8; 16],
        deadline: Moment,
    ) -> Result<Option<Checked<KnownRow>>, ServiceError> {
        let scope = self.catalog.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        if !scope.has(&RowId { kind: RowKind::Known, id }) {
            return Ok(None);
        }
        self.catalog.known(vault, id, deadline).await
    }

    /// Keeps what is known of a version that goes.
    pub(super) async fn remember_version(
        &self,
        vault: &VaultRow,
        version: &VersionRow,
        usage: Option<&UsageRow>,
        memory: Memory,
        deadline: Moment,
    ) -> Result<Put, ServiceError> {
        let id = version.version.bytes();
        let known = self.known(vault, id, deadline).await?;
        // One that came back by a backup, or from another vault, may have been counted before.
        let before = known.as_ref().map_or((0, 0), |known| (known.row.encryptions, known.row.uses));
        let (encryptions, uses) = usage.map_or((0, 0), |usage| (usage.encryptions, usage.uses));
        let row = KnownRow {
            fate: memory.fate,
            last: version.revision,
            encryptions: encryptions.max(before.0),
            uses: uses.max(before.1),
            ..KnownRow::here(id, vault.id, memory.at)
        };
        Ok(put(known.as_ref(), row))
    }

    /// Keeps what is known of a key that goes, if there are backups of it.
    pub(super) fn remember_key(known: &Checked<KnownRow>, key: &KeyObjectRow, memory: Memory) -> Put {
        // Backups are of keys in use: the deletion is no news to them.
        let last = key.revision - u64::from(!key.state.is_active());
        let (fate, newest) = (memory.fate, Some(key.current));
        put(Some(known), KnownRow { fate, newest, last, at: memory.at, ..KnownRow::clone(&known.row) })
    }

    /// Keeps what is known of a secret that goes, if there are backups of it.
    pub(super) fn remember_secret(known: &Checked<KnownRow>, secret: &SecretRow, memory: Memory) -> Put {
        let last = secret.revision - u64::from(!secret.state.is_active());
        let (fate, newest) = (memory.fate, Some(secret.current));
        put(Some(known), KnownRow { fate, newest, last, at: memory.at, ..KnownRow::clone(&known.row) })
    }
}

/// Puts a row in the place of what is known so far.
fn put(known: Option<&Checked<KnownRow>>, row: KnownRow) -> Put {
    match known {
        None => Put::insert(NewRow::Known(row)),
        Some(old) => {
            let row = KnownRow { revision: old.row.revision + 1, ..row };
            Put::replace(old.row.as_ref(), old.seal, NewRow::Known(row))
        }
    }
}
