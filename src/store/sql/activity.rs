//! When versions were last used.

use super::{
    columns::{Columns, integer},
    error::{Failure, fault},
    session::{Record, Session, Text, query},
};
use crate::{
    model::{KeyName, Timestamp, VaultName, VersionId},
    store::{Activity, StoreError, Use},
};

const TABLE: &str = "activity";
// Without its version nothing is noted: it was purged meanwhile. SQLite takes ON for a join without WHERE; there is one.
// PostgreSQL does not see what a purge under way has done: a version that somebody is taking away is passed over, and nobody
// waits for the other or notes what has no version.
const NOTE: Text = Text {
    sqlite: "INSERT INTO activity (version, used_at, uses) SELECT id, $2, $3 FROM versions WHERE id = $1 \
        ON CONFLICT (version) DO UPDATE SET uses = activity.uses + excluded.uses, \
        used_at = CASE WHEN excluded.used_at > activity.used_at THEN excluded.used_at ELSE activity.used_at END",
    postgres: "INSERT INTO activity (version, used_at, uses) SELECT id, $2, $3 FROM versions WHERE id = $1 \
        FOR KEY SHARE SKIP LOCKED \
        ON CONFLICT (version) DO UPDATE SET uses = activity.uses + excluded.uses, \
        used_at = CASE WHEN excluded.used_at > activity.used_at THEN excluded.used_at ELSE activity.used_at END",
};
// The version is locked before what is known of its use, as whoever notes does it.
const REMOVE: Text = Text {
    sqlite: "DELETE FROM activity WHERE version = $1",
    postgres: "DELETE FROM activity USING (SELECT id FROM versions WHERE id = $1 FOR UPDATE) AS gone \
        WHERE activity.version = gone.id",
};
const OF_KEY: Text = Text {
    sqlite: "SELECT activity.* FROM vaults CROSS JOIN keys ON keys.vault_id = vaults.id \
        CROSS JOIN versions ON versions.key_id = keys.id CROSS JOIN activity ON activity.version = versions.id \
        WHERE vaults.name = $1 AND keys.folded_name = $2 AND versions.ordinal < $3 \
        ORDER BY versions.ordinal DESC LIMIT $4",
    postgres: "SELECT activity.* FROM vaults JOIN keys ON keys.vault_id = vaults.id \
        JOIN versions ON versions.key_id = keys.id JOIN activity ON activity.version = versions.id \
        WHERE vaults.name = $1 AND keys.folded_name = $2 AND versions.ordinal < $3 \
        ORDER BY versions.ordinal DESC LIMIT $4",
};
const SINCE: &str = "SELECT at FROM activity_since";
const SET_SINCE: &str = "UPDATE activity_since SET at = $1";
const ALL: &str = "SELECT * FROM activity WHERE version > $1 ORDER BY version LIMIT $2";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 4] = [NOTE.sqlite, REMOVE.sqlite, OF_KEY.sqlite, ALL];

/// Adds uses. Those who do so at once give them in the order of their versions, or they wait for each other.
pub(super) async fn note(session: &mut Session, uses: &[Use]) -> Result<(), Failure> {
    for one in uses {
        let query = query(NOTE).bind(one.version.bytes().to_vec()).bind(one.used.0);
        query.bind(integer(one.uses, TABLE, "uses")?).execute(session).await?;
    }
    Ok(())
}

pub(super) async fn remove(session: &mut Session, version: VersionId) -> Result<(), Failure> {
    query(REMOVE).bind(version.bytes().to_vec()).execute(session).await?;
    Ok(())
}

/// Of the versions of a key.
pub(super) async fn of_key(
    session: &mut Session,
    vault: &VaultName,
    key: &KeyName,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<(VersionId, Activity)>, StoreError> {
    let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let query = query(OF_KEY).bind(vault.as_str()).bind(key.folded()).bind(before).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

pub(super) async fn all(
    session: &mut Session,
    after: Option<VersionId>,
    limit: u32,
) -> Result<Vec<(VersionId, Activity)>, StoreError> {
    let after = after.map_or_else(Vec::new, |version| version.bytes().to_vec());
    let query = query(ALL).bind(after).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

/// Since when anything is noted.
pub(super) async fn since(session: &mut Session) -> Result<Timestamp, StoreError> {
    let row = query(SINCE).fetch_optional(session).await.map_err(fault)?;
    let row = row.ok_or(StoreError::Inconsistent { table: "activity_since", column: "at" })?;
    Columns::of("activity_since", &row).time("at")
}

/// As it is in another store.
pub(super) async fn set_since(session: &mut Session, since: Timestamp) -> Result<(), Failure> {
    query(SET_SINCE).bind(since.0).execute(session).await?;
    Ok(())
}

fn decode(row: &Record) -> Result<(VersionId, Activity), StoreError> {
    let columns = Columns::of(TABLE, row);
    let activity = Activity { used: columns.time("used_at")?, uses: columns.number("uses")? };
    Ok((columns.version("version")?, activity))
}
