//! Many callers at once, for a time.
//!
//! They begin together; what ends in a first part of the time warms up and is not counted, and what ends after
//! the time is not counted either.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{
    figures::{Counted, ratio},
    usage::Processes,
};

/// The most answers that are kept of one load, to be looked at afterwards.
const KEPT_MAX: usize = 256;

/// Someone who works until the time is over.
pub trait Caller: Send + 'static {
    /// What comes back.
    type Answer: Send + 'static;

    /// Works, and puts down what it has seen. The first error ends it: what fails once would be counted a
    /// thousand times.
    fn work(self, seen: &mut Seen<Self::Answer>) -> impl Future<Output = Result<(), String>> + Send;
}

/// Someone who makes one call after the other.
pub trait Turns: Send + 'static {
    /// What comes back.
    type Answer: Send + 'static;

    /// How many operations one call is.
    fn operations(&self) -> u64 {
        1
    }

    /// Makes one call.
    fn call(&mut self) -> impl Future<Output = Result<Self::Answer, String>> + Send;
}

impl<T: Turns> Caller for T {
    type Answer = T::Answer;

    async fn work(mut self, seen: &mut Seen<T::Answer>) -> Result<(), String> {
        let mut begun = Instant::now();
        while !seen.is_over(begun) {
            let answer = self.call().await?;
            let ended = Instant::now();
            seen.record(begun, ended, self.operations(), answer);
            begun = ended;
        }
        Ok(())
    }
}

/// What one caller has seen.
pub struct Seen<A> {
    begins: Instant,
    ends: Instant,
    /// Not a histogram of its own for each: those of many callers would not fit into the caches.
    latencies: Vec<Duration>,
    operations: u64,
    first: Option<A>,
    last: Option<A>,
}

impl<A> Seen<A> {
    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.ends
    }

    /// One call: it counts when it ended in the time that counts.
    pub fn record(&mut self, begun: Instant, ended: Instant, operations: u64, answer: A) {
        if ended < self.begins || ended >= self.ends {
            return;
        }
        self.latencies.push(ended - begun);
        self.operations += operations;
        if self.first.is_none() {
            self.first = Some(answer);
        } else {
            self.last = Some(answer);
        }
    }
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
    let ends = begins + time;
    let mut tasks = JoinSet::new();
    for caller in callers {
        tasks.spawn(async move {
            let mut seen = Seen { begins, ends, latencies: Vec::new(), operations: 0, first: None, last: None };
            let worked = caller.work(&mut seen).await;
            (seen, worked.err())
        });
    }
    tokio::time::sleep_until(begins.into()).await;
    let (before, begun) = (processes.cpu(), Instant::now());
    tokio::time::sleep_until(ends.into()).await;
    let (cpu, elapsed) = (processes.cpu() - before, begun.elapsed());
    let mut counted = Counted { elapsed, cpu, ..Counted::default() };
    let (mut first, mut last) = (Vec::new(), Vec::new());
    while let Some(joined) = tasks.join_next().await {
        let (seen, error) = match joined {
            Ok((seen, error)) => (Some(seen), error),
            Err(error) => (None, Some(error.to_string())),
        };
        counted.failed += u64::from(error.is_some());
        counted.error = counted.error.take().or(error);
        let Some(seen) = seen else { continue };
        seen.latencies.iter().for_each(|latency| counted.latencies.record(*latency));
        counted.operations += seen.operations;
        first.extend(seen.first);
        last.extend(seen.last);
    }
    counted.rounds = vec![ratio(counted.operations as f64, elapsed.as_secs_f64())];
    let mut kept: Vec<C::Answer> = first.into_iter().take(KEPT_MAX / 2).collect();
    kept.extend(last.into_iter().take(KEPT_MAX / 2));
    (counted, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter {
        calls: u64,
        fails_at: u64,
    }

    impl Turns for Counter {
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
