//! The queue of a lane: two lines, and in each of them the tenants in turn.
//!
//! Who brings one call stands in the line for single calls; a batch or a stream, which brings many at
//! once, in the line for bulk. Bulk has half of the queue at most, so a single call finds room however
//! many batches there are; and for each call of a batch one single call is taken, so it waits for no more
//! of them than were sent before it came. While nobody stands in one line, all are taken from the other.
//!
//! In its line a tenant waits behind its own calls only. Turns go round; one is worth [`TURN_US`] of the
//! module, and who has taken more waits for as many rounds. While a line is more than half full, a tenant
//! with its share of it in there (the line's length by the number of tenants) finds no more room: the
//! others do, and so does one that comes anew.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use crate::pool::{Tenant, call::Waiting};

/// The most bytes waiting in one lane.
pub(super) const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The service's own calls find so much room more: the seals of a change that ends a flood, for one.
const RESERVED_CALLS: usize = 256;
const RESERVED_BYTES: usize = 4 * 1024 * 1024;
/// The part of a line that is kept for tenants that have nothing in it: one of so many.
const NEWCOMERS_PART: usize = 16;
/// What a turn is worth. Small beside what people notice, large beside most calls of most lanes.
const TURN_US: i64 = 250;
/// The most rounds that a tenant waits for what it has taken: debts beyond are forgiven, so that passing the turn
/// on takes few steps.
const DEBT_TURNS_MAX: i64 = 8;
/// Emptied shelves that are kept for the next tenant.
const SPARE_MAX: usize = 16;

/// Which line a call stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// One call of its caller.
    Single,
    /// One of many.
    Bulk,
}

/// A tenant's number is a digest already.
#[derive(Default)]
struct Digested(u64);

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The calls of one tenant in one line.
#[derive(Default)]
struct Shelf {
    calls: VecDeque<Waiting>,
    bytes: usize,
    /// What is left of its turn, in microseconds.
    left_us: i64,
}

/// One line, and what stands in it.
#[derive(Default)]
struct Calls {
    /// The tenants that have calls, the one whose turn it is first.
    turns: VecDeque<Tenant>,
    /// A shelf with calls on it for each of them.
    shelves: HashMap<Tenant, Shelf, BuildHasherDefault<Digested>>,
    spare: Vec<VecDeque<Waiting>>,
    calls: usize,
    bytes: usize,
}

impl Calls {
    fn push_back(&mut self, call: Waiting) {
        let tenant = call.tenant;
        let (shelf, is_new) = self.shelf(&call);
        shelf.calls.push_back(call);
        if is_new {
            self.turns.push_back(tenant);
        }
    }

    /// Puts a call back before those that came after it. A tenant that has no others has the turn.
    fn push_front(&mut self, call: Waiting) {
        let tenant = call.tenant;
        let (shelf, is_new) = self.shelf(&call);
        shelf.calls.push_front(call);
        if is_new {
            self.turns.push_front(tenant);
        }
    }

    /// The shelf for a call that is counted already, and whether its tenant had none.
    fn shelf(&mut self, call: &Waiting) -> (&mut Shelf, bool) {
        let bytes = call.bytes();
        self.calls += 1;
        self.bytes += bytes;
        let spare = &mut self.spare;
        let shelf = self.shelves.entry(call.tenant).or_insert_with(|| Shelf {
            calls: spare.pop().unwrap_or_default(),
            bytes: 0,
            left_us: TURN_US,
        });
        shelf.bytes += bytes;
        let is_new = shelf.calls.is_empty();
        (shelf, is_new)
    }

    fn front(&self) -> Option<&Waiting> {
        self.shelves.get(self.turns.front()?)?.calls.front()
    }

    fn pop_front(&mut self) -> Option<Waiting> {
        let tenant = *self.turns.front()?;
        let shelf = self.shelves.get_mut(&tenant)?;
        let call = shelf.calls.pop_front()?;
        let bytes = call.bytes();
        shelf.bytes -= bytes;
        shelf.left_us = (shelf.left_us - i64::from(call.cost_us)).max(-DEBT_TURNS_MAX * TURN_US);
        let (is_empty, is_over) = (shelf.calls.is_empty(), shelf.left_us <= 0);
        self.calls -= 1;
        self.bytes -= bytes;
        if is_empty {
            self.turns.pop_front();
            let shelf = self.shelves.remove(&tenant);
            self.spare.extend(shelf.map(|shelf| shelf.calls).filter(|_| self.spare.len() < SPARE_MAX));
        } else if is_over {
            self.pass_on();
        }
        Some(call)
    }

