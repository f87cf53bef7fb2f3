//! The servers of a client: which of them gets the next call.
//!
//! The least busy of those that are well, in turn among equals. One that cannot be reached, or says that it is not
//! available, is *set aside*: for a moment that doubles each time. One that could not be reached comes back when a
//! task of its own has connected to it ([`connect`]); no call has to find out. When all are set aside calls try them
//! all the same: what is known of them may be old.

pub(crate) mod connect;
pub(crate) mod wire;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{Cause, Error, budget::Budget};

/// For how long a server is set aside at first, and at most.
const ASIDE_FIRST: Duration = Duration::from_millis(100);
const ASIDE_MAX: Duration = Duration::from_secs(30);

/// All servers of a client. Its clones share them.
pub(crate) struct Endpoints {
    all: Vec<Server>,
    /// Whose turn it is among equals.
    turn: AtomicUsize,
    pub(crate) budget: Budget,
}

/// One server.
struct Server {
    name: Box<str>,
    /// How it is connected to anew; nothing for a channel of the caller's own.
    endpoint: Option<Endpoint>,
    under_way: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    channel: Channel,
    health: Health,
    /// How often it failed since it was well.
    failures: u32,
    /// Why it was not reached the last time.
    cause: Option<Cause>,
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// It answers, and does not want calls before then.
    Aside(Instant),
    /// It is not reached; a task tries to.
    Down,
}

/// Where a call goes. Counts as under way until it is dropped.
pub(crate) struct Target {
    endpoints: Arc<Endpoints>,
    pub(crate) at: usize,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.endpoints.all[self.at].under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|server| &server.name)).finish()
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoints {
    /// One server, on a channel that is there.
    pub(crate) fn one(channel: Channel, name: &str) -> Arc<Self> {
        Self::of(vec![(name.into(), None, channel)])
    }

    /// Servers that are connected to when the first call comes, unless [`connect`] does it before.
    pub(crate) fn lazy(servers: Vec<(String, Endpoint)>) -> Arc<Self> {
        let lazy = |(name, endpoint): (String, Endpoint)| {
            let channel = endpoint.connect_lazy();
            (name.into(), Some(endpoint), channel)
        };
        Self::of(servers.into_iter().map(lazy).collect())
    }

    fn of(servers: Vec<(Box<str>, Option<Endpoint>, Channel)>) -> Arc<Self> {
        let server = |(name, endpoint, channel)| Server {
            name,
            endpoint,
            under_way: AtomicUsize::new(0),
            state: Mutex::new(State { channel, health: Health::Well, failures: 0, cause: None }),
        };
        let all = servers.into_iter().map(server).collect();
        Arc::new(Self { all, turn: AtomicUsize::new(0), budget: Budget::default() })
    }

    /// The name of one.
    pub(crate) fn name(&self, at: usize) -> &str {
        &self.all[at].name
    }

    /// The names of all.
    pub(crate) fn names(&self) -> String {
        self.all.iter().map(|server| &*server.name).collect::<Vec<_>>().join(", ")
    }

    /// The channel to one.
    pub(crate) fn channel(&self, at: usize) -> Channel {
        self.all[at].state().channel.clone()
    }

    /// The channel that the next call would have.
    pub(crate) fn any_channel(self: &Arc<Self>) -> Channel {
        self.channel(self.pick(&[]).at)
    }

    /// Where the next call goes: not to one of `tried`, as long as there is another.
    pub(crate) fn pick(self: &Arc<Self>, tried: &[usize]) -> Target {
        let at = self.best(tried, true).or_else(|| self.best(tried, false)).or_else(|| self.best(&[], false));
        // There is always one.
        let at = at.unwrap_or_default();
        self.all[at].under_way.fetch_add(1, Ordering::Relaxed);
        Target { endpoints: Arc::clone(self), at }
    }

    /// Whether a call that failed at those can go to another at once: to one that is well; or, where it was not even
    /// sent and none is known to be well, to one that was not tried.
    pub(crate) fn has_another(&self, tried: &[usize], was_sent: bool) -> bool {
        let is_any_well = || self.best(&[], true).is_some();
        self.best(tried, true).is_some() || (!was_sent && !is_any_well() && self.best(tried, false).is_some())
    }

    /// The least busy that was not tried; of those that are well, or of all.
    fn best(&self, tried: &[usize], well: bool) -> Option<usize> {
        let now = Instant::now();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.all.len();
        let in_turn = (0..count).map(|step| turn.wrapping_add(step) % count);
        in_turn
            .filter(|at| !tried.contains(at) && (!well || self.is_well(*at, now)))
            .min_by_key(|at| self.all[*at].under_way.load(Ordering::Relaxed))
    }

    fn is_well(&self, at: usize, now: Instant) -> bool {
        match self.all[at].state().health {
            Health::Well => true,
            Health::Aside(until) => until <= now,
            Health::Down => false,
        }
    }

    /// It has answered.
    pub(crate) fn answered(&self, at: usize) {
        self.budget.earn();
        let mut state = self.all[at].state();
        (state.health, state.failures, state.cause) = (Health::Well, 0, None);
    }

    /// It says that it is not available, and when it may be.
    pub(crate) fn set_aside(&self, at: usize, asked: Option<Duration>) {
        let mut state = self.all[at].state();
        let wait = aside(state.failures).max(asked.unwrap_or_default().min(ASIDE_MAX));
        state.failures = state.failures.saturating_add(1);
        if state.health != Health::Down {
            state.health = Health::Aside(Instant::now() + wait);
        }
    }

    /// It was not reached, or the connection broke. Where there are others, a task tries to reach it again.
    pub(crate) fn lost(self: &Arc<Self>, at: usize, cause: Cause) {
        let server = &self.all[at];
        let mut state = server.state();
        state.cause = Some(cause);
        if self.all.len() > 1 && server.endpoint.is_some() && state.health != Health::Down {
            state.health = Health::Down;
            drop(state);
            connect::tend(self, at);
        }
    }

    /// The error of a call that failed there for good.
    pub(crate) fn refused(&self, way: &wire::Way, status: &Status) -> Error {
        match Cause::of(status) {
            Some(cause) => self.unreached(way.at, cause),
            None => Error::of(status, self.name(way.at)),
        }
    }

    /// The error when none is reached.
    pub(crate) fn unreached(&self, at: usize, cause: Cause) -> Error {
        let known: Option<Vec<(String, Cause)>> =
            self.all.iter().map(|server| Some((server.name.to_string(), server.state().cause.clone()?))).collect();
        match known {
            Some(failed) if failed.len() > 1 => Error::NoServer(failed),
            _ => Error::Connection { endpoint: self.name(at).to_owned(), cause },
        }
    }
}

