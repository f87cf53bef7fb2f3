//! The lane's rules, without processes.

use tokio::sync::oneshot;

use super::*;
use crate::{
    algorithms::{Algorithm, KeyOps, KeySpec},
    pool::{call::Work, known::Known, timing::Told},
    protocol::{Answer, Operation, Request},
    statement::{KeyRow, KeyStatement, Residency},
};

fn row(number: u8) -> Arc<KeyRow> {
    let statement = KeyStatement {
        vault: "vault".into(),
        key: "key".into(),
        version: [number; 16],
        spec: KeySpec::P256,
        ops: KeyOps::SIGN,
        enabled: true,
        not_before: None,
        expires: None,
        residency: Residency::Wrapped,
        blob: vec![1; 40],
        public: vec![1; 90],
        check_value: Vec::new(),
        created: 1,
        revision: 1,
        rest: Vec::new(),
        kek: None,
    };
    Arc::new(KeyRow::new(statement, [number; 32]))
}

fn call(number: u8) -> (Waiting, oneshot::Receiver<Told>) {
    let operation = Operation::Sign { algorithm: Algorithm::Es256, input: vec![0; 32].into() };
    Waiting::new(Work::Operate { row: row(number), operation }, None, Moment(u64::MAX))
}

/// A medium lane with that many workers.
fn lane(workers: usize) -> State {
    let limits = LaneProfile { workers, queue_max: 1000, hang: Duration::from_secs(1) };
    let mut state = State::new(Lane::Medium, limits, 1_000_000);
    for seat in 0..workers {
        let (link, _) = Link::pair().expect("a pair");
        state.enlist(|generation| Live::new(generation, seat, Arc::new(link), Known::new(100), 0));
    }
    state
}

fn admit(state: &mut State, numbers: impl IntoIterator<Item = u8>) -> Vec<oneshot::Receiver<Told>> {
    let calls = numbers.into_iter().map(call);
    calls
        .map(|(call, result)| {
            assert!(state.refuses(&call).is_none());
            state.admit(call);
            result
        })
        .collect()
}

/// Claims and sends one packet: to whom, and how many calls.
fn send(state: &mut State) -> Option<(u64, usize)> {
    let claim = state.claim()?;
    let (generation, count) = (claim.generation, claim.calls.len());
    let calls = claim.calls.into_iter().zip(claim.first_id..).map(|((call, with_row), id)| (id, call, with_row));
    let calls = calls.collect();
    assert!(matches!(state.commit(generation, count, calls), Commit::Send));
    let index = state.index(generation).expect("it serves");
    state.live[index].end_writing(claim.packet);
    Some((generation, count))
}

#[tokio::test]
async fn workers_share_what_waits() {
    let mut state = lane(2);
    let _results = admit(&mut state, vec![1; 40]);
    assert_eq!(send(&mut state), Some((1, 20)));
    assert_eq!(send(&mut state), Some((2, 10)), "the idle one first");
    assert_eq!(send(&mut state), Some((1, 5)));
    assert_eq!(send(&mut state), Some((2, 3)));
    assert_eq!(send(&mut state), None, "two packets each");
    assert_eq!((state.queue.len(), state.unfinished()), (2, 40));
}

#[tokio::test]
async fn a_worker_that_has_the_key_is_preferred() {
    let mut state = lane(2);
    let _first = admit(&mut state, [1]);
    assert_eq!(send(&mut state), Some((1, 1)));
    let _second = admit(&mut state, [2]);
    assert_eq!(send(&mut state), Some((2, 1)));
    let _third = admit(&mut state, [2]);
    assert_eq!(send(&mut state), Some((2, 1)), "both have one packet under way");
}

#[tokio::test]
async fn only_what_may_have_begun_has_used_an_attempt() {
    let mut state = lane(1);
    let _begun = admit(&mut state, [1, 1]);
    assert_eq!(send(&mut state), Some((1, 2)));
    let _sent = admit(&mut state, [2]);
    assert_eq!(send(&mut state), Some((1, 1)));
    let _waiting = admit(&mut state, [3]);
    assert!(state.lose(1).is_empty());
    let queue: Vec<_> = state.queue.iter().map(|call| (call.attempts, call.suspect)).collect();
    assert_eq!(queue, [(1, true), (1, true), (0, false), (0, false)], "in their order");
}

#[tokio::test]
async fn a_suspect_travels_alone() {
    let mut state = lane(2);
    let _results = admit(&mut state, [1, 2]);
    assert_eq!(send(&mut state), Some((1, 1)));
    assert!(state.lose(1).is_empty());
    assert_eq!(send(&mut state), Some((2, 1)), "the suspect");
    assert_eq!(send(&mut state), None, "nothing goes with it");
    let ended = state.lose(2);
    assert!(matches!(ended[..], [(_, Err(Error::WorkerLost))]));
    assert_eq!(state.queue.len(), 1, "the other is not lost");
}

#[tokio::test]
async fn a_lane_without_hope_ends_what_waits() {
    let mut state = lane(1);
    let _results = admit(&mut state, [1, 2]);
    assert!(state.lose(1).is_empty(), "a new one is expected");
    state.trouble = Some("no HSM".to_owned());
    state.seats[0] = SeatState::Failing;
    let ended = state.settle();
    assert!(matches!(&ended[..], [(_, Err(Error::Unavailable(why))), _] if why == "no HSM"));
    assert!(matches!(state.refuses(&call(1).0), Some(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_canary_goes_before_the_queue_and_is_not_repeated() {
    let mut state = lane(1);
    state.live[0].own.push_front(Waiting::canary(Moment(u64::MAX)));
    let _results = admit(&mut state, [1]);
    let claim = state.claim().expect("room");
    assert!(claim.calls[0].0.work.is_canary() && claim.calls.len() == 2);
    let calls = claim.calls.into_iter().zip(1..).map(|((call, with_row), id)| (id, call, with_row)).collect();
    assert!(matches!(state.commit(1, 2, calls), Commit::Send));
    let ok = Answer { id: 1, service_ns: 1, result: Ok(Response::Done) };
    assert!(state.answer(1, vec![ok]).reason.is_none());
    state.lose(1);
    assert_eq!(state.queue.len(), 1);
    let request = Work::Plain(Request::Canary);
    assert!(request.is_canary() && request.is_repeatable());
}

#[tokio::test]
async fn abandoned_calls_are_swept() {
    let mut state = lane(1);
    drop(admit(&mut state, [1, 2]));
    let _waited_for = admit(&mut state, [3]);
    assert_eq!(state.sweep().len(), 2);
    assert_eq!(state.queue.len(), 1);
    assert_eq!(state.queue.bytes(), state.queue.iter().map(Waiting::bytes).sum::<usize>());
}

#[tokio::test]
async fn a_packet_holds_single_calls_between_those_of_a_batch_and_few_of_a_batch_alone() {
    let mut state = lane(1);
    let _bulk: Vec<_> = (0..100)
        .map(|_| {
            let (mut call, result) = call(1);
            call.line = Line::Bulk;
            state.admit(call);
            result
        })
        .collect();
    assert_eq!(send(&mut state), Some((1, 32)), "of a batch alone");
    let _single = admit(&mut state, vec![2; 40]);
    let claim = state.claim().expect("room for a second packet");
    let lines: Vec<Line> = claim.calls.iter().map(|(call, _)| call.line).collect();
    assert_eq!(lines.len(), 64);
    assert_eq!(lines.iter().filter(|line| **line == Line::Bulk).count(), 32);
    assert!(lines.chunks(2).all(|pair| pair[0] != pair[1]), "in turn");
}
