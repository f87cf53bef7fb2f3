//! What is due for a key, and when something will be. Pure: two replicas that see the same rows plan the same.
//!
//! - Nothing is due before its instant, which derives from the current version alone (Azure: "versionless means the
//!   newest, even if it is disabled"). A new version therefore starts the reckoning anew, and however many periods
//!   were missed, the key rotates once.
//! - An instant is always later than the version's creation, also where a trigger says otherwise. So a clock that was
//!   set back stops everything until it has come to where it was, and, [`next_version`](super::next_version) seeing to
//!   it that versions are made in order, a key has no instant twice.
//! - A current version that is disabled is not rotated, neither by time nor by uses: an operator has stopped the key,
//!   and a new version would start it again behind their back. When the version is enabled again, what was missed is
//!   due. Notices do go out: dates pass for a disabled version too.
//! - Of the notices about a version only the newest that has passed is sent: "near expiry" a week after it expired
//!   helps nobody.
//! - A key that never had a policy gets Azure's default: a notice thirty days before its current version expires.
//! - A deleted key is purged, when [`may_purge`] says so, and nothing else happens to it.
//!
//! Work by time begins up to an hour late, at a moment that the key and the instant decide, so that a thousand keys
//! made by one script do not all want the HSM in one second.

use sha2::{Digest as _, Sha256};

use super::{BudgetAction, Cause, Due, KeyLife, LifetimeActionType, RotationPolicy, Work, WorkKind, purge::may_purge};
use crate::model::{State, Timestamp};

/// The longest that work by time is put off.
pub const JITTER_S_MAX: i64 = 3_600;
/// One part in so many of its period, at most.
const JITTER_PERIOD_PARTS: i64 = 20;

/// The notice of keys without a policy.
const DEFAULT_NOTICE_S: i64 = 30 * 86_400;

/// What is to be done for a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What can be begun now, in the order it is to be done.
    pub due: Vec<Due>,
    /// When the next thing can be begun, if the key stays as it is and what is due was done. Later than now, but for a
    /// purge that waits until the clocks agree: they may at any moment.
    pub next: Option<Timestamp>,
}

