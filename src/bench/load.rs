//! Many callers at once, for a time.
//!
//! Each caller makes one call after the other. They begin together; what ends in a first part of the time
//! warms up and is not counted, and what ends after the time is not counted either.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{
    figures::{Counted, ratio},
    usage::Processes,
};

/// The most answers that are kept of one load, to be looked at afterwards.
const KEPT_MAX: usize = 256;

/// Someone who makes one call after the other.
pub trait Caller: Send + 'static {
    /// What comes back.
    type Answer: Send + 'static;

    /// How many operations one call is.
    fn operations(&self) -> u64 {
        1
    }

    /// Makes one call.
    fn call(&mut self) -> impl Future<Output = Result<Self::Answer, String>> + Send;
}

/// When it begins to count, and when it ends.
#[derive(Clone, Copy, Debug)]
struct Window {
    begins: Instant,
    ends: Instant,
}

/// What one caller has seen.
struct Seen<A> {
    /// Not a histogram of its own for each: those of many callers would not fit into the caches.
    latencies: Vec<Duration>,
    operations: u64,
    first: Option<A>,
    last: Option<A>,
    error: Option<String>,
}

/// Lets them work for `time` after `warm`. What was counted, and some of the answers, from the beginning and
/// the end of each caller's work.
pub async fn run<C: Caller>(
    callers: Vec<C>,
    processes: &Processes,
    warm: Duration,
    time: Duration,
) -> (Counted, Vec<C::Answer>) {
    let begins = Instant::now() + warm;
    let window = Window { begins, ends: begins + time };
    let mut tasks = JoinSet::new();
    for caller in callers {
        tasks.spawn(work(caller, window));
    }
    tokio::time::sleep_until(window.begins.into()).await;
    let (before, begun) = (processes.cpu(), Instant::now());
    tokio::time::sleep_until(window.ends.into()).await;
    let (cpu, elapsed) = (processes.cpu() - before, begun.elapsed());
    let mut counted = Counted { elapsed, cpu, ..Counted::default() };
    let (mut first, mut last) = (Vec::new(), Vec::new());
    while let Some(seen) = tasks.join_next().await {
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                counted.failed += 1;
                counted.error.get_or_insert(error.to_string());
                continue;
            }
        };
        seen.latencies.iter().for_each(|latency| counted.latencies.record(*latency));
        counted.operations += seen.operations;
        counted.failed += u64::from(seen.error.is_some());
        counted.error = counted.error.take().or(seen.error);
        first.extend(seen.first);
        last.extend(seen.last);
    }
    counted.rounds = vec![ratio(counted.operations as f64, elapsed.as_secs_f64())];
    let mut kept: Vec<C::Answer> = first.into_iter().take(KEPT_MAX / 2).collect();
    kept.extend(last.into_iter().take(KEPT_MAX / 2));
    (counted, kept)
}

/// One caller's work. The first error ends it: what fails once would be counted a thousand times.
async fn work<C: Caller>(mut caller: C, window: Window) -> Seen<C::Answer> {
    let mut seen = Seen { latencies: Vec::new(), operations: 0, first: None, last: None, error: None };
    let mut begun = Instant::now();
    while begun < window.ends {
        let answer = match caller.call().await {
            Ok(answer) => answer,
            Err(error) => {
                seen.error = Some(error);
                return seen;
            }
        };
        let ended = Instant::now();
        if ended >= window.begins && ended < window.ends {
            seen.latencies.push(ended - begun);
            seen.operations += caller.operations();
            if seen.first.is_none() {
                seen.first = Some(answer);
            } else {
                seen.last = Some(answer);
            }
        }
        begun = ended;
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter {
        calls: u64,
        fails_at: u64,
    }

    impl Caller for Counter {
        type Answer = u64;

        fn operations(&self) -> u64 {
            10
        }

        async fn call(&mut self) -> Result<u64, String> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.calls += 1;
            if self.calls == self.fails_at { Err("is full".to_owned()) } else { Ok(self.calls) }
        }
    }

    #[tokio::test]
    async fn every_caller_works_until_the_end_and_some_answers_are_kept() {
        let callers = (0..3).map(|_| Counter { calls: 0, fails_at: u64::MAX }).collect();
        let time = Duration::from_millis(60);
        let (counted, kept) = run(callers, &Processes::default(), Duration::from_millis(10), time).await;
        assert_eq!((counted.failed, counted.operations % 10), (0, 0));
        assert!(counted.operations >= 30 && counted.latencies.quantile_us(0.5) >= 1000.0, "{}", counted.operations);
        assert_eq!(kept.len(), 6, "the first and the last of each");
        assert!(kept[..3].iter().max() < kept[3..].iter().min());
    }

    #[tokio::test]
    async fn a_caller_that_fails_is_counted_and_the_others_go_on() {
        let callers = vec![Counter { calls: 0, fails_at: 3 }, Counter { calls: 0, fails_at: u64::MAX }];
        let (counted, _) = run(callers, &Processes::default(), Duration::ZERO, Duration::from_millis(50)).await;
        assert_eq!((counted.failed, counted.error.as_deref()), (1, Some("is full")));
        assert!(counted.operations > 30, "{}", counted.operations);
    }
}
