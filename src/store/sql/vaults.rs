//! Vaults.

use strongroom_hsm::protocol::Kek;

use super::{
    columns::{Columns, integer, state_times},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{
        AddressRange, MaxStaleness, NetworkRules, RetiredKek, Tags, Timestamp, VaultAuthorization, VaultName, VaultRow,
        VersionId, rows::kek_check,
    },
    store::{Sealed, StoreError},
};

const TABLE: &str = "vaults";
const BY_NAME: &str = "SELECT * FROM vaults WHERE name = $1";
const ID_BY_NAME: &str = "SELECT id FROM vaults WHERE name = $1";
const PAGE: &str = "SELECT * FROM vaults WHERE name > $1 AND ($2 OR deleted_at IS NULL) ORDER BY name LIMIT $3";
const INSERT: &str = "INSERT INTO vaults (id, revision, seal, name, retention_days, purge_protection, deleted_at, \
    purge_at, created_at, updated_at, intent, tags, padding_decryption_allowed, public_access, local_access, \
    allowed_ranges, \"authorization\", max_staleness, purging, kek, kek_check, retired_keks, \
    kek_since) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)";
const UPDATE: &str = "UPDATE vaults SET revision = $2, seal = $3, name = $4, retention_days = $5, \
    purge_protection = $6, deleted_at = $7, purge_at = $8, created_at = $9, updated_at = $10, intent = $11, tags = $12, \
    padding_decryption_allowed = $13, public_access = $14, local_access = $15, allowed_ranges = $16, \
    \"authorization\" = $17, max_staleness = $18, purging = $19, kek = $20, kek_check = $21, \
    retired_keks = $22, kek_since = $23 WHERE id = $1 AND revision = $2 - 1";
const KEK_EXISTS: &str = "SELECT 1 FROM vaults WHERE kek = $1 OR retired_keks LIKE $2";
const WITH_RETIRED_KEKS: &str = "SELECT name FROM vaults WHERE retired_keks <> '' AND name > $1 ORDER BY name LIMIT $2";
const REMOVE: &str = "DELETE FROM vaults WHERE id = $1";
const TO_PURGE: &str = "SELECT name FROM vaults WHERE purge_at IS NOT NULL AND (purging OR purge_at <= $1) \
    ORDER BY purge_at, id LIMIT $2";

pub(super) async fn by_name(session: &mut Session, name: &VaultName) -> Result<Option<Sealed<VaultRow>>, StoreError> {
    let row = query(BY_NAME).bind(name.as_str().to_owned()).fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn page(
    session: &mut Session,
    after: Option<&VaultName>,
    limit: u32,
    deleted: bool,
) -> Result<Vec<Sealed<VaultRow>>, StoreError> {
    // No name is empty, so every name comes after the empty one.
    let after = after.map_or("", VaultName::as_str).to_owned();
    let rows = query(PAGE).bind(after).bind(deleted).bind(i64::from(limit)).fetch_all(session).await;
    rows.map_err(fault)?.iter().map(decode).collect()
}

/// The id of the vault of that name, in the transaction that is going to write something into it.
pub(super) async fn id_of(session: &mut Session, name: &VaultName) -> Result<[u8; 16], Failure> {
    let row = query(ID_BY_NAME).bind(name.as_str().to_owned()).fetch_optional(session).await?;
    // Whoever writes into a vault has read it: one that is not there was purged meanwhile.
    let row = row.ok_or(Failure::CONFLICT)?;
    Ok(Columns::of(TABLE, &row).array("id")?)
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<VaultRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let (deleted_at, purge_at) = state_times(row.state);
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.id.to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(row.name.as_str().to_owned())
        .bind(i64::from(row.retention_days))
        .bind(row.purge_protection)
        .bind(deleted_at)
        .bind(purge_at)
        .bind(row.created.0)
        .bind(row.updated.0)
        .bind(integer(row.intent, TABLE, "intent")?)
        .bind(row.tags.to_json())
        .bind(row.padding_decryption_allowed)
        .bind(row.network.public_access())
        .bind(row.network.local_access())
        .bind(ranges_text(row.network.ranges()))
        .bind(row.authorization.name())
        .bind(i64::from(row.max_staleness.seconds()))
        .bind(row.purging)
        .bind(row.kek.map(|kek| kek.id.to_vec()))
        .bind(row.kek.as_ref().map(|kek| kek_check(Some(kek))))
        .bind(retired_text(&row.retired_keks))
        .bind(row.kek_since.map(|since| since.0));
    write_one(session, query).await
}

/// Takes a vault away that holds nothing any more.
pub(super) async fn remove(session: &mut Session, id: [u8; 16]) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(id.to_vec())).await
}

/// Deleted vaults whose time has come by then, or that are being destroyed, in the order of their times.
pub(super) async fn to_purge(session: &mut Session, by: Timestamp, limit: u32) -> Result<Vec<VaultName>, StoreError> {
    let rows = query(TO_PURGE).bind(by.0).bind(i64::from(limit)).fetch_all(session).await.map_err(fault)?;
    rows.iter().map(|row| Columns::of(TABLE, row).parsed("name")).collect()
}

