//! Carrying keys over from one root to another: a worker of its own, beside the lanes, that has what opens the old root.

use std::{sync::Arc, time::Duration};

use crate::{
    error::StartError,
    pool::process::Process,
    profile::Profile,
    protocol::{Fault, Renewed, Renewing, Request, Response, Role},
    statement::KeyRow,
};

/// How long some rows may take: an RSA key of 4096 bits takes milliseconds.
const ROWS_WITHIN: Duration = Duration::from_secs(60);
/// How long the worker may take to close its session and end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// So many rows go in one packet: each has a few KB at most, and must fit with its answer.
const ROWS_AT_ONCE: usize = 8;

/// A worker that carries keys over.
pub struct Renewer {
    process: Process,
    /// How many rows it was given.
    rows: u64,
}

impl Renewer {
    /// Starts it.
    ///
    /// # Errors
    /// [`Fault::Setup`] says what is wrong with the recovery key.
    pub async fn start(profile: &Profile, renewing: Renewing) -> Result<Self, StartError> {
        let (process, _) = Process::start(profile, None, 0, Role::Renew(renewing)).await?;
        Ok(Self { process, rows: 0 })
    }

    /// Carries versions over: one result for each, in order. What could not be carried over is left as it was.
    ///
    /// # Errors
    /// When the worker is lost: another has to be started.
    pub async fn renew(&mut self, rows: &[Arc<KeyRow>]) -> Result<Vec<Result<Renewed, Fault>>, StartError> {
        let mut renewed = Vec::with_capacity(rows.len());
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let request = |row: &Arc<KeyRow>| Request::Renew {
                seal: row.seal.to_vec().into(),
                row: row.canonical.to_vec().into(),
            };
            self.rows += rows.len() as u64;
            for answer in self.process.ask_all(rows.iter().map(request).collect(), ROWS_WITHIN).await? {
                renewed.push(answer.and_then(|response| match response {
                    Response::Renewed(renewed) => Ok(renewed),
                    _ => Err(Fault::Protocol),
                }));
            }
        }
        Ok(renewed)
    }

    /// How many rows it was given: a module may leak something with each.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends it.
    pub async fn end(self) {
        self.process.end(END_WITHIN).await;
    }
}