    /// Gives the turn to the next tenant that has something left of its own. A debt is at most
    /// [`DEBT_TURNS_MAX`] turns, and each step pays off one.
    fn pass_on(&mut self) {
        loop {
            self.turns.rotate_left(1);
            let next = self.turns.front().and_then(|tenant| self.shelves.get_mut(tenant));
            let Some(shelf) = next else { return };
            if shelf.left_us > 0 {
                return;
            }
            shelf.left_us += TURN_US;
            if shelf.left_us > 0 {
                return;
            }
        }
    }

    /// Whether a line that takes so much has no more room for that tenant: it has its share, and others may come.
    fn has_its_share(&self, call: &Waiting, calls_max: usize, bytes_max: usize) -> bool {
        let Some(shelf) = self.shelves.get(&call.tenant) else { return false };
        let part = |all: usize| (all - all / NEWCOMERS_PART) / self.turns.len().max(1);
        let is_crowded = self.calls > calls_max / 2 || self.bytes > bytes_max / 2;
        is_crowded && (shelf.calls.len() >= part(calls_max) || shelf.bytes + call.bytes() > part(bytes_max))
    }

    /// Takes every call, in the order of the tenants' turns.
    fn drain(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        let Self { turns, mut shelves, .. } = std::mem::take(self);
        turns.into_iter().filter_map(move |tenant| shelves.remove(&tenant)).flat_map(|shelf| shelf.calls)
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
        self.single.calls + self.bulk.calls
    }

    /// Whether there is no room for `call`.
    pub(super) fn is_full_for(&self, call: &Waiting) -> bool {
        let is_own = call.tenant == Tenant::SERVICE;
        let (more_calls, more_bytes) = if is_own { (RESERVED_CALLS, RESERVED_BYTES) } else { (0, 0) };
        let bytes = self.single.bytes + self.bulk.bytes + call.bytes();
        if self.len() >= self.calls_max + more_calls || bytes > QUEUE_BYTES_MAX + more_bytes {
            return true;
        }
        match call.line {
            Line::Single => {
                let (calls_max, bytes_max) = (self.calls_max - self.bulk.calls, QUEUE_BYTES_MAX - self.bulk.bytes);
                !is_own && self.single.has_its_share(call, calls_max, bytes_max)
            }
            Line::Bulk => {
                let (calls_max, bytes_max) = ((self.calls_max / 2).max(1), QUEUE_BYTES_MAX / 2);
                self.bulk.calls >= calls_max
                    || self.bulk.bytes + call.bytes() > bytes_max
                    || self.bulk.has_its_share(call, calls_max, bytes_max)
            }
        }
    }

    /// Puts a call at the end of its tenant's. The bounds are asked before.
    pub(super) fn push_back(&mut self, call: Waiting) {
        self.line(call.line).push_back(call);
    }

    /// Puts a call at the head of its tenant's. It was admitted before: the bounds do not apply again.
    pub(super) fn push_front(&mut self, call: Waiting) {
        self.line(call.line).push_front(call);
    }