fn decode(row: &Record) -> Result<Sealed<VaultRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(VaultRow {
        id: columns.array("id")?,
        name: columns.parsed("name")?,
        tags: tags(&columns)?,
        retention_days: columns.small("retention_days")?,
        purge_protection: columns.flag("purge_protection")?,
        padding_decryption_allowed: columns.flag("padding_decryption_allowed")?,
        network: network(&columns)?,
        authorization: VaultAuthorization::from_name(columns.text("authorization")?)
            .ok_or_else(|| columns.wrong("authorization"))?,
        max_staleness: MaxStaleness::new(columns.number("max_staleness")?)
            .ok_or_else(|| columns.wrong("max_staleness"))?,
        kek: kek(&columns)?,
        retired_keks: retired_keks(&columns)?,
        kek_since: columns.optional_time("kek_since")?,
        state: columns.state()?,
        purging: columns.flag("purging")?,
        created: columns.time("created_at")?,
        updated: columns.time("updated_at")?,
        intent: columns.number("intent")?,
        revision: columns.revision()?,
    })
}

/// `kek` and `kek_check`: both or none.
fn kek(columns: &Columns<'_>) -> Result<Option<Kek>, StoreError> {
    let wrong = || columns.wrong("kek_check");
    match (columns.optional_version("kek")?, columns.optional_bytes("kek_check")?) {
        (None, None) => Ok(None),
        (Some(id), Some(check)) => {
            let (blob, mark) = check.split_at_checked(24).ok_or_else(wrong)?;
            let (blob, mark) = (blob.try_into().map_err(|_| wrong())?, mark.try_into().map_err(|_| wrong())?);
            Ok(Some(Kek { id: id.bytes(), blob, mark }))
        }
        _ => Err(wrong()),
    }
}

/// Retired KEKs as they are stored: `{id}:{time}`, one after the other.
fn retired_text(keks: &[RetiredKek]) -> String {
    let texts: Vec<String> = keks.iter().map(|kek| format!("{}:{}", kek.id, kek.retired.0)).collect();
    texts.join(" ")
}

/// `retired_keks`, in the one spelling that is written.
fn retired_keks(columns: &Columns<'_>) -> Result<Vec<RetiredKek>, StoreError> {
    let wrong = || columns.wrong("retired_keks");
    let text = columns.text("retired_keks")?;
    let read = |one: &str| {
        let (id, at) = one.split_once(':')?;
        Some(RetiredKek { id: id.parse().ok()?, retired: Timestamp(at.parse().ok()?) })
    };
    let keks: Option<Vec<RetiredKek>> = text.split(' ').filter(|one| !one.is_empty()).map(read).collect();
    keks.filter(|keks| retired_text(keks) == text).ok_or_else(wrong)
}

/// Whether a vault has that KEK, or has retired it.
pub(super) async fn kek_exists(session: &mut Session, id: VersionId) -> Result<bool, StoreError> {
    let query = query(KEK_EXISTS).bind(id.bytes().to_vec()).bind(format!("%{id}:%"));
    Ok(query.fetch_optional(session).await.map_err(fault)?.is_some())
}

/// Vaults that have retired KEKs, by name.
pub(super) async fn with_retired_keks(
    session: &mut Session,
    after: Option<&VaultName>,
    limit: u32,
) -> Result<Vec<VaultName>, StoreError> {
    let after = after.map_or("", VaultName::as_str).to_owned();
    let query = query(WITH_RETIRED_KEKS).bind(after).bind(i64::from(limit));
    let rows = query.fetch_all(session).await.map_err(fault)?;
    rows.iter().map(|row| Columns::of(TABLE, row).parsed("name")).collect()
}

/// `public_access`, `local_access` and `allowed_ranges`, in the one spelling that is written.
fn network(columns: &Columns<'_>) -> Result<NetworkRules, StoreError> {
    let wrong = || columns.wrong("allowed_ranges");
    let text = columns.text("allowed_ranges")?;
    let ranges: Vec<String> = serde_json::from_str(text).map_err(|_| wrong())?;
    let ranges: Result<Vec<AddressRange>, _> = ranges.iter().map(|range| range.parse()).collect();
    let (public, local) = (columns.flag("public_access")?, columns.flag("local_access")?);
    let rules = NetworkRules::new(public, local, ranges.map_err(|_| wrong())?).map_err(|_| wrong())?;
    if ranges_text(rules.ranges()) == text { Ok(rules) } else { Err(wrong()) }
}

/// Ranges as a JSON array of texts.
fn ranges_text(ranges: &[AddressRange]) -> String {
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    serde_json::to_string(&ranges).expect("texts are JSON")
}

/// `tags`, in the one spelling that is sealed.
pub(super) fn tags(columns: &Columns<'_>) -> Result<Tags, StoreError> {
    let json = columns.text("tags")?;
    Tags::from_json(json).filter(|tags| tags.to_json() == json).ok_or_else(|| columns.wrong("tags"))
}
