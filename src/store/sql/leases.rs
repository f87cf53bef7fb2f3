//! Leases of scheduled work, by the database's clock.
//!
//! A lease that has lapsed is still the newest until another is taken: who holds it can no longer be sure, but has not
//! been replaced. What it wrote late is refused from the moment that another has it (*fencing*).

use std::time::Duration;

use super::{
    clock,
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::ReplicaName,
    store::{CommitError, StoreError, WorkLease},
};

const TABLE: &str = "leases";
const ALL: &str = "SELECT work, token, holder, expires_at FROM leases ORDER BY work";
// Only who holds it, and in time, keeps the token: who comes back late may be another process of the same name.
const TAKE: &str = "INSERT INTO leases (work, token, holder, expires_at) VALUES ($1, 1, $2, $3) \
    ON CONFLICT (work) DO UPDATE SET \
    token = CASE WHEN leases.holder = $2 AND leases.expires_at > $4 THEN leases.token ELSE leases.token + 1 END, \
    holder = $2, expires_at = $3 WHERE leases.holder = $2 OR leases.expires_at <= $4 \
    RETURNING work, token, holder, expires_at";
const PUT: &str = "INSERT INTO leases (work, token, holder, expires_at) VALUES ($1, $2, $3, 0)";
const GIVE: &str = "UPDATE leases SET expires_at = 0 WHERE work = $1 AND token = $2";
// Nothing changes, but the row is locked until the change is committed: nobody takes the lease in between.
const HOLD: &str = "UPDATE leases SET token = token WHERE work = $1 AND token = $2";

/// Takes or keeps a lease. The clock is read before the row is locked: a lease never lives longer than was said.
pub(super) async fn take(
    session: &mut Session,
    work: &str,
    holder: &ReplicaName,
    life: Duration,
) -> Result<Option<WorkLease>, Failure> {
    let now = clock::now(session).await?;
    let until = now.saturating_add(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
    let query = query(TAKE).bind(work).bind(holder.as_str()).bind(until).bind(now);
    let rows = query.fetch_all(session).await?;
    Ok(rows.first().map(decode).transpose()?.map(|(lease, ..)| lease))
}

/// Gives a lease back, if it is still the newest.
pub(super) async fn give(session: &mut Session, lease: &WorkLease) -> Result<(), StoreError> {
    let query = query(GIVE).bind(lease.name.as_str()).bind(integer(lease.token, TABLE, "token")?);
    query.execute(session).await.map_err(fault)?;
    Ok(())
}

/// Locks a lease for the transaction of this session.
pub(super) async fn hold(session: &mut Session, lease: &WorkLease) -> Result<(), Failure> {
    let query = query(HOLD).bind(lease.name.as_str()).bind(integer(lease.token, TABLE, "token")?);
    match query.execute(session).await? {
        1 => Ok(()),
        _ => Err(Failure::Refused(CommitError::Fenced)),
    }
}

/// Writes a lease as it was, so that its token goes on growing; nobody has it.
pub(super) async fn put(session: &mut Session, lease: &WorkLease, holder: &ReplicaName) -> Result<(), Failure> {
    let token = integer(lease.token, TABLE, "token")?;
    write_one(session, query(PUT).bind(lease.name.as_str()).bind(token).bind(holder.as_str())).await
}

/// Every lease with its holder and what it has left.
pub(super) async fn all(session: &mut Session) -> Result<Vec<(WorkLease, ReplicaName, Duration)>, Failure> {
    let rows = query(ALL).fetch_all(session).await?;
    let now = clock::now(session).await?;
    let left = |until: i64| Duration::from_millis(u64::try_from(until.saturating_sub(now)).unwrap_or(0));
    let decoded = rows.iter().map(|row| decode(row).map(|(lease, holder, until)| (lease, holder, left(until))));
    Ok(decoded.collect::<Result<_, _>>()?)
}

fn decode(row: &Record) -> Result<(WorkLease, ReplicaName, i64), StoreError> {
    let columns = Columns::of(TABLE, row);
    let lease = WorkLease { name: columns.text("work")?.to_owned(), token: columns.number("token")? };
    Ok((lease, columns.parsed("holder")?, columns.time("expires_at")?.0))
}