/// For how long one is set aside that had failed so often before: by chance up to twice as long, so that clients do not
/// come back together.
fn aside(failures: u32) -> Duration {
    crate::client::spread(ASIDE_FIRST * 2_u32.pow(failures.min(9))).min(ASIDE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: usize) -> Arc<Endpoints> {
        let endpoint = |at: usize| (format!("unix:/nonexistent/{at}"), Endpoint::from_static("unix:/nonexistent/s"));
        Endpoints::lazy((0..count).map(endpoint).collect())
    }

    #[tokio::test]
    async fn calls_go_round_and_to_the_least_busy() {
        let endpoints = endpoints(3);
        let mut counts = [0; 3];
        for _ in 0..300 {
            counts[endpoints.pick(&[]).at] += 1;
        }
        assert!(counts.iter().all(|count| (90..=110).contains(count)), "{counts:?}");
        let busy = endpoints.pick(&[]);
        for _ in 0..20 {
            assert_ne!(endpoints.pick(&[]).at, busy.at);
        }
        let held: Vec<Target> = (0..8).map(|_| endpoints.pick(&[])).collect();
        let at = |at| held.iter().filter(|target| target.at == at).count() + usize::from(busy.at == at);
        assert_eq!([at(0), at(1), at(2)], [3, 3, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_available_is_left_alone_for_a_while_that_grows() {
        let endpoints = endpoints(2);
        for round in 0..4 {
            endpoints.set_aside(0, None);
            let least = ASIDE_FIRST * 2_u32.pow(round);
            tokio::time::advance(least - Duration::from_millis(1)).await;
            assert!((0..10).all(|_| endpoints.pick(&[]).at == 1), "round {round}");
            tokio::time::advance(least + Duration::from_millis(1)).await;
            assert!((0..10).any(|_| endpoints.pick(&[]).at == 0), "round {round}");
        }
        endpoints.answered(0);
        endpoints.set_aside(0, Some(Duration::from_secs(7)));
        tokio::time::advance(Duration::from_millis(6999)).await;
        assert!(endpoints.has_another(&[0], true) && !endpoints.has_another(&[1], true));
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(endpoints.has_another(&[1], true));
    }

    #[tokio::test]
    async fn when_all_are_away_each_is_tried_once_by_what_was_not_sent() {
        let endpoints = endpoints(2);
        for at in [0, 1] {
            endpoints.lost(at, Cause::Refused);
        }
        let first = endpoints.pick(&[]).at;
        assert!(endpoints.has_another(&[first], false), "nothing was sent");
        assert!(!endpoints.has_another(&[first], true), "something may have been done, and nobody is known to be well");
        assert_ne!(endpoints.pick(&[first]).at, first);
        assert!(!endpoints.has_another(&[0, 1], false));
        let error = endpoints.unreached(first, Cause::Refused).to_string();
        assert!(error.contains("unix:/nonexistent/0: nothing listens there; unix:/nonexistent/1: "), "{error}");
    }
}
