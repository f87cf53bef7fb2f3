//! Applying a change: one transaction, one fsync, whole or not at all.
//!
//! Heads are written first and in the order of their ids. They are what two changes of one scope clash
//! on, so the loser learns that it decided on old rows ([`CommitError::Conflict`]) before it is told
//! anything about names; and a store with more than one writer takes its locks in one order. Then come the rows,
//! parents before children, whatever order the change lists them in. Before all of them comes the lease, if there is
//! one: whose turn has passed need not wait for heads.
//!
//! *Isolation.* READ COMMITTED is enough where there is more than one writer: a head is written where its revision is
//! still the one before, which locks it, and who waited for the lock finds the revision gone on. Whatever a change
//! decided by is under a head that it writes or is unique by an index.
//!
//! A dropped future is safe at every await: before COMMIT is sent the transaction is rolled back, after
//! that it is committed. Which of the two it was the caller does not learn.

use std::time::Instant;

use super::{
    Database, Failure, assignments, clock, definitions,
    error::{fault, is_foreign_key_violation, is_unique_violation},
    events, heads, instance, keys, known, leases, policies, requests, secret_versions, secrets,
    session::{Purpose, Query, Session},
    tokens, usage, vaults, versions,
};
use crate::{
    failpoint,
    store::{Change, CommitError, EventPlace, Position, Write},
};

/// How often a change is tried while something that passes is in its way. Each try waits within the database's bounds.
const TRIES_MAX: u32 = 3;

/// Applies a change.
#[tracing::instrument(skip_all, name = "store.commit", fields(change = change.name))]
pub(super) async fn commit(database: &impl Database, mut change: Change) -> Result<Position, CommitError> {
    let began = Instant::now();
    change.heads.sort_by_key(|change| change.head.unchecked().scope);
    change.writes.sort_by_key(rank);
    let mut tries = 1;
    let result = loop {
        match attempt(database, &change).await {
            Err(Failure::Driver(error)) if tries < TRIES_MAX && database.is_passing(&error) => tries += 1,
            result => break result.map_err(Failure::into_commit_error),
        }
    };
    let outcome = match &result {
        Ok(_) => "done",
        Err(CommitError::Conflict) => "conflict",
        Err(CommitError::Exists) => "exists",
        Err(CommitError::Fenced) => "fenced",
        Err(CommitError::Store(_)) => "failed",
    };
    metrics::histogram!("strongroom_store_commit_seconds", "change" => change.name, "outcome" => outcome)
        .record(began.elapsed());
    result
}

/// Parents before children.
pub(super) const fn rank(write: &Write) -> u8 {
    match write {
        Write::Instance(_) => 0,
        Write::Vault(_) => 1,
        Write::Key(_) | Write::Secret(_) => 2,
        Write::Version(_) | Write::SecretVersion(_) => 3,
        Write::Usage(_) | Write::MovedUsage(_) | Write::Known(_) => 4,
        Write::Assignment(_) | Write::RemoveAssignment(_) => 5,
        Write::IssuerKey(_) | Write::RemoveIssuerKey(_) | Write::Token(_) | Write::RemoveToken(_) => 6,
        Write::RoleDefinition(_) | Write::RemoveRoleDefinition(_) => 7,
        Write::AccessPolicy(_) | Write::RemoveAccessPolicy(_) => 8,
        // What is taken away the other way round.
        Write::RemoveUsage(_) | Write::RemoveKnown(..) => 9,
        Write::RemoveVersion(_) | Write::RemoveSecretVersion(_) => 10,
        Write::RemoveKey(_) | Write::RemoveSecret(_) => 11,
        Write::RemoveVault(_) => 12,
        Write::Anew(write) => rank(write),
    }
}

async fn attempt(database: &impl Database, change: &Change) -> Result<Position, Failure> {
    let mut session = database.session(Purpose::Write).await?;
    let position = apply(&mut session, change).await?;
    if failpoint::hit(failpoint::STORE_BEFORE_COMMIT) {
        return Err(injected());
    }
    // Never repeated: whether it was applied is not known.
    let result = session.commit().await;
    database.announce(change.is_urgent);
    result.map_err(|error| Failure::Refused(fault(error).into()))?;
    if failpoint::hit(failpoint::STORE_AFTER_COMMIT) {
        return Err(injected());
    }
    Ok(position)
}

async fn apply(session: &mut Session, change: &Change) -> Result<Position, Failure> {
    if let Some(lease) = &change.lease {
        leases::hold(session, lease).await?;
    }
    let moment = clock::next(session).await?;
    for head in &change.heads {
        heads::write(session, head, moment).await?;
    }
    if let Some(request) = &change.request {
        requests::insert(session, request).await?;
    }
    for row in &change.writes {
        write(session, row).await?;
    }
    for (number, event) in (0..).zip(&change.events) {
        events::insert(session, event, EventPlace { position: moment.position, number }, moment.now).await?;
    }
    Ok(moment.position)
}

/// Writes or removes one row.
pub(super) async fn write(session: &mut Session, row: &Write) -> Result<(), Failure> {
    match row {
        Write::Instance(row) => instance::write(session, row).await,
        Write::Vault(row) => vaults::write(session, row).await,
        Write::Key(row) => keys::write(session, row).await,
        Write::Version(row) => versions::write(session, row).await,
        Write::Usage(row) => usage::write(session, row).await,
        Write::Assignment(row) => assignments::write(session, row).await,
        Write::RemoveAssignment(id) => assignments::remove(session, *id).await,
        Write::Token(row) => tokens::write(session, row).await,
        Write::RemoveToken(id) => tokens::remove(session, *id).await,
        Write::IssuerKey(row) => tokens::write_key(session, row).await,
        Write::RemoveIssuerKey(id) => tokens::remove_key(session, *id).await,
        Write::RoleDefinition(row) => definitions::write(session, row).await,
        Write::RemoveRoleDefinition(id) => definitions::remove(session, *id).await,
        Write::AccessPolicy(row) => policies::write(session, row).await,
        Write::RemoveAccessPolicy(id) => policies::remove(session, *id).await,
        Write::RemoveUsage(version) => usage::remove(session, *version).await,
        Write::RemoveVersion(version) => versions::remove(session, *version).await,
        Write::RemoveKey(id) => keys::remove(session, *id).await,
        Write::RemoveVault(id) => vaults::remove(session, *id).await,
        Write::Known(row) => known::write(session, row).await,
        Write::RemoveKnown(vault, id) => known::remove(session, *vault, *id).await,
        Write::Secret(row) => secrets::write(session, row).await,
        Write::SecretVersion(row) => secret_versions::write(session, row).await,
        Write::RemoveSecretVersion(version) => secret_versions::remove(session, *version).await,
        Write::RemoveSecret(id) => secrets::remove(session, *id).await,
        Write::MovedUsage(row) => usage::write_moved(session, row).await,
        Write::Anew(row) => {
            let before = session.fill();
            let written = Box::pin(write(session, row)).await;
            session.go_on(before);
            written
        }
    }
}

/// Runs the statement that writes one row. Nothing written means that the row has not the revision
/// before, or is gone.
pub(super) async fn write_one(session: &mut Session, query: Query) -> Result<(), Failure> {
    match query.execute(session).await {
        Ok(1) => Ok(()),
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
    Failure::Refused(fault(std::io::Error::other("a fail-point said so").into()).into())
}
