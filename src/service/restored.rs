//! What the first start after a restore does: the log has an open intent that says so ([`crate::backup::RESTORE`]).
//!
//! The store is of an earlier moment, and what its counters of AES-GCM encryptions missed since nobody knows. NIST SP 800-38D,
//! section 8.3, bounds them for each key, whatever was lost: so each counter is raised, by as many again as it had counted
//! and by no fewer than [`MARGIN`]. A start that is interrupted raises some of them once more: such keys reach
//! their bound sooner, and none later.
//!
//! What a policy counts of uses (a rotation after so many) is doubled for every key. What is known of versions that were gone is
//! raised like what is counted: a backup of such a key may have come back since.

use std::{sync::Arc, time::Duration};

use strongroom_hsm::{
    algorithms::{GCM_ENCRYPTIONS_MAX, KeyType},
    protocol::Moment,
};

use super::{
    Page, Service,
    catalog::Checked,
    error::ServiceError,
    scopes::{ByItself, Locked, Making, NewRow, Put},
};
use crate::{
    audit::{Durability, Kind, Outcome, Record},
    model::{KeyObjectRow, KnownRow, USES_MAX, UsageRow, VaultRow},
    store::HeadScope,
};

/// So many encryptions at least are taken for made since a backup.
pub const MARGIN: u64 = 1 << 24;
/// How many rows are read, and counters raised, at once.
const PAGE: u32 = 200;
/// How long that may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Raises every counter and records that the restore is done.
pub(super) async fn settle(service: &Arc<Service>, index: u64, intent: &Record) -> Result<(), ServiceError> {
    let mut raised = 0;
    let mut page = Page { size: PAGE, after: None, deleted: true };
    loop {
        let vaults = service.catalog.vaults(&page, Moment::now().after(WITHIN)).await?;
        page.after = vaults.last().map(|vault| vault.row.name.clone());
        for vault in &vaults {
            raised += raise(service, &vault.row).await? + raise_known(service, &vault.row).await?;
        }
        if vaults.len() <= page.size as usize {
            break;
        }
    }
    tracing::error!(
        index,
        detail = intent.detail,
        raised,
        "store and log were restored from a backup: what was changed since it was made is gone, and rights that were \
         revoked since are back"
    );
    let scope = service.catalog.scopes.cell(HeadScope::Service, Moment::now().after(WITHIN)).await?;
    let said = intent.detail.clone().unwrap_or_default();
    let outcome = Record {
        kind: Kind::Outcome,
        outcome: Outcome::Done,
        intent: Some(index),
        time: service.clock.now().0,
        detail: Some(format!("{said}; counters raised: {raised}")),
        heads: vec![scope.mark()],
        ..intent.clone()
    };
    service.log.append_reserved(outcome, Durability::Fsync).await?;
    Ok(())
}

/// Raises the counters of a vault's keys; says how many.
async fn raise(service: &Arc<Service>, vault: &VaultRow) -> Result<u64, ServiceError> {
    let mut raised = 0;
    let mut page = Page { size: PAGE, after: None, deleted: true };
    loop {
        let keys = service.catalog.keys(vault, &page, Moment::now().after(WITHIN)).await?;
        page.after = keys.last().map(|key| key.row.name.clone());
        for key in &keys {
            raised += raise_key(service, vault, &key.row).await?;
        }
        if keys.len() <= page.size as usize {
            return Ok(raised);
        }
    }
}

async fn raise_key(service: &Arc<Service>, vault: &VaultRow, key: &KeyObjectRow) -> Result<u64, ServiceError> {
    let (mut raised, mut page) = (0, Page { size: PAGE, after: None, deleted: true });
    loop {
        let deadline = Moment::now().after(WITHIN);
        let locked = service.catalog.scopes.lock(HeadScope::Vault(vault.id), deadline).await?;
        let versions = service.catalog.versions(vault, key, &page, deadline).await?;
        page.after = versions.last().map(|version| version.row.ordinal);
        let more = versions.len() > page.size as usize;
        let mut puts = Vec::new();
        for version in &versions {
            let (id, is_aes) = (version.row.version, version.row.spec.key_type() == KeyType::Aes);
            match service.catalog.usage(vault, id, deadline).await? {
                Some(old) => {
                    puts.push(Put::replace(old.row.as_ref(), old.seal, NewRow::Usage(beyond(&old.row, is_aes))));
                }
                None if is_aes => {
                    let row = UsageRow { version: id, encryptions: MARGIN, uses: 0, revision: 1 };
                    puts.push(Put::insert(NewRow::Usage(row)));
                }
                None => {}
            }
        }
        raised += put(service, &locked, format!("vaults/{}/keys/{}", vault.name, key.name), puts, deadline).await?;
        if !more {
            return Ok(raised);
        }
    }
}

