//! The queue of a lane: two lines, from which calls are taken in turn.
//!
//! Who brings one call stands in the line for single calls; a batch or a stream, which brings many at
//! once, in the line for bulk. Bulk has half of the queue at most, so a single call finds room however
//! many batches there are; and for each call of a batch one single call is taken, so it waits for no more
//! of them than were sent before it came. While nobody stands in one line, all are taken from the other.

use std::collections::VecDeque;

use crate::pool::call::Waiting;

/// The most bytes waiting in one lane.
pub(super) const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Which line a call stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// One call of its caller.
    Single,
    /// One of many.
    Bulk,
}

/// One line, and what stands in it.
#[derive(Default)]
struct Calls {
    calls: VecDeque<Waiting>,
    bytes: usize,
}

impl Calls {
    fn push_back(&mut self, call: Waiting) {
        self.bytes += call.bytes();
        self.calls.push_back(call);
    }

    fn push_front(&mut self, call: Waiting) {
        self.bytes += call.bytes();
        self.calls.push_front(call);
    }

    fn pop_front(&mut self) -> Option<Waiting> {
        let call = self.calls.pop_front()?;
        self.bytes -= call.bytes();
        Some(call)
    }
}

/// Both lines.
pub(super) struct Queue {
    single: Calls,
    bulk: Calls,
    /// The most calls in both.
    calls_max: usize,
    /// Whose turn it is when both have calls.
    turn: Line,
}

impl Queue {
    /// An empty queue for at most so many calls.
    pub(super) fn new(calls_max: usize) -> Self {
        Self { single: Calls::default(), bulk: Calls::default(), calls_max, turn: Line::Single }
    }

    /// How many calls wait.
    pub(super) fn len(&self) -> usize {
        self.single.calls.len() + self.bulk.calls.len()
    }

    /// Whether there is no room for `call`.
    pub(super) fn is_full_for(&self, call: &Waiting) -> bool {
        let bytes = self.single.bytes + self.bulk.bytes + call.bytes();
        let is_full = self.len() >= self.calls_max || bytes > QUEUE_BYTES_MAX;
        let bulk_is_full = || {
            let calls_max = (self.calls_max / 2).max(1);
            self.bulk.calls.len() >= calls_max || self.bulk.bytes + call.bytes() > QUEUE_BYTES_MAX / 2
        };
        is_full || (call.line == Line::Bulk && bulk_is_full())
    }

    /// Puts a call at the end of its line. The bounds are asked before.
    pub(super) fn push_back(&mut self, call: Waiting) {
        self.line(call.line).push_back(call);
    }

    /// Puts a call at the head of its line. It was admitted before: the bounds do not apply again.
    pub(super) fn push_front(&mut self, call: Waiting) {
        self.line(call.line).push_front(call);
    }

    /// The call that comes next; `bulk_too`: else only of those that came alone.
    pub(super) fn next(&self, bulk_too: bool) -> Option<&Waiting> {
        match self.next_line(bulk_too)? {
            Line::Single => self.single.calls.front(),
            Line::Bulk => self.bulk.calls.front(),
        }
    }

    /// Takes the call that comes next.
    pub(super) fn pop(&mut self, bulk_too: bool) -> Option<Waiting> {
        let line = self.next_line(bulk_too)?;
        self.turn = match line {
            Line::Single => Line::Bulk,
            Line::Bulk => Line::Single,
        };
        self.line(line).pop_front()
    }

    /// Takes the calls that nobody waits for.
    pub(super) fn sweep(&mut self) -> Vec<Waiting> {
        let mut swept = Vec::new();
        for line in [Line::Single, Line::Bulk] {
            let calls = std::mem::take(self.line(line));
            for call in calls.calls {
                if call.is_abandoned() {
                    swept.push(call);
                } else {
                    self.line(line).push_back(call);
                }
            }
        }
        swept
    }

    /// Takes every call.
    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        let lines = [std::mem::take(&mut self.single), std::mem::take(&mut self.bulk)];
        lines.into_iter().flat_map(|line| line.calls).collect()
    }

    fn line(&mut self, line: Line) -> &mut Calls {
        match line {
            Line::Single => &mut self.single,
            Line::Bulk => &mut self.bulk,
        }
    }

    fn next_line(&self, bulk_too: bool) -> Option<Line> {
        match (self.single.calls.is_empty(), self.bulk.calls.is_empty() || !bulk_too) {
            (true, true) => None,
            (false, true) => Some(Line::Single),
            (true, false) => Some(Line::Bulk),
            (false, false) => Some(self.turn),
        }
    }
}

#[cfg(test)]
impl Queue {
    /// Every call: those that came alone first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.single.calls.iter().chain(&self.bulk.calls)
    }

    /// The bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.single.bytes + self.bulk.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::call::Work,
        protocol::{Moment, Request},
    };

    /// A call whose length says which it is.
    fn call(number: u32, line: Line) -> Waiting {
        let (mut call, _) = Waiting::new(Work::Plain(Request::Random { length: number }), None, Moment(u64::MAX));
        call.line = line;
        call
    }

    fn number(call: &Waiting) -> u32 {
        match call.work {
            Work::Plain(Request::Random { length }) => length,
            _ => panic!("another call"),
        }
    }

    fn taken(queue: &mut Queue, bulk_too: bool) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(bulk_too)).map(|call| number(&call)).collect()
    }

    #[test]
    fn both_lines_are_taken_in_turn_and_each_in_its_order() {
        let mut queue = Queue::new(100);
        for n in 0..6 {
            queue.push_back(call(100 + n, Line::Bulk));
        }
        for n in 0..3 {
            queue.push_back(call(n, Line::Single));
        }
        assert_eq!(queue.next(true).map(number), Some(0));
        assert_eq!(taken(&mut queue, true), [0, 100, 1, 101, 2, 102, 103, 104, 105]);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn bulk_leaves_half_of_the_room_to_single_calls() {
        let mut queue = Queue::new(9);
        let fill = |queue: &mut Queue, line| {
            let mut count = 0;
            while !queue.is_full_for(&call(0, line)) {
                queue.push_back(call(0, line));
                count += 1;
            }
            count
        };
        assert_eq!(fill(&mut queue, Line::Bulk), 4);
        assert_eq!(fill(&mut queue, Line::Single), 5);
        assert_eq!(taken(&mut queue, false).len(), 5);
        assert_eq!(queue.len(), 4, "those that came in bulk still wait");
        assert!(queue.next(false).is_none() && queue.next(true).is_some());
    }

    #[test]
    fn a_lane_for_one_call_takes_one_of_either_kind() {
        let mut queue = Queue::new(1);
        assert!(!queue.is_full_for(&call(0, Line::Bulk)) && !queue.is_full_for(&call(0, Line::Single)));
        queue.push_back(call(0, Line::Bulk));
        assert!(queue.is_full_for(&call(0, Line::Bulk)) && queue.is_full_for(&call(0, Line::Single)));
    }
}
