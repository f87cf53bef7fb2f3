//! What the tests are written with.

use proptest::prelude::*;

use super::{
    BudgetAction, CalendarDuration, KeyLife, LifetimeAction, LifetimeActionType, RotationPolicy, Trigger, UseBudget,
    VersionLife,
};
use crate::model::{KeySpec, State, Timestamp, VersionId};

pub(crate) fn duration(text: &str) -> CalendarDuration {
    text.parse().expect("a duration")
}

pub(crate) fn time(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().expect("a time").as_second())
}

/// Any duration, of one unit or of several.
pub(crate) fn any_duration() -> impl Strategy<Value = CalendarDuration> {
    let one = prop_oneof![
        (1..90_i64).prop_map(|n| format!("P{n}Y")),
        (1..900_i64).prop_map(|n| format!("P{n}M")),
        (1..4_000_i64).prop_map(|n| format!("P{n}W")),
        (1..30_000_i64).prop_map(|n| format!("P{n}D")),
        (1..50_000_i64).prop_map(|n| format!("PT{n}H")),
        (1..50_000_i64).prop_map(|n| format!("PT{n}M")),
        (60..50_000_i64).prop_map(|n| format!("PT{n}S")),
    ];
    let many = (0..50, 0..100, 0..60, 0..1_000, 0..100, 0..100, 60..1_000)
        .prop_map(|(y, mo, w, d, h, m, s)| format!("P{y}Y{mo}M{w}W{d}DT{h}H{m}M{s}S"));
    prop_oneof![one, many].prop_map(|text| duration(&text))
}

pub(crate) fn rotate_after(text: &str) -> LifetimeAction {
    LifetimeAction { trigger: Trigger::TimeAfterCreate(duration(text)), action: LifetimeActionType::Rotate }
}

pub(crate) fn rotate_before(text: &str) -> LifetimeAction {
    LifetimeAction { trigger: Trigger::TimeBeforeExpiry(duration(text)), action: LifetimeActionType::Rotate }
}

pub(crate) fn notify_after(text: &str) -> LifetimeAction {
    LifetimeAction { trigger: Trigger::TimeAfterCreate(duration(text)), action: LifetimeActionType::Notify }
}

pub(crate) fn notify_before(text: &str) -> LifetimeAction {
    LifetimeAction { trigger: Trigger::TimeBeforeExpiry(duration(text)), action: LifetimeActionType::Notify }
}

pub(crate) fn policy(actions: &[LifetimeAction], expiry_time: Option<&str>) -> RotationPolicy {
    RotationPolicy {
        lifetime_actions: actions.to_vec(),
        expiry_time: expiry_time.map(duration),
        ..RotationPolicy::default()
    }
}

/// Any policy, right or wrong.
pub(crate) fn any_policy() -> impl Strategy<Value = RotationPolicy> {
    let trigger = prop_oneof![
        any_duration().prop_map(Trigger::TimeAfterCreate),
        any_duration().prop_map(Trigger::TimeBeforeExpiry)
    ];
    let action = prop_oneof![Just(LifetimeActionType::Rotate), Just(LifetimeActionType::Notify)];
    let actions = (trigger, action).prop_map(|(trigger, action)| LifetimeAction { trigger, action });
    let budget = prop_oneof![Just(BudgetAction::Rotate), Just(BudgetAction::Refuse)];
    let budget = (0..2_000_000_u64, budget).prop_map(|(uses, action)| UseBudget { uses, action });
    let spec = prop_oneof![Just("RSA-4096"), Just("AES-256")].prop_map(KeySpec::from_name);
    (
        proptest::collection::vec(actions, 0..4),
        proptest::option::of(any_duration()),
        proptest::option::of(budget),
        prop_oneof![Just(None), spec],
    )
        .prop_map(|(lifetime_actions, expiry_time, use_budget, next_spec)| RotationPolicy {
            lifetime_actions,
            expiry_time,
            use_budget,
            next_spec,
        })
}

/// A key in use whose only version was made then.
pub(crate) fn life(created: &str, expires: Option<&str>, policy: Option<RotationPolicy>) -> KeyLife {
    let current = VersionLife {
        version: VersionId::from_bytes([1; 16]),
        created: time(created),
        expires: expires.map(time),
        enabled: true,
        uses: 0,
    };
    KeyLife { key: [7; 16], state: State::Active, policy, current, done: Vec::new() }
}

/// Any key that was made in 2026, with any policy.
pub(crate) fn any_life() -> impl Strategy<Value = KeyLife> {
    const DAY_S: i64 = 86_400;
    let expires = proptest::option::of(0..3_000 * DAY_S);
    let deleted = proptest::option::weighted(0.1, 0..400 * DAY_S);
    let policy = proptest::option::weighted(0.9, any_policy());
    (any::<[u8; 16]>(), policy, 0..365 * DAY_S, expires, any::<bool>(), 0..2_000_000_u64, deleted).prop_map(
        |(key, policy, created, expires, enabled, uses, deleted)| {
            let created = Timestamp(time("2026-01-01T00:00:00Z").0 + created);
            let expires = expires.map(|s| Timestamp(created.0 + s - 5 * DAY_S));
            let state = deleted
                .map_or(State::Active, |s| State::Deleted { since: created, purge_at: Timestamp(created.0 + s) });
            let current = VersionLife { version: VersionId::from_bytes([1; 16]), created, expires, enabled, uses };
            KeyLife { key, state, policy, current, done: Vec::new() }
        },
    )
}
