//! Who may do what. Pure: a policy, an identity, an action and a scope in; a decision out.
//!
//! * [`action`]: the table of actions, ours and Azure's names of them, and sets of them as bits.
//! * [`roles`]: the built-in roles, and what the patterns of any role come to.
//! * [`policy`]: everything that decides, compiled from rows.
//! * [`grant`]: permits and grants, without which nothing is done.
//! * [`review`]: why, who, and what a change would mean, for people.
//! * [`source`]: by which rows a right is held, for people; slow and obvious where the policy is quick.
//! * [`network`]: from where what is in a vault may be used.
//! * [`state`]: what a version may be used for in its state.

pub mod action;
#[cfg(test)]
mod fixtures;
pub mod grant;
pub mod network;
#[cfg(test)]
mod oracle;
pub mod policy;
pub mod review;
pub mod roles;
mod shards;
pub mod source;
pub mod state;
#[cfg(test)]
mod tests;

pub use action::{Action, Op, Plane, Rights, ops};
pub use grant::{Barrier, Denied, Grant, Permit, PolicyCell, Scheduled, Target, Where};
pub use policy::{Decision, Policy, Rows, VaultAccess};
pub use roles::RoleDefinition;
