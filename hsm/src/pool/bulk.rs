//! Many calls of one caller: brought together, answered in order.
//!
//! They go into the queue under one lock and travel in as few packets as the lane allows. What finds no
//! room waits here and not in the queue, and goes in as the caller's earlier calls are answered. When none
//! is under way and there is no room, what is left is refused.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::Arc,
};

use tokio::{
    select,
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    error::Error,
    pool::{
        Admission, Tenant,
        call::{Waiting, Work},
        lane::{Lane, check_length},
        queue::Line,
        timing::{Told, Watched},
    },
    protocol::{Moment, Response},
};

type Answer = Result<Response, Error>;

/// What one call has come to.
enum Place {
    /// It cannot be sent to any worker.
    Refused(Error),
    /// The answer will come here.
    Waits(oneshot::Receiver<Told>),
}

/// Who brings calls.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    /// Whoever this admits.
    Admission(&'a Arc<dyn Admission>),
    /// That tenant; nothing has to admit its calls again.
    Tenant(Tenant),
}

impl By<'_> {
    fn call(self, work: Work, deadline: Moment) -> (Waiting, oneshot::Receiver<Told>) {
        match self {
            Self::Admission(admission) => Waiting::new(work, Some(Arc::clone(admission)), deadline),
            Self::Tenant(tenant) => {
                let (mut call, answer) = Waiting::new(work, None, deadline);
                call.tenant = tenant;
                (call, answer)
            }
        }
    }
}

/// Calls that were brought together. Dropping it abandons those that are not answered.
pub(super) struct Bulk<'a> {
    lane: &'a Lane,
    places: VecDeque<Place>,
    /// Those that found no room yet.
    outside: VecDeque<Waiting>,
    /// How many are in the lane and not answered.
    inside: usize,
    deadline: Moment,
    /// Why those that are left are not sent.
    ended: Option<Error>,
    watched: Watched,
}

impl<'a> Bulk<'a> {
    /// Brings the calls: each is in the lane, or waits for room, when this returns.
    pub(super) fn bring(lane: &'a Lane, work: Vec<Work>, by: By<'_>, deadline: Moment) -> Self {
        let (mut places, mut outside) = (VecDeque::with_capacity(work.len()), VecDeque::with_capacity(work.len()));
        for work in work {
            let (mut call, answer) = by.call(work, deadline);
            call.line = Line::Bulk;
            match check_length(&call) {
                Ok(()) => {
                    outside.push_back(call);
                    places.push_back(Place::Waits(answer));
                }
                Err(error) => places.push_back(Place::Refused(error)),
            }
        }
        let mut bulk = Self { lane, places, outside, inside: 0, deadline, ended: None, watched: Watched::default() };
        bulk.go_in();
        bulk
    }

    /// Somebody is told how each went.
    pub(super) fn watched(mut self, watched: &Watched) -> Self {
        self.watched = watched.clone();
        self
    }

    /// Lets in what finds room. When nothing does, and nothing of these is under way that could make room,
    /// it is the end.
    fn go_in(&mut self) {
        if self.outside.is_empty() {
            return;
        }
        let before = self.outside.len();
        let refusal = self.lane.bring(&mut self.outside);
        self.inside += before - self.outside.len();
        if self.inside == 0 {
            self.end(refusal);
        }
    }

    /// Nothing more goes in.
    fn end(&mut self, why: Option<Error>) {
        self.ended = why;
        self.outside.clear();
    }

    /// Waits for the answers, until the deadline; in the order of the calls.
    pub(super) async fn answers(mut self) -> Vec<Answer> {
        let mut late = pin!(sleep_until(Instant::now() + self.deadline.since(Moment::now())));
        let mut answers = Vec::with_capacity(self.places.len());
        while let Some(place) = self.places.pop_front() {
            let answer = match place {
                Place::Refused(error) => Err(error),
                Place::Waits(answer) => self.answer(answer, late.as_mut()).await,
            };
            self.lane.count(answer.as_ref().map(drop));
            answers.push(answer);
        }
        answers
    }

    async fn answer(&mut self, mut answer: oneshot::Receiver<Told>, mut late: Pin<&mut Sleep>) -> Answer {
        self.go_in();
        if self.ended.is_none() {
            select! {
                biased;
                told = &mut answer => {
                    self.inside -= 1;
                    // The sender is dropped without a word only when the pool itself is torn down.
                    return told.map_or(Err(Error::WorkerLost), |told| self.watched.told(self.lane.name, told));
                }
                () = &mut late => self.end(Some(Error::Expired)),
            }
        }
        match answer.try_recv() {
            Ok(told) => {
                self.inside -= 1;
                self.watched.told(self.lane.name, told)
            }
            Err(_) => Err(self.ended.clone().unwrap_or(Error::WorkerLost)),
        }
    }
}

impl Drop for Bulk<'_> {
    fn drop(&mut self) {
        self.lane.abandon(self.inside);
    }
}
