//! What follows when a call fails: the same again, elsewhere or later, or its error.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

use crate::{
    Cause, Error,
    client::spread,
    endpoints::{Endpoints, wire::Way},
};

/// The most attempts at one call, not counting those that could not be sent while there was another server.
pub(crate) const ATTEMPTS_MAX: u32 = 6;
/// The wait before the first repetition; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The attempts at one call.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    made: u32,
    /// It went to another server because its connection broke.
    has_moved: bool,
    /// Where it failed since it last waited.
    pub(crate) tried: Vec<usize>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Next {
    /// Again, elsewhere.
    Now,
    /// Again, then.
    At(Instant),
    /// Nothing: this is the end.
    End(Error),
}

impl Attempts {
    /// An attempt has failed.
    pub(crate) fn failed(&mut self, endpoints: &Arc<Endpoints>, way: &Way, status: &Status) -> Next {
        self.tried.push(way.at);
        let cause = Cause::of(status);
        let broke = cause.is_some() || is_of_transport(status);
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let end = || endpoints.refused(way, status);
        match status.code() {
            _ if broke => endpoints.lost(way.at, cause.clone().unwrap_or(Cause::Broken)),
            Code::Unavailable => endpoints.set_aside(way.at, asked),
            Code::ResourceExhausted if asked.is_some() => {}
            code => {
                if is_callers_doing(code) {
                    endpoints.answered(way.at);
                }
                return Next::End(end());
            }
        }
        let was_sent = !was_not_sent(status);
        if !was_sent && endpoints.has_another(&self.tried, false) {
            return Next::Now;
        }
        self.made += 1;
        let is_repeatable = way.repetition.get().is_some_and(Option::is_some);
        let is_lasting = cause.as_ref().is_some_and(Cause::is_lasting);
        if (was_sent && !is_repeatable) || self.made >= ATTEMPTS_MAX {
            return Next::End(end());
        }
        // A server that dies ends all that is under way there at once: more than a budget has. Each may go to a server
        // that is well, and once: so an outage is made twice as bad at most.
        if broke && !self.has_moved && endpoints.has_another(&self.tried, true) {
            self.has_moved = true;
            return Next::Now;
        }
        if !endpoints.budget.spend() {
            return Next::End(end());
        }
        // That server does not want it now; another may.
        let is_elsewhere = broke || status.code() == Code::Unavailable;
        if is_elsewhere && endpoints.has_another(&self.tried, was_sent) {
            return Next::Now;
        }
        if is_lasting {
            return Next::End(end());
        }
        self.tried.clear();
        let backoff = spread(BACKOFF_FIRST * 2_u32.pow(self.made - 1));
        Next::At(Instant::now() + asked.unwrap_or_default().max(backoff))
    }
}

/// A connection that broke is `UNKNOWN` to tonic; to us the server was unavailable.
fn is_of_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>())
}

/// Whether a server that says so works as it should.
const fn is_callers_doing(code: Code) -> bool {
    use Code::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unauthenticated};
    let refused = matches!(code, PermissionDenied | Unauthenticated | NotFound | AlreadyExists);
    refused || matches!(code, InvalidArgument | FailedPrecondition | Code::Aborted | Code::OutOfRange)
}

/// Whether the connection that it was to be sent on was never there.
fn was_not_sent(status: &Status) -> bool {
    is_by::<ConnectError>(status)
}

/// Whether our own timer ended it. That says nothing of the server, and less of the connection.
pub(crate) fn is_late(status: &Status) -> bool {
    is_by::<TimeoutExpired>(status)
}

/// Whether an error of that kind is behind it.
fn is_by<E: std::error::Error + 'static>(status: &Status) -> bool {
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;
    use tonic_types::ErrorDetails;

    use super::*;

    fn one() -> Arc<Endpoints> {
        Endpoints::one(Endpoint::from_static("http://127.0.0.1:9").connect_lazy(), "the server")
    }

    fn way(path: &str) -> Way {
        let way = Way::to(0);
        way.repetition.set(crate::methods::repetition(path)).expect("new");
        way
    }

    const SIGN: &str = "/strongroom.v1.Crypto/Sign";

    /// How long it waits, in milliseconds.
    fn wait(next: &Next) -> Option<u128> {
        match next {
            Next::At(then) => Some(then.saturating_duration_since(Instant::now()).as_millis()),
            Next::Now | Next::End(_) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_repeated() {
        let (endpoints, mut attempts) = (one(), Attempts::default());
        for first_ms in [100, 200, 400, 800, 1600] {
            let waits = wait(&attempts.failed(&endpoints, &way(SIGN), &Status::unavailable(""))).expect("repeated");
            assert!((first_ms..=2 * first_ms).contains(&waits), "{waits}");
        }
        let last = attempts.failed(&endpoints, &way(SIGN), &Status::unavailable(""));
        assert!(matches!(last, Next::End(Error::Unavailable(_))), "{last:?}");
        let quota = Attempts::default().failed(&endpoints, &way(SIGN), &Status::resource_exhausted(""));
        assert!(matches!(quota, Next::End(_)), "a quota without a time to come back");
        for code in
            [Code::Internal, Code::InvalidArgument, Code::DeadlineExceeded, Code::PermissionDenied, Code::Aborted]
        {
            let next = Attempts::default().failed(&endpoints, &way(SIGN), &Status::new(code, ""));
            assert!(matches!(next, Next::End(_)), "{code:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_says_how_long_to_wait() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        assert_eq!(wait(&Attempts::default().failed(&one(), &way(SIGN), &status)), Some(2000));
    }

    #[tokio::test]
    async fn what_is_not_in_the_table_is_not_repeated() {
        for unknown in [way("/strongroom.v1.Keys/Unheard"), Way::to(0)] {
            let next = Attempts::default().failed(&one(), &unknown, &Status::unavailable(""));
            assert!(matches!(next, Next::End(_)));
        }
    }

    #[tokio::test]
    async fn without_a_budget_nothing_is_repeated() {
        let endpoints = one();
        let mut repeated = 0;
        for _ in 0..100 {
            let next = Attempts::default().failed(&endpoints, &way(SIGN), &Status::unavailable(""));
            repeated += usize::from(matches!(next, Next::At(_)));
        }
        assert_eq!(repeated, 9);
    }
}
