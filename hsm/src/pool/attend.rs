//! The task that attends one serving worker: reads its answers, looks after its health, and takes it out
//! of the lane when it is no longer fit.

use std::{process::ExitStatus, sync::Arc, time::Duration};

use tokio::{
    select,
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{
    pool::{
        answer::Reason,
        lane::Lane,
        link::{Link, Received},
        process::Process,
        seat::Shared,
    },
    protocol::{Answer, Moment, Output, PACKET_BYTES_MAX, Response, read_frames},
    secret::wipe,
};

/// How long a worker that did nothing wrong may take to end by itself.
const END_WITHIN: Duration = Duration::from_secs(2);
/// How long a worker whose socket closed may take to say how it ended, before it is killed.
const STATUS_WITHIN: Duration = Duration::from_millis(200);
/// The front was stopped, starved or suspended when its own tick is that late.
const STALL_MIN: Duration = Duration::from_secs(1);

/// A worker in its lane.
pub(super) struct Attendant {
    pub(super) lane: Arc<Lane>,
    pub(super) generation: u64,
    pub(super) seat: usize,
    pub(super) process: Process,
    pub(super) shared: Arc<Shared>,
}

impl Attendant {
    /// Attends the worker to its end, and takes it out of the lane. Why it ended.
    pub(super) async fn attend(mut self) -> Reason {
        let link = Arc::clone(self.process.link());
        let reason = self.watch(&link).await;
        let grace = match reason {
            Reason::Drained | Reason::Stopped => END_WITHIN,
            Reason::Ended => STATUS_WITHIN,
            // Killed before its calls go elsewhere, so that nothing is done by two at a time.
            _ => {
                self.process.kill();
                Duration::ZERO
            }
        };
        if reason == Reason::PinRefused {
            self.shared.latch();
        }
        self.lane.lose(self.generation, &reason);
        let status = self.process.end(grace).await;
        report(&self.lane, self.seat, &reason, status);
        reason
    }

    async fn watch(&self, link: &Link) -> Reason {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let every = self.lane.inspect_every();
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_tick = Moment::now();
        let mut stop = self.shared.stop.subscribe();
        loop {
            let reason = select! {
                received = link.recv(&mut buffer) => match received {
                    Ok(Received::Packet(length)) => self.read(&mut buffer[..length]),
                    Ok(Received::TooLong) => Some(Reason::Lied("a packet that is too long")),
                    Ok(Received::End) | Err(_) => Some(Reason::Ended),
                },
                _ = tick.tick() => {
                    let now = Moment::now();
                    if now.since(last_tick) > (every * 4).max(STALL_MIN) {
                        self.lane.excuse(self.generation);
                    }
                    last_tick = now;
                    self.lane.inspect(self.generation)
                }
                () = link.nudge.notified() => self.lane.inspect(self.generation),
                room = link.writable(|| self.lane.send_again(self.generation)), if link.is_blocked() => {
                    room.is_err().then_some(Reason::Ended)
                }
                () = stopped(&mut stop) => Some(Reason::Stopped),
            };
            if let Some(reason) = reason {
                return reason;
            }
        }
    }

    /// Reads a packet of answers.
    fn read(&self, packet: &mut [u8]) -> Option<Reason> {
        let answers = read_frames::<Answer>(packet);
        if answers.as_ref().map_or(true, |answers| answers.iter().any(is_secret)) {
            wipe(packet);
        }
        match answers {
            Ok(answers) => self.lane.answered(self.generation, self.seat, answers),
            Err(_) => Some(Reason::Lied("a packet that cannot be read")),
        }
    }
}

/// Tells the log, and the lane's health, why a worker went: a crash is known by how it ended.
fn report(lane: &Lane, worker: usize, reason: &Reason, status: Option<ExitStatus>) {
    let (name, label) = (lane.name.name(), reason.label());
    match reason {
        Reason::Stopped => tracing::debug!(lane = name, worker, "HSM worker stopped"),
        Reason::Drained => tracing::info!(lane = name, worker, reason = label, "HSM worker recycled"),
        Reason::Ended => {
            let detail = status.map_or_else(|| reason.text(), |status| format!("{} ({status})", reason.text()));
            tracing::warn!(lane = name, worker, reason = label, detail, "HSM worker lost");
            lane.note(detail);
        }
        _ => tracing::warn!(lane = name, worker, reason = label, detail = reason.text(), "HSM worker replaced"),
    }
}

/// Waits until the pool ends.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the pool is gone altogether.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn is_secret(answer: &Answer) -> bool {
    matches!(answer.result, Ok(Response::Output(Output::Plaintext(_)) | Response::Random(_)))
}
