//! Events as the store keeps them: in the order of their changes, and queued for those who are to be told.
//!
//! *Order.* An event stands where its change stands ([`Position`]), and among those of its change by a number. It is told
//! only when no change before it is under way any more, so whoever goes on after the last one that was told misses none.
//!
//! *Trust.* Events are sealed, and checked before anybody is told. The queues are not: with them who writes the database
//! can hold deliveries up or repeat them.

use std::{fmt, str::FromStr, time::Duration};

use super::{Position, Sealed};
use crate::model::EventRow;

/// Where an event stands among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventPlace {
    /// Where its change stands.
    pub position: Position,
    /// Which of its change's it is, from 0.
    pub number: u32,
}

/// A place in words, for those who come back to it: `{position}.{number}`.
impl fmt::Display for EventPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position.0, self.number)
    }
}

/// Not a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is none that this service gave")]
pub struct NoPlace;

impl FromStr for EventPlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (position, number) = text.split_once('.').ok_or(NoPlace)?;
        let position: u64 = position.parse().map_err(|_| NoPlace)?;
        let place = Self { position: Position(position), number: number.parse().map_err(|_| NoPlace)? };
        // One spelling of each, and none that no database keeps.
        if i64::try_from(position).is_ok() && place.to_string() == text { Ok(place) } else { Err(NoPlace) }
    }
}

/// A delivery that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where its event stands.
    pub place: EventPlace,
    /// The event, unless it cannot be read. Unchecked.
    pub event: Option<Sealed<EventRow>>,
    /// How often it was tried.
    pub attempts: u32,
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Where its event stands.
    pub place: EventPlace,
    /// Why, in a few words.
    pub failure: String,
    /// After how long it is tried again; never: it is a dead letter.
    pub retry_after: Option<Duration>,
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where its event stands.
    pub place: EventPlace,
    /// The event. Unchecked.
    pub event: Sealed<EventRow>,
    /// How often it was tried.
    pub attempts: u32,
    /// How long ago the last time was.
    pub age: Duration,
    /// Why it failed then.
    pub failure: String,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many deliveries that nobody took.
    pub deliveries: u64,
    /// There may be more to forget.
    pub more: bool,
}

/// What waits for a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookState {
    /// Its name.
    pub name: String,
    /// Deliveries that are still to be made.
    pub pending: u64,
    /// Those that were given up.
    pub dead: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_one_spelling() {
        let place = EventPlace { position: Position(17), number: 3 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["", "17", "017.3", "17.03", "+17.3", "17.-3", "9223372036854775808.0", "17.3.1", " 17.3"] {
            assert_eq!(wrong.parse::<EventPlace>(), Err(NoPlace), "{wrong}");
        }
    }
}
