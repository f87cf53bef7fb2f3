//! A key's life: what its owner wants of it, and what is due when. Pure: time comes as an argument, chance from the
//! key's id, and nothing is read or written.
//!
//! A [`RotationPolicy`] is accepted by [`RotationPolicy::check`], for our own face or as strictly as Azure's, and kept
//! as [`RotationPolicy::canonical`] says. From the rows of a key somebody makes a [`KeyLife`]; [`plan()`] says what is
//! due for it, [`next_due`] when to look again, [`forecast()`] what the years will bring, and [`next_version`] when the
//! version that a rotation makes begins and ends.
//!
//! Whoever does what is due keeps to this, and P5 holds whatever dies whenever (the simulation in this module does
//! it, and is what shows it):
//!
//! 1. It claims the key for a while, with a fence that grows; a claim that has run out may be taken over.
//! 2. It makes what is to be made, where nobody gets it: a version that is in the making, and proved.
//! 3. In one transaction it looks that it still has the claim, that [`plan()`] still says the same, that the version is
//!    proved and that nobody has used the instant, `(key, at)`; then it changes the rows, keeps the [`Mark`] and puts
//!    the event into the outbox.
//! 4. Whoever takes over finishes what can be finished and undoes the rest, by the same steps.
//!
//! What a version may be used for in its state is not decided here but with everything else that decides who may do
//! what: `access::state`.

mod check;
#[cfg(test)]
pub(crate) mod fixtures;
mod forecast;
mod life;
mod next;
mod plan;
mod purge;
#[cfg(test)]
mod simulation;

#[cfg(test)]
use crate::model::UseBudget;
use crate::model::{BudgetAction, CalendarDuration, LifetimeAction, LifetimeActionType, RotationPolicy, Trigger};

pub use check::{ACTIONS_MAX, PolicyProblem, Profile};
pub use forecast::{FORECAST_MAX, Forecast, forecast};
pub use life::{Cause, Due, KeyLife, Mark, VersionLife, Work, WorkKind};
pub use next::{NextVersion, next_version};
pub use plan::{JITTER_S_MAX, Plan, next_due, plan};
pub use purge::{CLOCKS_APART_S_MAX, deleted, destruction_time, may_purge};