/// Raises what is known of versions that are gone; says of how many. It does not say of which kind they were: whoever reads it
/// does.
async fn raise_known(service: &Arc<Service>, vault: &VaultRow) -> Result<u64, ServiceError> {
    let (mut raised, mut after) = (0, None);
    loop {
        let deadline = Moment::now().after(WITHIN);
        let locked = service.catalog.scopes.lock(HeadScope::Vault(vault.id), deadline).await?;
        let known = service.catalog.all_known(vault, after, PAGE, deadline).await?;
        let Some(last) = known.last() else { return Ok(raised) };
        after = Some(last.row.id);
        let beyond = |old: &Checked<KnownRow>| {
            let row = known_beyond(&old.row);
            Put::replace(old.row.as_ref(), old.seal, NewRow::Known(row))
        };
        let puts = known.iter().map(beyond).collect();
        raised += put(service, &locked, format!("vaults/{}/keys", vault.name), puts, deadline).await?;
    }
}

/// Makes the changes and records them; says how many they were.
async fn put(
    service: &Service,
    locked: &Locked,
    resource: String,
    puts: Vec<Put>,
    deadline: Moment,
) -> Result<u64, ServiceError> {
    let count = puts.len() as u64;
    if count > 0 {
        let making = Making { name: "keys.reserve", right: &ByItself, intent: 0, request: None, deadline };
        let committed = service.catalog.scopes.commit(locked, making, puts).await?;
        let record = Record {
            resource: Some(resource),
            heads: vec![committed.mark],
            ..Record::new(service.clock.now(), Kind::Event, "keys.reserve", Outcome::Done)
        };
        service.log.append(record, Durability::Write).await?;
    }
    Ok(count)
}

/// A counter that has certainly counted all that was made.
fn beyond(row: &UsageRow, is_aes: bool) -> UsageRow {
    UsageRow {
        encryptions: if is_aes { encryptions_beyond(row.encryptions) } else { row.encryptions },
        uses: row.uses.saturating_mul(2).min(USES_MAX),
        revision: row.revision + 1,
        ..*row
    }
}

/// The same of a version that was gone.
fn known_beyond(row: &KnownRow) -> KnownRow {
    KnownRow {
        encryptions: encryptions_beyond(row.encryptions),
        uses: row.uses.saturating_mul(2).min(USES_MAX),
        revision: row.revision + 1,
        ..row.clone()
    }
}

fn encryptions_beyond(counted: u64) -> u64 {
    counted.saturating_add(counted.max(MARGIN)).min(GCM_ENCRYPTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, VersionId};

    #[test]
    fn a_counter_doubles_and_grows_by_no_less_than_the_margin_and_never_beyond_its_end() {
        let of =
            |encryptions, uses| UsageRow { version: VersionId::from_bytes([1; 16]), encryptions, uses, revision: 4 };
        assert_eq!(beyond(&of(64, 0), true), UsageRow { revision: 5, ..of(64 + MARGIN, 0) });
        assert_eq!(beyond(&of(MARGIN * 2, 10), true).encryptions, MARGIN * 4);
        assert_eq!(beyond(&of(GCM_ENCRYPTIONS_MAX - 1, USES_MAX), true).encryptions, GCM_ENCRYPTIONS_MAX);
        assert_eq!(beyond(&of(0, USES_MAX), true).uses, USES_MAX);
        assert_eq!(beyond(&of(0, 10), false), UsageRow { revision: 5, ..of(0, 20) });
        let known = KnownRow { encryptions: 64, uses: 10, ..KnownRow::here([1; 16], [2; 16], Timestamp(3)) };
        let raised = KnownRow { encryptions: 64 + MARGIN, uses: 20, revision: 2, ..known.clone() };
        assert_eq!(known_beyond(&known), raised);
    }
}
