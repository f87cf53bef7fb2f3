//! Histories of a register, as clients record them, and whether one order explains all of them (linearizability;
//! Herlihy and Wing, 1990; the search is Wing and Gong's, with Lowe's memory of what was tried).

use std::collections::HashSet;

/// What a client asked of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To hold that value.
    Write(u64),
    /// What it holds: that was the answer.
    Read(u64),
}

/// One call: from when until when, by one clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) asked: Asked,
    pub(crate) begun: u64,
    /// `None`: no answer came, so it may have happened at any time since, or never.
    pub(crate) ended: Option<u64>,
}

/// Whether there is an order of the calls in which each takes its effect at one moment between its begin and its end, and
/// every read answers what was written last before it. A register begins with 0.
pub(crate) fn is_linearizable(history: &[Event]) -> bool {
    // A read without an answer says nothing.
    let events: Vec<Event> = history
        .iter()
        .filter(|event| event.ended.is_some() || matches!(event.asked, Asked::Write(_)))
        .copied()
        .collect();
    assert!(events.len() <= 128, "one register's history is to be short");
    let mut tried = HashSet::new();
    search(&events, 0, 0, &mut tried)
}

/// `done`: a bit for each event that has its place in the order.
fn search(events: &[Event], done: u128, value: u64, tried: &mut HashSet<(u128, u64)>) -> bool {
    let open = |index: &usize| done & (1 << index) == 0;
    let answered = |index: &usize| events[*index].ended.is_some();
    if !(0..events.len()).filter(open).any(|index| answered(&index)) {
        return true;
    }
    if !tried.insert((done, value)) {
        return false;
    }
    // Whoever begins after another has ended comes after it.
    let first_end = (0..events.len()).filter(open).filter_map(|index| events[index].ended).min().unwrap_or(u64::MAX);
    (0..events.len()).filter(open).filter(|index| events[*index].begun <= first_end).any(|index| {
        let next = match events[index].asked {
            Asked::Write(written) => written,
            Asked::Read(found) if found == value => value,
            Asked::Read(_) => return false,
        };
        search(events, done | (1 << index), next, tried)
    })
}

#[cfg(test)]
mod tests {
    use super::{Asked::*, *};

    fn event(asked: Asked, begun: u64, ended: impl Into<Option<u64>>) -> Event {
        Event { asked, begun, ended: ended.into() }
    }

    #[test]
    fn what_has_an_order_is_found() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[event(Write(1), 0, 10), event(Read(0), 1, 3), event(Read(1), 4, 6)]));
        assert!(is_linearizable(&[event(Write(1), 0, 10), event(Write(2), 0, 10), event(Read(1), 11, 12)]));
        assert!(is_linearizable(&[event(Write(1), 0, None), event(Read(0), 5, 6), event(Read(1), 7, 8)]));
        assert!(is_linearizable(&[event(Write(1), 0, None), event(Read(0), 5, 6)]));
        assert!(is_linearizable(&[event(Read(9), 0, None)]));
    }

    #[test]
    fn what_has_none_is_not() {
        assert!(!is_linearizable(&[event(Read(1), 0, 1)]));
        assert!(!is_linearizable(&[event(Write(1), 0, 1), event(Read(0), 2, 3)]), "a stale read");
        let back = [event(Write(1), 0, 10), event(Read(1), 1, 2), event(Read(0), 3, 4)];
        assert!(!is_linearizable(&back), "what was seen is not unseen");
        let lost = [event(Write(1), 0, 1), event(Write(2), 2, 3), event(Read(1), 4, 5)];
        assert!(!is_linearizable(&lost), "a lost write");
        assert!(!is_linearizable(&[event(Read(1), 0, 1), event(Write(1), 2, None)]), "before it was asked for");
    }
}
