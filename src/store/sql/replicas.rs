//! Replicas: a sealed row of each, and beside it the last sign of life, which is not sealed.

use std::time::Duration;

use super::{
    clock,
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{Ordinal, ReplicaRow},
    store::{Beat, Position, Replica, Sealed, StoreError},
};

const TABLE: &str = "replicas";
const ALL: &str = "SELECT id, revision, seal, ordinal, name, created_at, log_size, log_root, closed, beat_at, heard, \
    version, address, trouble, adopted FROM replicas ORDER BY ordinal";
const INSERT: &str = "INSERT INTO replicas (id, revision, seal, ordinal, name, created_at, log_size, log_root, closed) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const UPDATE: &str = "UPDATE replicas SET revision = $2, seal = $3, ordinal = $4, name = $5, created_at = $6, \
    log_size = $7, log_root = $8, closed = $9 WHERE id = $1 AND revision = $2 - 1";
const BEAT: &str = "UPDATE replicas SET beat_at = $2, heard = $3, version = $4, address = $5, trouble = $6, \
    adopted = $7 WHERE name = $1";

/// Every replica. The clock is read last: a sign of life may look a little older than it is, and never younger.
pub(super) async fn all(session: &mut Session) -> Result<Vec<Replica>, Failure> {
    let rows = query(ALL).fetch_all(session).await?;
    let now = clock::now(session).await?;
    Ok(rows.iter().map(|row| decode(row, now)).collect::<Result<_, _>>()?)
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<ReplicaRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.id.to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(i64::from(row.ordinal.get()))
        .bind(row.name.as_str())
        .bind(row.created.0)
        .bind(integer(row.log_size, TABLE, "log_size")?)
        .bind(row.log_root.to_vec())
        .bind(row.closed);
    write_one(session, query).await
}

pub(super) async fn beat(session: &mut Session, beat: Beat) -> Result<(), StoreError> {
    let now = clock::now(session).await.map_err(Failure::into_store_error)?;
    let query = query(BEAT)
        .bind(beat.replica.as_str())
        .bind(now)
        .bind(integer(beat.heard.0, TABLE, "heard")?)
        .bind(beat.version)
        .bind(beat.address)
        .bind(beat.trouble)
        .bind(integer(beat.adopted, TABLE, "adopted")?);
    match query.execute(session).await.map_err(fault)? {
        1 => Ok(()),
        // Its row is written before it serves, and never taken away.
        _ => Err(StoreError::Inconsistent { table: TABLE, column: "name" }),
    }
}

fn decode(row: &Record, now: i64) -> Result<Replica, StoreError> {
    let columns = Columns::of(TABLE, row);
    let ordinal = u32::try_from(columns.number("ordinal")?).ok().and_then(Ordinal::new);
    let row = ReplicaRow {
        id: columns.array("id")?,
        ordinal: ordinal.ok_or_else(|| columns.wrong("ordinal"))?,
        name: columns.parsed("name")?,
        created: columns.time("created_at")?,
        log_size: columns.number("log_size")?,
        log_root: columns.array("log_root")?,
        closed: columns.flag("closed")?,
        revision: columns.revision()?,
    };
    let beat = match columns.optional_time("beat_at")? {
        None => None,
        Some(at) => {
            let beat = Beat {
                replica: row.name.clone(),
                heard: Position(columns.number("heard")?),
                adopted: columns.number("adopted")?,
                version: columns.text("version")?.to_owned(),
                address: columns.text("address")?.to_owned(),
                trouble: columns.text("trouble")?.to_owned(),
            };
            Some((beat, Duration::from_millis(u64::try_from(now.saturating_sub(at.0)).unwrap_or(0))))
        }
    };
    Ok(Replica { row: columns.sealed(row)?, beat })
}
