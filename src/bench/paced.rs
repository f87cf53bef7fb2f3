//! Calls at a fixed rate, whatever becomes of those before.
//!
//! A call is begun when it is due, and its latency counts from then: a server that falls behind is seen in
//! the latencies, and not in fewer calls (what is called coordinated omission).

use std::time::{Duration, Instant};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tonic::transport::Channel;

use super::{
    call::{Request, said},
    case::Answer,
    figures::Latencies,
};
use strongroom_proto::v1::crypto_client::CryptoClient;

/// Calls that are due are begun so often.
const TICK: Duration = Duration::from_millis(1);
/// The most calls under way: what is due beyond them has failed.
const UNDER_WAY_MAX: usize = 4096;
/// The most answers that are kept, to be looked at afterwards.
const KEPT_MAX: usize = 256;

/// What became of the calls.
#[derive(Debug, Default)]
pub struct Paced {
    /// From when each was due until its answer.
    pub latencies: Latencies,
    /// Calls that were answered.
    pub calls: u64,
    /// Calls that failed, or could not be begun.
    pub failed: u64,
    /// What the first of them said.
    pub error: Option<String>,
    /// Some of the answers.
    pub answers: Vec<Answer>,
}

impl Paced {
    fn add(&mut self, counts: bool, due: Instant, answer: Result<(Answer, Instant), String>) {
        if !counts {
            return;
        }
        match answer {
            Ok((answer, ended)) => {
                self.calls += 1;
                self.latencies.record(ended - due);
                if self.answers.len() < KEPT_MAX {
                    self.answers.push(answer);
                }
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: String) {
        self.failed += 1;
        self.error.get_or_insert(error);
    }
}

/// Makes `per_second` calls a second (a multiple of 1,000) for `time`, after as many for `warm` that do not count.
pub async fn run(channels: &[Channel], request: &Request, per_second: u32, warm: Duration, time: Duration) -> Paced {
    let mut paced = Paced::default();
    let mut calls = JoinSet::new();
    let mut clients = channels.iter().cycle();
    let each_tick = per_second / 1000;
    let (begun, ticks) = (Instant::now(), ((warm + time).as_millis()) as u64);
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for tick in 0..ticks {
        clock.tick().await;
        let due = begun + TICK * u32::try_from(tick).unwrap_or(u32::MAX);
        let counts = due >= begun + warm;
        while let Some(ended) = calls.try_join_next() {
            end(&mut paced, ended);
        }
        for _ in 0..each_tick {
            if calls.len() >= UNDER_WAY_MAX {
                paced.failed(format!("{UNDER_WAY_MAX} calls are under way"));
                continue;
            }
            let Some(channel) = clients.next() else { return paced };
            let (mut client, request) = (CryptoClient::new(channel.clone()), request.clone());
            calls.spawn(async move {
                let answer = request.send(&mut client).await.map_err(|status| said(&status));
                (counts, due, answer.map(|answer| (answer, Instant::now())))
            });
        }
    }
    while let Some(ended) = calls.join_next().await {
        end(&mut paced, ended);
    }
    paced
}

type Ended = (bool, Instant, Result<(Answer, Instant), String>);

fn end(paced: &mut Paced, ended: Result<Ended, tokio::task::JoinError>) {
    match ended {
        Ok((counts, due, answer)) => paced.add(counts, due, answer),
        Err(error) => paced.failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_count_from_when_a_call_was_due() {
        let mut paced = Paced::default();
        let due = Instant::now();
        paced.add(true, due, Ok((Answer::Valid(true), due + Duration::from_millis(7))));
        paced.add(false, due, Ok((Answer::Valid(true), due + Duration::from_secs(7))));
        paced.add(true, due, Err("is full".to_owned()));
        assert_eq!((paced.calls, paced.failed, paced.error.as_deref()), (1, 1, Some("is full")));
        assert!((6_900.0..7_100.0).contains(&paced.latencies.quantile_us(0.99)), "{:?}", paced.latencies);
    }
}
