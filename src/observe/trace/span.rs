//! One span, and one that is still open.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
};

use rustix::time::{ClockId, clock_gettime};
use strongroom_hsm::protocol::Moment;
use uuid::Uuid;

use super::{Place, parent::Parent};
use crate::audit::Outcome;

/// A span as the data model of OpenTelemetry has it, finished.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) link: Option<Parent>,
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    /// Since 1970.
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// Whether it ended in an error that is ours.
    pub(super) failed: bool,
}

/// `SpanKind` of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(Cow<'static, str>),
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// The id of a new span: the random half of a UUID, which is never 0 because it begins with the variant.
pub(super) fn fresh_id() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

/// What is added to a [`Moment`] to have nanoseconds since 1970. It wraps.
pub(super) fn offset() -> u64 {
    let wall = clock_gettime(ClockId::Realtime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    let wall_ns = part(wall.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(wall.tv_nsec));
    wall_ns.wrapping_sub(Moment::now().0)
}

/// A span that is open; nothing when its request is not followed. It ends when it is dropped, whatever came between: a
/// caller that goes away ends it too.
#[derive(Default)]
#[must_use]
pub struct Step(Option<Box<Open>>);

struct Open {
    place: Arc<Place>,
    id: u64,
    parent: u64,
    /// It encloses what begins before it ends.
    encloses: bool,
    name: &'static str,
    began: Moment,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

impl Step {
    /// What begins before it ends lies within it.
    pub(super) fn operation(place: &Arc<Place>, name: &'static str, attributes: Vec<(&'static str, Value)>) -> Self {
        let id = fresh_id();
        let parent = place.current.swap(id, Ordering::Relaxed);
        let (place, began) = (Arc::clone(place), Moment::now());
        Self(Some(Box::new(Open { place, id, parent, encloses: true, name, began, attributes, failed: false })))
    }

    /// Nothing lies within it.
    pub(super) fn inner(place: &Arc<Place>, name: &'static str, attributes: Vec<(&'static str, Value)>) -> Self {
        let parent = place.current.load(Ordering::Relaxed);
        let (place, id, began) = (Arc::clone(place), fresh_id(), Moment::now());
        Self(Some(Box::new(Open { place, id, parent, encloses: false, name, began, attributes, failed: false })))
    }

    /// It concerns so many things.
    pub fn count(&mut self, items: usize) {
        if let Some(open) = &mut self.0 {
            let items = i64::try_from(items).unwrap_or(i64::MAX);
            open.attributes.push(("strongroom.batch.operations", items.into()));
        }
    }

    /// It ends, with what its operation came to and the reason.
    pub fn conclude(mut self, (outcome, reason): (Outcome, Option<&'static str>)) {
        let Some(open) = &mut self.0 else { return };
        open.failed = outcome == Outcome::Failed;
        open.attributes.push(("strongroom.outcome", outcome.name().into()));
        open.attributes.extend(reason.map(|reason| ("error.type", reason.into())));
    }

    /// It ends well or not.
    pub fn end<T, E>(mut self, result: &Result<T, E>) {
        if let Some(open) = &mut self.0 {
            open.failed = result.is_err();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.encloses {
            self.place.current.store(self.parent, Ordering::Relaxed);
        }
        let request = &self.place.request;
        let mut span = request.span(self.parent, self.name, (self.began, Moment::now()));
        (span.id, span.attributes, span.failed) = (self.id, std::mem::take(&mut self.attributes), self.failed);
        request.tracer.take(span);
    }
}
