//! The calls of the HSM that one operation makes, told as two spans for each lane: waiting, and working. One operation
//! of a caller makes one call or none; a batch makes hundreds, and they are told together.

use std::sync::{Arc, Mutex, PoisonError};

use strongroom_hsm::{
    algorithms::Lane,
    pool::{Served, Timing, Watch},
    protocol::Moment,
};

use super::{Request, span::Span};

/// What was told so far.
pub(super) struct Calls {
    request: Arc<Request>,
    parent: u64,
    lanes: Mutex<[Option<Sum>; Lane::ALL.len()]>,
}

/// The calls of one lane.
#[derive(Clone, Copy)]
struct Sum {
    lane: Lane,
    calls: i64,
    queued_at: Moment,
    /// When the newest was told.
    told_at: Moment,
    work: Option<Work>,
}

/// What workers did for them.
#[derive(Clone, Copy)]
struct Work {
    sent_at: Moment,
    answered_at: Moment,
    service_ns: i64,
    key_loads: i64,
    /// Which worker, if it was one.
    seat: Option<usize>,
}

impl Calls {
    pub(super) fn new(request: Arc<Request>, parent: u64) -> Self {
        Self { request, parent, lanes: Mutex::default() }
    }

    fn spans(&self, sum: &Sum) -> Vec<Span> {
        let lane = || ("strongroom.hsm.lane", sum.lane.name().into());
        let calls = || ("strongroom.hsm.calls", sum.calls.into());
        let waited_until = sum.work.map_or(sum.told_at, |work| work.sent_at);
        let mut queue = self.request.span(self.parent, "hsm.queue", (sum.queued_at, waited_until));
        queue.attributes = vec![lane(), calls()];
        // Nobody took it: its time was over, or the lane was lost.
        queue.failed = sum.work.is_none();
        let Some(work) = &sum.work else { return vec![queue] };
        let mut worker = self.request.span(self.parent, "hsm.worker", (work.sent_at, work.answered_at));
        worker.attributes = vec![
            lane(),
            calls(),
            ("strongroom.hsm.service_ns", work.service_ns.into()),
            ("strongroom.hsm.key_loads", work.key_loads.into()),
        ];
        let seat = work.seat.and_then(|seat| i64::try_from(seat).ok());
        worker.attributes.extend(seat.map(|seat| ("strongroom.hsm.worker", seat.into())));
        vec![queue, worker]
    }
}

impl Watch for Calls {
    fn ended(&self, timing: &Timing) {
        let now = Moment::now();
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = lanes[timing.lane as usize].get_or_insert(Sum {
            lane: timing.lane,
            calls: 0,
            queued_at: timing.queued_at,
            told_at: now,
            work: None,
        });
        sum.calls += 1;
        sum.queued_at = sum.queued_at.min(timing.queued_at);
        sum.told_at = now;
        if let Some(served) = &timing.served {
            sum.work = Some(sum.work.map_or_else(|| Work::of(served), |work| work.with(served)));
        }
    }
}

impl Work {
    fn of(served: &Served) -> Self {
        Self {
            sent_at: served.sent_at,
            answered_at: served.answered_at,
            service_ns: i64::try_from(served.service.as_nanos()).unwrap_or(i64::MAX),
            key_loads: i64::from(served.with_row),
            seat: Some(served.seat),
        }
    }

    fn with(self, served: &Served) -> Self {
        let other = Self::of(served);
        Self {
            sent_at: self.sent_at.min(other.sent_at),
            answered_at: self.answered_at.max(other.answered_at),
            service_ns: self.service_ns.saturating_add(other.service_ns),
            key_loads: self.key_loads + other.key_loads,
            seat: self.seat.filter(|seat| other.seat == Some(*seat)),
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let lanes = *self.lanes.get_mut().unwrap_or_else(PoisonError::into_inner);
        for sum in lanes.into_iter().flatten() {
            for span in self.spans(&sum) {
                self.request.tracer.take(span);
            }
        }
    }
}
