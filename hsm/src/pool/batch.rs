//! Batches of canonical forms, cut into calls that are small beside a packet: seals share their lane with
//! everyone's AES operations.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    error::Error,
    pool::{
        call::Work,
        lane::{Lane, Ticket},
    },
    protocol::{Moment, Request, Response},
};

/// The most bytes of forms in one call, unless a single form is longer.
const CALL_BYTES_MAX: usize = 16 * 1024;
/// The most forms in one call: about 0.3 ms of the module.
const CALL_FORMS_MAX: usize = 64;
/// The most calls of one batch in the lane at a time.
const CALLS_MAX: usize = 8;

/// Cuts `items` into calls, asks them in order and hands each response to `take`, in order.
pub(super) async fn run<T>(
    lane: &Arc<Lane>,
    items: Vec<T>,
    bytes: impl Fn(&T) -> usize,
    request: impl Fn(Vec<T>) -> Request,
    deadline: Moment,
    mut take: impl FnMut(Response) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut tickets: VecDeque<Ticket<'_>> = VecDeque::with_capacity(CALLS_MAX);
    for call in cut(items, bytes) {
        if tickets.len() == CALLS_MAX
            && let Some(ticket) = tickets.pop_front()
        {
            take(ticket.wait().await?)?;
        }
        tickets.push_back(lane.submit(Work::Plain(request(call)), None, deadline)?);
    }
    for ticket in tickets {
        take(ticket.wait().await?)?;
    }
    Ok(())
}

fn cut<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut calls: Vec<Vec<T>> = Vec::new();
    let mut call_bytes = 0;
    for item in items {
        let item_bytes = bytes(&item);
        call_bytes += item_bytes;
        match calls.last_mut() {
            Some(call) if call.len() < CALL_FORMS_MAX && call_bytes <= CALL_BYTES_MAX => call.push(item),
            _ => {
                call_bytes = item_bytes;
                calls.push(vec![item]);
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_and_lose_nothing() {
        let sizes = [10, 20_000, 5, 5, 16_380, 90_000, 1];
        let calls = cut(sizes.to_vec(), |size| *size);
        assert_eq!(calls, [vec![10], vec![20_000], vec![5, 5], vec![16_380], vec![90_000], vec![1]]);
        assert_eq!(cut(vec![1; 200], |size| *size).iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 64, 8]);
        assert!(cut(Vec::new(), |size: &usize| *size).is_empty());
    }
}
