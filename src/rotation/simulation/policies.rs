//! Random policies: from hours to decades, all of them accepted.

use super::random::Random;
use crate::rotation::{
    BudgetAction, LifetimeAction, Profile, RotationPolicy, UseBudget,
    fixtures::{notify_after, notify_before, policy, rotate_after, rotate_before},
};

/// So many different ones.
pub(super) fn policies(random: &mut Random, count: usize) -> Vec<RotationPolicy> {
    let mut accepted = Vec::with_capacity(count);
    while accepted.len() < count {
        let policy = any(random);
        if policy.check(Profile::Own).is_ok() {
            accepted.push(policy);
        }
    }
    accepted
}

/// Policies of minutes. They are for two days only: ten years of them are five million rotations.
pub(super) fn policies_of_minutes() -> Vec<RotationPolicy> {
    ["PT1M", "PT5M", "PT7M30S", "PT30M", "PT59M"].map(|every| policy(&[rotate_after(every)], None)).to_vec()
}

fn any(random: &mut Random) -> RotationPolicy {
    let period = period(random);
    let life = match random.within(0..4) {
        0 => None,
        1 => Some("P1Y".to_owned()),
        2 => Some(format!("P{}M", random.within(1..60))),
        _ => Some(format!("P{}D", random.within(2..2_000))),
    };
    let mut actions: Vec<LifetimeAction> = match random.within(0..10) {
        0 => vec![],
        1..4 => vec![rotate_before(&period)],
        _ => vec![rotate_after(&period)],
    };
    for _ in 0..random.within(0..4) {
        let when = format!("P{}DT{}H", random.within(0..60), random.within(1..24));
        actions.push(if random.per_mille(300) { notify_after(&when) } else { notify_before(&when) });
    }
    let action = if random.per_mille(700) { BudgetAction::Rotate } else { BudgetAction::Refuse };
    let use_budget = random.per_mille(300).then_some(UseBudget { uses: 1_000, action });
    RotationPolicy { use_budget, ..policy(&actions, life.as_deref()) }
}

fn period(random: &mut Random) -> String {
    match random.within(0..1_000) {
        0..5 => format!("PT{}H", random.within(6..24)),
        5..50 => format!("P{}D", random.within(1..15)),
        50..500 => format!("P{}D", random.within(15..900)),
        500..900 => format!("P{}M", random.within(1..36)),
        900..950 => format!("P{}W", random.within(2..100)),
        _ => format!("P{}Y{}M", random.within(1..20), random.within(0..12)),
    }
}