    /// The call that comes next; `bulk_too`: else only of those that came alone.
    pub(super) fn next(&self, bulk_too: bool) -> Option<&Waiting> {
        match self.next_line(bulk_too)? {
            Line::Single => self.single.front(),
            Line::Bulk => self.bulk.front(),
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
            for call in self.line(line).drain() {
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
        self.single.drain().chain(self.bulk.drain()).collect()
    }

    fn line(&mut self, line: Line) -> &mut Calls {
        match line {
            Line::Single => &mut self.single,
            Line::Bulk => &mut self.bulk,
        }
    }

    fn next_line(&self, bulk_too: bool) -> Option<Line> {
        match (self.single.calls == 0, self.bulk.calls == 0 || !bulk_too) {
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
        let lines = [&self.single, &self.bulk].into_iter();
        lines.flat_map(|line| line.turns.iter().filter_map(|tenant| line.shelves.get(tenant)).flat_map(|s| &s.calls))
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
        call.tenant = Tenant::new(1);
        call
    }

    fn of(tenant: u64, cost_us: u32, line: Line) -> Waiting {
        let number = u32::try_from(tenant).expect("a small number");
        let mut call = call(number, line);
        (call.tenant, call.cost_us) = (Tenant::new(tenant), cost_us);
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

    #[test]
    fn a_tenant_waits_behind_its_own_calls_only() {
        let mut queue = Queue::new(1000);
        for _ in 0..200 {
            queue.push_back(of(1, 30, Line::Single));
        }
        queue.push_back(of(2, 30, Line::Single));
        let served = taken(&mut queue, true);
        let place = served.iter().position(|tenant| *tenant == 2).expect("it is served");
        assert!(place <= 9, "behind one turn of the other, not behind 200 calls: {place}");
        assert_eq!((served.len(), queue.len(), queue.bytes()), (201, 0, 0));
    }

    #[test]
    fn turns_are_shared_by_cost_and_not_by_calls() {
        let mut queue = Queue::new(10_000);
        for _ in 0..2000 {
            queue.push_back(of(1, 30, Line::Bulk));
            queue.push_back(of(2, 1700, Line::Bulk));
            queue.push_back(of(3, 440, Line::Bulk));
        }
        let mut served_us = [0_u64; 4];
        while served_us.iter().sum::<u64>() < 100_000 {
            let call = queue.pop(true).expect("there are enough");
            served_us[number(&call) as usize] += u64::from(call.cost_us);
        }
        for tenant in 1..=3 {
            let percent = served_us[tenant] / 1000;
            assert!((30..=37).contains(&percent), "a third each: {served_us:?}");
        }
    }

    #[test]
    fn debts_end_and_one_tenant_alone_has_every_turn() {
        let mut queue = Queue::new(100);
        for _ in 0..3 {
            queue.push_back(of(1, u32::MAX, Line::Single));
            queue.push_back(of(2, u32::MAX, Line::Single));
        }
        assert_eq!(taken(&mut queue, true), [1, 2, 1, 2, 1, 2]);
        for _ in 0..50 {
            queue.push_back(of(1, u32::MAX, Line::Single));
        }
        assert_eq!(taken(&mut queue, true), [1; 50]);
    }

    #[test]
    fn a_tenant_leaves_room_to_others_and_they_to_those_who_come_anew() {
        let mut queue = Queue::new(320);
        let fill = |queue: &mut Queue, tenant, line| {
            let mut count = 0;
            while !queue.is_full_for(&of(tenant, 7, line)) {
                queue.push_back(of(tenant, 7, line));
                count += 1;
            }
            count
        };
        assert_eq!(fill(&mut queue, 1, Line::Bulk), 150, "of half of the queue");
        assert_eq!(fill(&mut queue, 2, Line::Bulk), 10);
        assert_eq!(fill(&mut queue, 1, Line::Single), 150);
        assert_eq!(fill(&mut queue, 2, Line::Single), 10);
        assert_eq!(fill(&mut queue, 3, Line::Single), 0, "now it is full");
        for _ in 0..200 {
            queue.pop(true);
        }
        assert!(!queue.is_full_for(&of(1, 7, Line::Single)), "what is not crowded is shared with nobody");
    }

    #[test]
    fn the_services_own_calls_find_room_in_a_full_queue() {
        let mut queue = Queue::new(32);
        while !queue.is_full_for(&of(1, 7, Line::Single)) {
            queue.push_back(of(1, 7, Line::Single));
        }
        let own = || {
            let mut call = call(0, Line::Single);
            call.tenant = Tenant::SERVICE;
            call
        };
        let mut count = 0;
        while !queue.is_full_for(&own()) {
            queue.push_back(own());
            count += 1;
        }
        assert!((RESERVED_CALLS..RESERVED_CALLS + 32).contains(&count), "bounded too: {count}");
    }

    #[test]
    fn what_is_put_back_comes_next() {
        let mut queue = Queue::new(100);
        for tenant in [1, 2] {
            queue.push_back(of(tenant, 7, Line::Single));
            queue.push_back(of(tenant, 7, Line::Single));
        }
        queue.push_front(of(3, 7, Line::Single));
        assert_eq!(queue.next(true).map(number), Some(3));
        assert_eq!(taken(&mut queue, true), [3, 1, 1, 2, 2]);
    }

    #[test]
    fn emptied_shelves_are_not_kept_for_ever() {
        let mut queue = Queue::new(10_000);
        for tenant in 1..=1000 {
            queue.push_back(of(tenant, 7, Line::Single));
        }
        assert_eq!(taken(&mut queue, true).len(), 1000);
        assert!(queue.single.shelves.is_empty() && queue.single.turns.is_empty());
        assert_eq!(queue.single.spare.len(), SPARE_MAX);
    }
}
