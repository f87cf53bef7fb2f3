//! Applying a change: one transaction, one fsync, whole or not at all.
//!
//! Heads are written first and in the order of their ids. They are what two changes of one scope clash
//! on, so the loser learns that it decided on old rows ([`CommitError::Conflict`]) before it is told
//! anything about names; and a store with more than one writer takes its locks in one order. Then come the rows,
//! parents before children, whatever order the change lists them in.
//!
//! A dropped future is safe at every await: before COMMIT is sent the transaction is rolled back, after
//! that it is committed. Which of the two it was the caller does not learn.

use std::time::Instant;

use sqlx::{Connection as _, SqliteConnection, SqlitePool};

use super::{
    assignments,
    columns::Query,
    definitions,
    error::{Failure, fault, is_foreign_key_violation, is_unique_violation},
    heads, instance, keys, policies, requests, tokens, usage, vaults, versions,
};
use crate::{
    failpoint,
    store::{Change, CommitError, Write},
};

/// How often a change is tried while another program holds the file. Each try waits for the lock up to
/// [`super::open::BUSY_TIMEOUT`].
const TRIES_MAX: u32 = 3;

/// Applies a change.
#[tracing::instrument(skip_all, name = "store.commit", fields(change = change.name))]
pub(super) async fn commit(writer: &SqlitePool, mut change: Change) -> Result<(), CommitError> {
    let began = Instant::now();
    change.heads.sort_by_key(|head| head.unchecked().scope);
    change.writes.sort_by_key(rank);
    let mut tries = 1;
    let result = loop {
        match attempt(writer, &change).await {
            Err(failure) if failure.is_busy() && tries < TRIES_MAX => tries += 1,
            result => break result.map_err(Failure::into_commit_error),
        }
    };
    let outcome = match &result {
        Ok(()) => "done",
        Err(CommitError::Conflict) => "conflict",
        Err(CommitError::Exists) => "exists",
        Err(CommitError::Store(_)) => "failed",
    };
    metrics::histogram!("strongroom_store_commit_seconds", "change" => change.name, "outcome" => outcome)
        .record(began.elapsed());
    result
}

/// Parents before children.
const fn rank(write: &Write) -> u8 {
    match write {
        Write::Instance(_) => 0,
        Write::Vault(_) => 1,
        Write::Key(_) => 2,
        Write::Version(_) => 3,
        Write::Usage(_) => 4,
        Write::Assignment(_) | Write::RemoveAssignment(_) => 5,
        Write::IssuerKey(_) | Write::Token(_) | Write::RemoveToken(_) => 6,
        Write::RoleDefinition(_) | Write::RemoveRoleDefinition(_) => 7,
        Write::AccessPolicy(_) | Write::RemoveAccessPolicy(_) => 8,
    }
}

async fn attempt(writer: &SqlitePool, change: &Change) -> Result<(), Failure> {
    // SQLite ends a transaction by itself on a full disk or a failed write, which the driver does not
    // notice: `open` has the pool throw such a connection away, so nothing is to be mended here.
    let mut connection = writer.acquire().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    apply(&mut transaction, change).await?;
    if failpoint::hit(failpoint::STORE_BEFORE_COMMIT) {
        return Err(injected());
    }
    // Never repeated: whether it was applied is not known.
    transaction.commit().await.map_err(|error| Failure::Refused(fault(error).into()))?;
    if failpoint::hit(failpoint::STORE_AFTER_COMMIT) {
        return Err(injected());
    }
    Ok(())
}

async fn apply(connection: &mut SqliteConnection, change: &Change) -> Result<(), Failure> {
    for head in &change.heads {
        heads::write(connection, head).await?;
    }
    if let Some(request) = &change.request {
        requests::insert(connection, request).await?;
    }
    for write in &change.writes {
        match write {
            Write::Instance(row) => instance::write(connection, row).await?,
            Write::Vault(row) => vaults::write(connection, row).await?,
            Write::Key(row) => keys::write(connection, row).await?,
            Write::Version(row) => versions::write(connection, row).await?,
            Write::Usage(row) => usage::write(connection, row).await?,
            Write::Assignment(row) => assignments::write(connection, row).await?,
            Write::RemoveAssignment(id) => assignments::remove(connection, *id).await?,
            Write::Token(row) => tokens::write(connection, row).await?,
            Write::RemoveToken(id) => tokens::remove(connection, *id).await?,
            Write::IssuerKey(row) => tokens::write_key(connection, row).await?,
            Write::RoleDefinition(row) => definitions::write(connection, row).await?,
            Write::RemoveRoleDefinition(id) => definitions::remove(connection, *id).await?,
            Write::AccessPolicy(row) => policies::write(connection, row).await?,
            Write::RemoveAccessPolicy(id) => policies::remove(connection, *id).await?,
        }
    }
    Ok(())
}

/// Runs the statement that writes one row. Nothing written means that the row has not the revision
/// before, or is gone.
pub(super) async fn write_one(connection: &mut SqliteConnection, query: Query) -> Result<(), Failure> {
    match query.execute(connection).await {
        Ok(done) if done.rows_affected() == 1 => Ok(()),
        Ok(_) => Err(Failure::CONFLICT),
        Err(error) if is_unique_violation(&error) => Err(Failure::Refused(CommitError::Exists)),
        Err(error) if is_foreign_key_violation(&error) => Err(Failure::CONFLICT),
        Err(error) => Err(error.into()),
    }
}

/// A clash that is not one of names: somebody else wrote the same thing first.
pub(super) fn exists_is_conflict(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(CommitError::Exists) => Failure::CONFLICT,
        other => other,
    }
}

fn injected() -> Failure {
    Failure::Driver(std::io::Error::other("a fail-point said so").into())
}