impl Plan {
    fn look_again(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

/// What is due for a key at `now` by the wall clock, and what next. `trusted_now` is for destruction alone:
/// [`may_purge`] says what it is.
#[must_use]
pub fn plan(life: &KeyLife, now: Timestamp, trusted_now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    match life.state {
        State::Active => {
            // Owners hear of an expiry before a rotation makes it a thing of the past.
            plan_notices(life, now, &mut plan);
            plan_rotation(life, now, &mut plan);
        }
        State::Deleted { purge_at, .. } if may_purge(purge_at, now, trusted_now) => {
            plan.due.push(due(life, Work::Purge, purge_at));
        }
        State::Deleted { purge_at, .. } => plan.look_again(purge_at),
    }
    plan
}

/// When somebody must look at the key: the time of the first work that is not done, in the past if some is due.
///
/// Made to be kept in a column: as long as the key's rows stay as they are and time goes forward, nothing is due
/// before it.
#[must_use]
pub fn next_due(life: &KeyLife, now: Timestamp) -> Option<Timestamp> {
    let plan = plan(life, now, now);
    plan.due.iter().map(|due| due.run_at).min().or(plan.next)
}

fn due(life: &KeyLife, work: Work, at: Timestamp) -> Due {
    Due { key: life.key, version: life.current.version, work, at, run_at: at }
}

fn plan_notices(life: &KeyLife, now: Timestamp, plan: &mut Plan) {
    let notices = notices(life);
    let passed = notices.partition_point(|notice| notice.run_at <= now);
    let undone = |notice: &&Due| !life.done.contains(&notice.mark());
    plan.due.extend(notices[..passed].last().filter(undone));
    if let Some(next) = notices[passed..].iter().find(undone) {
        plan.look_again(next.run_at);
    }
}

/// Every notice about the current version, by time: the last is that it has expired.
fn notices(life: &KeyLife) -> Vec<Due> {
    let Some(expires) = life.current.expires else { return Vec::new() };
    let expired = due(life, Work::NotifyExpired, expires.max(first_instant(life)));
    let near = |at: Timestamp| due(life, Work::NotifyNearExpiry, at.max(first_instant(life)));
    let mut notices: Vec<Due> = match &life.policy {
        Some(policy) => policy
            .triggers(LifetimeActionType::Notify)
            .filter_map(|trigger| trigger.instant(life.current.created, Some(expires)))
            .map(near)
            .collect(),
        // A version that lives for less than the notice was made by somebody who knows.
        None => {
            let at = Timestamp(expires.0.saturating_sub(DEFAULT_NOTICE_S));
            (at > life.current.created).then(|| near(at)).into_iter().collect()
        }
    };
    notices.retain(|notice| notice.at < expired.at);
    notices.sort_by_key(|notice| notice.at);
    notices.dedup();
    notices.push(expired);
    notices
}

fn plan_rotation(life: &KeyLife, now: Timestamp, plan: &mut Plan) {
    let Some(policy) = life.policy.as_ref().filter(|_| life.current.enabled) else { return };
    // A version is replaced once, whatever for.
    if life.done.iter().any(|mark| mark.version == life.current.version && mark.kind == WorkKind::Rotate) {
        return;
    }
    // By time first: its instant is the one that was foretold.
    let rotations = [rotation_by_time(life, policy), rotation_by_uses(life, policy)];
    let rotations = rotations.into_iter().flatten();
    if let Some(rotation) = rotations.clone().find(|rotation| rotation.run_at <= now) {
        plan.due.push(rotation);
    } else if let Some(next) = rotations.map(|rotation| rotation.run_at).min() {
        plan.look_again(next);
    }
}

fn rotation_by_time(life: &KeyLife, policy: &RotationPolicy) -> Option<Due> {
    let at = policy.rotation()?.instant(life.current.created, life.current.expires)?.max(first_instant(life));
    let run_at = Timestamp(at.0.saturating_add(jitter_s(life, at)));
    Some(Due { run_at, ..due(life, Work::Rotate { cause: Cause::Time }, at) })
}

/// When a budget was spent no row says, and two replicas would each say something else. So the instant is the first
/// that the version has.
fn rotation_by_uses(life: &KeyLife, policy: &RotationPolicy) -> Option<Due> {
    let budget = policy.use_budget.filter(|budget| budget.action == BudgetAction::Rotate)?;
    let spent = budget.is_spent(life.current.uses);
    spent.then(|| due(life, Work::Rotate { cause: Cause::Uses }, first_instant(life)))
}

/// No instant of a version is earlier.
fn first_instant(life: &KeyLife) -> Timestamp {
    Timestamp(life.current.created.0.saturating_add(1))
}

/// `SHA-256(key | at)` mod (most + 1), where most is the least of an hour, a twentieth of the period, and half of what
/// is left until the version expires: the other half is for the work.
fn jitter_s(life: &KeyLife, at: Timestamp) -> i64 {
    let period = at.0 - life.current.created.0;
    let left = life.current.expires.map_or(i64::MAX, |expires| expires.0.saturating_sub(at.0).max(0));
    let most = JITTER_S_MAX.min(period / JITTER_PERIOD_PARTS).min(left / 2);
    let hash = Sha256::new().chain_update(life.key).chain_update(at.0.to_be_bytes()).finalize();
    let (head, _) = hash.split_first_chunk::<8>().expect("SHA-256 has 32 bytes");
    i64::try_from(u64::from_be_bytes(*head) % (most.unsigned_abs() + 1)).expect("at most an hour")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::VersionId,
        rotation::{
            Mark, UseBudget, VersionLife,
            fixtures::{any_life, life, notify_after, notify_before, policy, rotate_after, rotate_before, time},
        },
    };

    const CREATED: &str = "2026-01-01T00:00:00Z";
    const DAY_S: i64 = 86_400;

    fn at(text: &str) -> Timestamp {
        time(&format!("{text}T00:00:00Z"))
    }

    /// What is due by a right clock.
    fn due_at(life: &KeyLife, now: Timestamp) -> Vec<(Work, Timestamp)> {
        plan(life, now, now).due.iter().map(|due| (due.work, due.at)).collect()
    }

    const BY_TIME: Work = Work::Rotate { cause: Cause::Time };
    const BY_USES: Work = Work::Rotate { cause: Cause::Uses };

    #[test]
    fn a_key_without_policy_and_expiry_has_nothing_to_do() {
        assert_eq!(plan(&life(CREATED, None, None), Timestamp::MAX, Timestamp::MAX), Plan::default());
    }

    #[test]
    fn a_rotation_is_due_from_its_instant_on_and_at_most_an_hour_later() {
        let life = life(CREATED, None, Some(policy(&[rotate_after("P1M")], None)));
        let instant = at("2026-02-01");
        let before = plan(&life, Timestamp(instant.0 - 1), instant);
        assert_eq!(before.due, []);
        let run_at = before.next.expect("it will rotate");
        assert!((instant..=Timestamp(instant.0 + JITTER_S_MAX)).contains(&run_at));
        assert_eq!(plan(&life, run_at, run_at).due, [Due { run_at, ..due(&life, BY_TIME, instant) }]);
    }

    #[test]
    fn a_rotation_before_expiry_is_reckoned_from_the_expiry_of_the_version() {
        let rotating = Some(policy(&[rotate_before("P1M")], Some("P1Y")));
        let life = |expires| life(CREATED, expires, rotating.clone());
        assert_eq!(due_at(&life(Some("2026-03-31T00:00:00Z")), at("2026-03-02")), [(BY_TIME, at("2026-02-28"))]);
        assert_eq!(plan(&life(None), Timestamp::MAX, Timestamp::MAX), Plan::default());
    }

    #[test]
    fn missed_periods_are_one_rotation() {
        let life = life(CREATED, None, Some(policy(&[rotate_after("P1D")], None)));
        assert_eq!(due_at(&life, at("2036-01-01")), [(BY_TIME, at("2026-01-02"))]);
    }

    #[test]
    fn a_new_version_starts_the_reckoning_anew() {
        let mut life = life(CREATED, None, Some(policy(&[rotate_after("P1M")], None)));
        assert_eq!(due_at(&life, at("2026-02-10")), [(BY_TIME, at("2026-02-01"))]);
        life.current.created = at("2026-02-10");
        assert_eq!(due_at(&life, at("2026-02-10")), []);
        assert_eq!(due_at(&life, at("2026-03-11")), [(BY_TIME, at("2026-03-10"))]);
    }

    #[test]
    fn a_trigger_that_came_before_the_version_is_due_a_second_after_it() {
        let policy = Some(policy(&[rotate_before("P30D"), notify_before("P60D")], Some("P1Y")));
        let life = life(CREATED, Some("2026-01-11T00:00:00Z"), policy);
        let first = Timestamp(at("2026-01-01").0 + 1);
        assert_eq!(due_at(&life, at("2026-01-01")), []);
        assert_eq!(due_at(&life, first), [(Work::NotifyNearExpiry, first), (BY_TIME, first)]);
    }

    #[test]
    fn a_disabled_version_is_not_rotated_but_its_expiry_is_told() {
        let spent = UseBudget { uses: 1, action: BudgetAction::Rotate };
        let policy = RotationPolicy { use_budget: Some(spent), ..policy(&[rotate_after("P1M")], Some("P1Y")) };
        let mut life = life(CREATED, Some("2026-06-01T00:00:00Z"), Some(policy));
        life.current.uses = 1;
        life.current.enabled = false;
        assert_eq!(due_at(&life, at("2026-05-01")), []);
        assert_eq!(due_at(&life, at("2026-06-01")), [(Work::NotifyExpired, at("2026-06-01"))]);
        life.current.enabled = true;
        assert_eq!(due_at(&life, at("2026-05-01")), [(BY_TIME, at("2026-02-01"))]);
    }

    #[test]
    fn a_spent_budget_rotates_at_once_and_by_one_instant_whoever_sees_it() {
        let budget = |action| RotationPolicy { use_budget: Some(UseBudget { uses: 10, action }), ..policy(&[], None) };
        let mut life = life(CREATED, None, Some(budget(BudgetAction::Rotate)));
        assert_eq!(plan(&life, at("2026-05-01"), at("2026-05-01")), Plan::default());
        life.current.uses = 10;
        let first = Timestamp(at("2026-01-01").0 + 1);
        assert_eq!(due_at(&life, at("2026-05-01")), [(BY_USES, first)]);
        assert_eq!(due_at(&life, at("2026-06-01")), [(BY_USES, first)]);
        life.policy = Some(budget(BudgetAction::Refuse));
        assert_eq!(due_at(&life, at("2026-05-01")), []);
    }

    #[test]
    fn a_key_that_is_due_by_time_and_by_uses_rotates_once_and_by_time() {
        let budget = Some(UseBudget { uses: 10, action: BudgetAction::Rotate });
        let policy = RotationPolicy { use_budget: budget, ..policy(&[rotate_after("P1M")], None) };
        let mut life = life(CREATED, None, Some(policy));
        life.current.uses = 11;
        assert_eq!(due_at(&life, at("2026-02-02")), [(BY_TIME, at("2026-02-01"))]);
    }

    #[test]
    fn notices_go_out_at_their_moments_and_the_last_is_that_it_expired() {
        let policy = policy(&[notify_before("P7D"), notify_after("P10D"), notify_before("P30D")], Some("P1Y"));
        let life = life(CREATED, Some("2026-03-01T00:00:00Z"), Some(policy));
        let near = |text| (Work::NotifyNearExpiry, at(text));
        assert_eq!(due_at(&life, at("2026-01-10")), []);
        for (now, notice) in [
            ("2026-01-11", near("2026-01-11")),
            ("2026-01-29", near("2026-01-11")),
            ("2026-01-30", near("2026-01-30")),
            ("2026-02-22", near("2026-02-22")),
            ("2026-03-01", (Work::NotifyExpired, at("2026-03-01"))),
            ("2036-03-01", (Work::NotifyExpired, at("2026-03-01"))),
        ] {
            assert_eq!(due_at(&life, at(now)), [notice], "{now}");
        }
    }

    #[test]
    fn a_notice_that_was_overtaken_is_not_sent_afterwards() {
        let policy = policy(&[notify_before("P30D"), notify_before("P7D")], Some("P1Y"));
        let mut life = life(CREATED, Some("2026-03-01T00:00:00Z"), Some(policy));
        let now = at("2026-02-25");
        life.done = plan(&life, now, now).due.iter().map(Due::mark).collect();
        assert_eq!(plan(&life, now, now), Plan { due: Vec::new(), next: Some(at("2026-03-01")) });
    }

    #[test]
    fn another_expiry_is_told_again() {
        let mut life = life(CREATED, Some("2026-03-01T00:00:00Z"), None);
        life.done = due_marks(&life, at("2026-03-01"));
        assert_eq!(due_at(&life, at("2026-03-02")), []);
        life.current.expires = Some(at("2026-02-20"));
        assert_eq!(due_at(&life, at("2026-03-02")), [(Work::NotifyExpired, at("2026-02-20"))]);
    }

    fn due_marks(life: &KeyLife, now: Timestamp) -> Vec<Mark> {
        plan(life, now, now).due.iter().map(Due::mark).collect()
    }

    #[test]
    fn without_a_policy_a_notice_goes_out_thirty_days_before_expiry() {
        let long = life(CREATED, Some("2026-03-31T00:00:00Z"), None);
        assert_eq!(due_at(&long, at("2026-03-01")), [(Work::NotifyNearExpiry, at("2026-03-01"))]);
        let short = life(CREATED, Some("2026-01-20T00:00:00Z"), None);
        assert_eq!(plan(&short, at("2026-01-02"), at("2026-01-02")).next, Some(at("2026-01-20")));
        let silent = life(CREATED, Some("2026-03-31T00:00:00Z"), Some(RotationPolicy::default()));
        assert_eq!(due_at(&silent, at("2026-03-01")), []);
    }

    #[test]
    fn a_version_from_the_future_waits_for_its_time() {
        let life =
            life("2030-01-01T00:00:00Z", Some("2029-01-01T00:00:00Z"), Some(policy(&[rotate_after("P1D")], None)));
        let plan = plan(&life, at("2026-01-01"), at("2026-01-01"));
        assert_eq!((plan.due, plan.next), (vec![], Some(Timestamp(at("2030-01-01").0 + 1))));
    }

    #[test]
    fn a_deleted_key_is_purged_at_its_date_and_nothing_else() {
        let mut life = life(CREATED, Some("2026-03-01T00:00:00Z"), Some(policy(&[rotate_after("P1D")], Some("P1Y"))));
        life.state = State::Deleted { since: at("2026-02-01"), purge_at: at("2026-05-02") };
        assert_eq!(plan(&life, at("2026-05-01"), at("2026-05-01")), Plan { due: vec![], next: Some(at("2026-05-02")) });
        assert_eq!(due_at(&life, at("2026-05-02")), [(Work::Purge, at("2026-05-02"))]);
        for (now, trusted) in [("2036-01-01", "2026-05-01"), ("2026-05-02", "2026-05-03"), ("2026-05-01", "2036-01-01")]
        {
            assert_eq!(plan(&life, at(now), at(trusted)).due, [], "{now} {trusted}");
        }
    }

    #[test]
    fn only_marks_of_the_current_version_count() {
        let mut life = life(CREATED, None, Some(policy(&[rotate_after("P1D")], None)));
        let [mark] = due_marks(&life, at("2026-02-01"))[..] else { panic!("one rotation") };
        life.done = vec![Mark { version: VersionId::from_bytes([9; 16]), ..mark }];
        assert_eq!(due_marks(&life, at("2026-02-01")), [mark]);
    }

    #[test]
    fn work_by_time_is_put_off_by_an_hour_or_a_twentieth_of_its_period_and_not_up_to_the_expiry() {
        for (after, expires, most) in [
            ("P1Y", None, 3_600),
            ("PT20H", None, 3_600),
            ("PT10H", None, 1_800),
            ("PT1M", None, 3),
            ("PT10H", Some("2026-01-01T10:00:10Z"), 5),
            ("PT10H", Some("2026-01-01T10:00:01Z"), 0),
            ("PT10H", Some("2026-01-01T09:00:00Z"), 0),
        ] {
            let mut life = life(CREATED, expires, Some(policy(&[rotate_after(after)], None)));
            let late = |key: u8| {
                life.key = [key; 16];
                let rotation = rotation_by_time(&life, life.policy.as_ref().expect("there is one"));
                let rotation = rotation.expect("it rotates");
                rotation.run_at.0 - rotation.at.0
            };
            let late: Vec<i64> = (0..=255).map(late).collect();
            assert!(late.iter().all(|late| (0..=most).contains(late)), "{after}");
            assert!(late.iter().max() >= Some(&(most * 9 / 10)) && late.iter().min() <= Some(&(most / 10)), "{after}");
        }
    }

    #[test]
    fn the_jitter_of_a_key_and_an_instant_stays_as_it_is_for_ever() {
        let life = life(CREATED, None, Some(policy(&[rotate_after("P1M")], None)));
        assert_eq!(jitter_s(&life, at("2026-02-01")), 952);
    }

    fn any_now() -> impl Strategy<Value = Timestamp> {
        (0..4_000 * DAY_S).prop_map(|s| Timestamp(at("2025-06-01").0 + s))
    }

    proptest! {
        #[test]
        fn nothing_is_early_and_nothing_is_put_off_too_far(life in any_life(), now in any_now(), trusted in any_now()) {
            let plan = plan(&life, now, trusted);
            for due in &plan.due {
                prop_assert!(due.at <= due.run_at && due.run_at <= now);
                prop_assert!(due.at.0 + JITTER_S_MAX >= due.run_at.0);
                prop_assert!(due.at > life.current.created || due.work == Work::Purge);
                if let (Work::Rotate { .. }, Some(expires)) = (due.work, life.current.expires) {
                    prop_assert!(due.at >= expires || due.run_at < expires);
                }
            }
            prop_assert!(plan.next.is_none_or(|next| next > now || life.state != State::Active));
        }

        #[test]
        fn the_same_is_planned_twice_and_nothing_again_when_it_is_done(life in any_life(), now in any_now()) {
            let first = plan(&life, now, now);
            prop_assert_eq!(&first, &plan(&life, now, now));
            let done = KeyLife { done: first.due.iter().map(Due::mark).collect(), ..life };
            let second = plan(&done, now, now);
            if done.state == State::Active {
                prop_assert_eq!(second.due, vec![]);
            }
            prop_assert_eq!(second.next, first.next);
        }

        #[test]
        fn nothing_is_due_before_the_time_that_was_kept(life in any_life(), now in any_now(), later in 0..4_000 * DAY_S) {
            let kept = next_due(&life, now);
            let later = Timestamp(now.0 + later);
            if !plan(&life, later, later).due.is_empty() {
                prop_assert!(kept.is_some_and(|kept| kept <= later));
            }
            if let Some(kept) = kept {
                let then = kept.max(now);
                prop_assert!(!plan(&life, then, then).due.is_empty(), "looked at for nothing");
            }
        }

        #[test]
        fn a_life_without_end_is_planned_too(created in any::<i64>(), expires in any::<i64>(), now in any::<i64>()) {
            let mut life = life(CREATED, None, Some(policy(&[rotate_before("P1M"), notify_after("P1D")], Some("P1Y"))));
            life.current = VersionLife { created: Timestamp(created), expires: Some(Timestamp(expires)), ..life.current };
            let _ = plan(&life, Timestamp(now), Timestamp(now));
        }
    }
}
