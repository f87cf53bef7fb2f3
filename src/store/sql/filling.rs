//! A store that is filled with what another holds.
//!
//! While that is under way, and when it did not come to its end, the store says so (table `unfinished`) and is not
//! opened for anything else.

use super::{
    activity, boot, clock,
    columns::Columns,
    commit, deliveries,
    error::{Failure, fault},
    events, heads, leases, replicas, requests,
    session::{Session, Text, query},
};
use crate::store::{Activity, Batch, EventPlace, FillingError, StoreError, Use};

/// A table: its rows can be counted, and taken away.
struct Table {
    name: &'static str,
    count: &'static str,
    empty: Text,
}

macro_rules! table {
    ($name:literal) => {
        Table {
            name: $name,
            count: concat!("SELECT count(*) AS rows FROM ", $name),
            // PostgreSQL would take too long over many rows otherwise.
            empty: Text { sqlite: concat!("DELETE FROM ", $name), postgres: concat!("TRUNCATE ", $name, " CASCADE") },
        }
    };
}

/// What is counted and taken away, children before parents.
const TABLES: [Table; 24] = [
    table!("deliveries"),
    table!("webhooks"),
    table!("events"),
    table!("activity"),
    table!("clock"),
    table!("usage"),
    table!("known"),
    table!("secret_values"),
    table!("secret_versions"),
    table!("secrets"),
    table!("versions"),
    table!("keys"),
    table!("access_policies"),
    table!("vaults"),
    table!("role_assignments"),
    table!("role_definitions"),
    table!("tokens"),
    table!("issuer_keys"),
    table!("instance"),
    table!("heads"),
    table!("requests"),
    table!("replicas"),
    table!("leases"),
    // Not part of a copy, as deliveries: whoever is told no way reads the scope.
    table!("steps"),
];

const IS_UNFINISHED: &str = "SELECT singleton FROM unfinished";
const BEGIN: &str = "INSERT INTO unfinished (singleton) VALUES (1)";
const FINISH: &str = "DELETE FROM unfinished";

pub(super) async fn is_unfinished(session: &mut Session) -> Result<bool, StoreError> {
    Ok(query(IS_UNFINISHED).fetch_optional(session).await.map_err(fault)?.is_some())
}

/// How many rows each table has, of those that a copy has too.
pub(super) async fn counts(session: &mut Session) -> Result<Vec<(&'static str, u64)>, StoreError> {
    let mut counts = Vec::with_capacity(TABLES.len());
    for table in TABLES.iter().filter(|table| !["steps", "deliveries"].contains(&table.name)) {
        counts.push((table.name, count(session, table).await?));
    }
    Ok(counts)
}

async fn count(session: &mut Session, table: &Table) -> Result<u64, StoreError> {
    let row = query(table.count).fetch_optional(session).await.map_err(fault)?;
    let row = row.ok_or(StoreError::Inconsistent { table: table.name, column: "count" })?;
    Columns::of(table.name, &row).number("rows")
}

/// Marks an empty store. One that is unfinished is emptied if that is said.
pub(super) async fn begin(session: &mut Session, anew: bool) -> Result<(), FillingError> {
    if is_unfinished(session).await? {
        if !anew {
            return Err(FillingError::Unfinished);
        }
        for table in &TABLES {
            query(table.empty).execute(session).await.map_err(fault)?;
        }
        return Ok(());
    }
    for table in &TABLES {
        if count(session, table).await? > 0 {
            return Err(FillingError::NotEmpty { table: table.name });
        }
    }
    query(BEGIN).execute(session).await.map_err(fault)?;
    Ok(())
}

/// Writes rows as they are, parents before children.
pub(super) async fn fill(session: &mut Session, mut batch: Batch) -> Result<(), Failure> {
    if !is_unfinished(session).await? {
        return Err(Failure::CONFLICT);
    }
    session.fill();
    let moment = clock::next(session).await?;
    batch.writes.sort_by_key(commit::rank);
    for write in &batch.writes {
        commit::write(session, write).await?;
    }
    for head in &batch.heads {
        heads::put(session, head, moment).await?;
    }
    for request in &batch.requests {
        requests::insert(session, request).await?;
    }
    for replica in &batch.replicas {
        replicas::write(session, replica).await?;
    }
    for (lease, holder) in &batch.leases {
        leases::put(session, lease, holder).await?;
    }
    // Places begin at 1 where there are no changes before.
    for (number, event) in (1..).zip(&batch.events) {
        events::insert(session, event, EventPlace { position: moment.position, number }, moment.now).await?;
    }
    for webhook in &batch.webhooks {
        deliveries::begin(session, webhook).await?;
    }
    if let Some(clock) = &batch.clock {
        boot::write(session, clock).await?;
    }
    if let Some((known, since)) = &batch.activity {
        let uses =
            known.iter().map(|(version, Activity { used, uses })| Use { version: *version, used: *used, uses: *uses });
        activity::note(session, &uses.collect::<Vec<_>>()).await?;
        activity::set_since(session, *since).await?;
    }
    Ok(())
}

/// Takes the mark away.
pub(super) async fn finish(session: &mut Session) -> Result<(), StoreError> {
    query(FINISH).execute(session).await.map_err(fault)?;
    Ok(())
}
