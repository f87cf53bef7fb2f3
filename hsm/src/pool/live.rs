//! One serving worker as its lane sees it: what is under way there, and what it is believed to know.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    pool::{call::Waiting, known::Known, link::Link},
    protocol::{Moment, PACKET_BYTES_MAX},
};

/// A call that was sent and is not answered.
pub(super) struct UnderWay {
    pub(super) id: u32,
    /// Which packet it went with: a worker begins a packet when the one before is answered.
    pub(super) packet: u64,
    pub(super) sent_at: Moment,
    pub(super) with_row: bool,
    pub(super) waiting: Waiting,
}

/// One serving worker.
pub(super) struct Live {
    /// Never used twice in a lane, so that nothing said of an old worker is believed of a new one.
    pub(super) generation: u64,
    pub(super) seat: usize,
    pub(super) link: Arc<Link>,
    /// Sent, oldest first; answers come in this order.
    pub(super) under_way: VecDeque<UnderWay>,
    /// For this worker and no other, before the lane's queue: the canary, and calls whose row it asked for.
    pub(super) own: VecDeque<Waiting>,
    /// The packet buffer, when nobody writes. One for each worker, never grown: growing would leave copies.
    buffer: Option<Vec<u8>>,
    /// A packet that found no room, with whether it is secret.
    pub(super) unsent: Option<(Vec<u8>, bool)>,
    /// A suspect is under way: nothing goes with it.
    pub(super) sole: bool,
    /// Takes no more from the queue: its successor serves.
    pub(super) draining: bool,
    /// It is about to be replaced: not even its own calls go there.
    pub(super) doomed: bool,
    pub(super) known: Known,
    pub(super) loads: u64,
    next_id: u32,
    next_packet: u64,
    /// When the last answer came, or the front woke from a stall.
    pub(super) answered_at: Moment,
    /// When the canary last signed.
    pub(super) canary_at: Moment,
    /// When the canary was last asked.
    pub(super) canary_asked_at: Moment,
    pub(super) canary_waits: bool,
}

impl Live {
    /// A worker that has just said that it is ready, which includes its canary.
    pub(super) fn new(generation: u64, seat: usize, link: Arc<Link>, known: Known, loads: u64) -> Self {
        let now = Moment::now();
        Self {
            generation,
            seat,
            link,
            under_way: VecDeque::new(),
            own: VecDeque::new(),
            buffer: Some(Vec::with_capacity(PACKET_BYTES_MAX)),
            unsent: None,
            sole: false,
            draining: false,
            doomed: false,
            known,
            loads,
            next_id: 1,
            next_packet: 1,
            answered_at: now,
            canary_at: now,
            canary_asked_at: now,
            canary_waits: false,
        }
    }

    /// How many packets are not answered. Packets are numbered without gaps and answered in order.
    pub(super) fn packets(&self) -> u64 {
        match (self.under_way.front(), self.under_way.back()) {
            (Some(first), Some(last)) => last.packet - first.packet + 1,
            _ => 0,
        }
    }

    /// Whether another packet may be written now.
    pub(super) fn has_room(&self, packets_max: u64) -> bool {
        !self.doomed && self.buffer.is_some() && self.unsent.is_none() && !self.sole && self.packets() < packets_max
    }

    /// The most bytes that `call` takes in a packet to this worker.
    pub(super) fn frame_bytes_max(&self, call: &Waiting) -> usize {
        match call.work.seal() {
            Some(seal) if !call.row_wanted && self.known.contains(seal) => call.work.frame_bytes_max(),
            _ => call.bytes(),
        }
    }

    /// Takes the buffer: from now on nobody else writes to this worker.
    pub(super) fn begin_writing(&mut self) -> Vec<u8> {
        self.buffer.take().unwrap_or_default()
    }

    /// Gives the buffer back, wiped.
    pub(super) fn end_writing(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffer = Some(buffer);
    }

    /// Names for `count` calls: the first of them.
    pub(super) fn reserve_ids(&mut self, count: usize) -> u32 {
        let first = self.next_id;
        self.next_id = self.next_id.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
        first
    }

    /// The number of the next packet.
    pub(super) fn number_packet(&mut self) -> u64 {
        let number = self.next_packet;
        self.next_packet += 1;
        number
    }

    /// Whether it has nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.own.is_empty() && self.unsent.is_none() && self.buffer.is_some()
    }

    /// Since when the oldest call under way may have been running.
    pub(super) fn running_since(&self) -> Option<Moment> {
        self.under_way.front().map(|oldest| oldest.sent_at.max(self.answered_at))
    }
}
