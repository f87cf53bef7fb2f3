//! Which policies are accepted. One function, three profiles:
//!
//! | rule                                | own                | Azure Key Vault    | Azure Managed HSM |
//! |-------------------------------------|--------------------|--------------------|-------------------|
//! | actions                             | 1 Rotate, 8 Notify | 1 Rotate, 1 Notify | 1 Rotate          |
//! | triggers of Notify                  | both               | before expiry      |                   |
//! | durations                           | any                | whole days         | whole days        |
//! | least `expiry_time`                 | PT1M               | P28D               | P28D              |
//! | least `time_after_create`           | PT1M               | P7D                | P28D              |
//! | least `time_before_expiry`          | PT1M               | P7D                | P1D               |
//! | from `time_after_create` to expiry  | a second           | 7 days             | a second          |
//! | from creation to `time_before_expiry` | a second         | 7 days             | 28 days           |
//!
//! No duration is longer than P100Y. A Notify and every `time_before_expiry` need an `expiry_time`. What must be left
//! must be left from whatever date a version begins: a policy that would be wrong for a version made in February is
//! refused in May.

use super::{CalendarDuration, LifetimeAction, LifetimeActionType, RotationPolicy, Trigger};
use crate::model::{Timestamp, rotation_policy::USES_MAX};

/// As many actions as the widest profile has.
pub const ACTIONS_MAX: usize = 9;

const DAY_S: i64 = 86_400;

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// This service's own.
    Own,
    /// Those of Azure Key Vault.
    AzureVault,
    /// Those of Azure Managed HSM.
    AzureManagedHsm,
}

/// A rule that a policy breaks. The text says what to do; [`Self::path`] says where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    /// More actions than any policy has; no rule but this one was looked at.
    #[error("{given} actions are too many: give at most {ACTIONS_MAX}, one that is Rotate and others that are Notify")]
    TooManyActions {
        /// As many were given.
        given: usize,
    },
    /// More than one Rotate.
    #[error("a policy rotates by one trigger: leave out all but one action that is Rotate")]
    SecondRotate {
        /// The index of the action.
        action: usize,
    },
    /// More Notify than the profile has.
    #[error("at most {most} of the actions can be Notify: leave out the others")]
    TooManyNotices {
        /// The index of the first that is too many.
        action: usize,
        /// As many can be.
        most: usize,
    },
    /// Managed HSM knows no Notify.
    #[error("a managed HSM has no Notify: leave it out, or watch the events of the service")]
    NoNotices {
        /// The index of the action.
        action: usize,
    },
    /// Azure's Notify is triggered before expiry only.
    #[error("Notify has the trigger timeBeforeExpiry only: say how long before the expiry")]
    NoticeAfterCreate {
        /// The index of the action.
        action: usize,
    },
    /// Two Notify would always say the same thing.
    #[error("this is the same moment as that of lifetime_actions[{earlier}]: leave one out or change its trigger")]
    SameMoment {
        /// The index of the action.
        action: usize,
        /// The index of the one it repeats.
        earlier: usize,
    },
    /// The action is about an expiry, and no version would have one.
    #[error("this needs an expiry to reckon with: set expiry_time, or use Rotate with time_after_create")]
    NeedsExpiryTime {
        /// The index of the action.
        action: usize,
    },
    /// The trigger is shorter than the profile allows.
    #[error("{given} is too short: give at least {least_days} days, for example P{least_days}D")]
    TriggerTooShort {
        /// The index of the action.
        action: usize,
        /// What was given.
        given: CalendarDuration,
        /// What it must at least be.
        least_days: i64,
    },
    /// The trigger is not inside the life of every version, or too near its end or beginning.
    #[error(
        "{given} does not fit into expiry_time from every date{}: shorten it, or lengthen expiry_time",
        margin(*.margin_days)
    )]
    TriggerOutsideLife {
        /// The index of the action.
        action: usize,
        /// What was given.
        given: CalendarDuration,
        /// So much must be left; 0 stands for any time at all.
        margin_days: i64,
    },
    /// Azure has whole days only.
    #[error("{given} has a time of day: give whole years, months, weeks and days, for example P90D")]
    TriggerNotWholeDays {
        /// The index of the action.
        action: usize,
        /// What was given.
        given: CalendarDuration,
    },
    /// Azure has whole days only.
    #[error("{given} has a time of day: give whole years, months, weeks and days, for example P2Y")]
    ExpiryTimeNotWholeDays {
        /// What was given.
        given: CalendarDuration,
    },
    /// The life of a version is shorter than the profile allows.
    #[error("{given} is too short: give at least {least_days} days, for example P{least_days}D")]
    ExpiryTimeTooShort {
        /// What was given.
        given: CalendarDuration,
        /// What it must at least be.
        least_days: i64,
    },
    /// A budget of nothing, or of more than can be counted.
    #[error("{given} is no number of uses: give 1 to {USES_MAX}, or leave the budget out")]
    Uses {
        /// What was given.
        given: u64,
    },
    /// The key rotates before its current version expires, which never happens.
    #[error("the current version has no expiry, so a Rotate with time_before_expiry would never come: give it one")]
    NeedsExpiry {
        /// The index of the action.
        action: usize,
    },
}

fn margin(days: i64) -> String {
    if days == 0 { String::new() } else { format!(" with {days} days left") }
}

impl PolicyProblem {
    /// The field that is wrong, for example `lifetime_actions[1].trigger`.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::SecondRotate { action } | Self::TooManyNotices { action, .. } | Self::NoNotices { action } => {
                format!("lifetime_actions[{action}].action")
            }
            Self::NoticeAfterCreate { action }
            | Self::SameMoment { action, .. }
            | Self::NeedsExpiryTime { action }
            | Self::TriggerTooShort { action, .. }
            | Self::TriggerOutsideLife { action, .. }
            | Self::TriggerNotWholeDays { action, .. }
            | Self::NeedsExpiry { action } => format!("lifetime_actions[{action}].trigger"),
            Self::TooManyActions { .. } => "lifetime_actions".to_owned(),
            Self::ExpiryTimeNotWholeDays { .. } | Self::ExpiryTimeTooShort { .. } => "expiry_time".to_owned(),
            Self::Uses { .. } => "use_budget.uses".to_owned(),
        }
    }
}

/// What the profiles differ in.
#[derive(Clone, Copy)]
struct Rules {
    notices_max: usize,
    notices_after_create: bool,
    whole_days: bool,
    expiry_days_min: i64,
    after_create_days_min: i64,
    before_expiry_days_min: i64,
    after_create_margin_days: i64,
    before_expiry_margin_days: i64,
}

impl Profile {
    const fn rules(self) -> Rules {
        let own = Rules {
            notices_max: 8,
            notices_after_create: true,
            whole_days: false,
            expiry_days_min: 0,
            after_create_days_min: 0,
            before_expiry_days_min: 0,
            after_create_margin_days: 0,
            before_expiry_margin_days: 0,
        };
        match self {
            Self::Own => own,
            Self::AzureVault => Rules {
                notices_max: 1,
                notices_after_create: false,
                whole_days: true,
                expiry_days_min: 28,
                after_create_days_min: 7,
                before_expiry_days_min: 7,
                after_create_margin_days: 7,
                before_expiry_margin_days: 7,
            },
            Self::AzureManagedHsm => Rules {
                notices_max: 0,
                whole_days: true,
                expiry_days_min: 28,
                after_create_days_min: 28,
                before_expiry_margin_days: 28,
                ..own
            },
        }
    }
}

impl RotationPolicy {
    /// Whether the policy can be accepted.
    ///
    /// # Errors
    /// Every rule that it breaks, in the order of its fields.
    pub fn check(&self, profile: Profile) -> Result<(), Vec<PolicyProblem>> {
        if self.lifetime_actions.len() > ACTIONS_MAX {
            return Err(vec![PolicyProblem::TooManyActions { given: self.lifetime_actions.len() }]);
        }
        let rules = profile.rules();
        let mut problems = Vec::new();
        self.check_count(rules, &mut problems);
        for (index, action) in self.lifetime_actions.iter().enumerate() {
            self.check_trigger(index, action, rules, &mut problems);
        }
        if let Some(given) = self.expiry_time {
            if rules.whole_days && !given.is_whole_days() {
                problems.push(PolicyProblem::ExpiryTimeNotWholeDays { given });
            }
            if given.shortest_s() < rules.expiry_days_min * DAY_S {
                problems.push(PolicyProblem::ExpiryTimeTooShort { given, least_days: rules.expiry_days_min });
            }
        }
        if let Some(budget) = self.use_budget.filter(|budget| !(1..=USES_MAX).contains(&budget.uses)) {
            problems.push(PolicyProblem::Uses { given: budget.uses });
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Whether the policy can work for a current version with that expiry. Asked when the policy is set, and again
    /// before the version's expiry is taken away.
    ///
    /// # Errors
    /// When its rotation would never come.
    pub fn check_current(&self, expires: Option<Timestamp>) -> Result<(), PolicyProblem> {
        let rotates_before_expiry = |action: &LifetimeAction| {
            action.action == LifetimeActionType::Rotate && matches!(action.trigger, Trigger::TimeBeforeExpiry(_))
        };
        match self.lifetime_actions.iter().position(rotates_before_expiry) {
            Some(action) if expires.is_none() => Err(PolicyProblem::NeedsExpiry { action }),
            _ => Ok(()),
        }
    }

    fn check_count(&self, rules: Rules, problems: &mut Vec<PolicyProblem>) {
        let indices = |wanted| {
            let is_wanted = move |(_, action): &(usize, &LifetimeAction)| action.action == wanted;
            self.lifetime_actions.iter().enumerate().filter(is_wanted).map(|(index, _)| index)
        };
        problems
            .extend(indices(LifetimeActionType::Rotate).nth(1).map(|action| PolicyProblem::SecondRotate { action }));
        let too_many = indices(LifetimeActionType::Notify).nth(rules.notices_max);
        problems.extend(too_many.map(|action| match rules.notices_max {
            0 => PolicyProblem::NoNotices { action },
            most => PolicyProblem::TooManyNotices { action, most },
        }));
    }

    fn check_trigger(&self, index: usize, action: &LifetimeAction, rules: Rules, problems: &mut Vec<PolicyProblem>) {
        let given = *action.trigger.duration();
        let notifies = action.action == LifetimeActionType::Notify;
        let after_create = matches!(action.trigger, Trigger::TimeAfterCreate(_));
        if notifies && after_create && rules.notices_max > 0 && !rules.notices_after_create {
            problems.push(PolicyProblem::NoticeAfterCreate { action: index });
        }
        if notifies && let Some(earlier) = self.same_moment(index, action) {
            problems.push(PolicyProblem::SameMoment { action: index, earlier });
        }
        if rules.whole_days && !given.is_whole_days() {
            problems.push(PolicyProblem::TriggerNotWholeDays { action: index, given });
        }
        let least_days = if after_create { rules.after_create_days_min } else { rules.before_expiry_days_min };
        if given.shortest_s() < least_days * DAY_S {
            problems.push(PolicyProblem::TriggerTooShort { action: index, given, least_days });
        }
        let Some(expiry_time) = self.expiry_time else {
            if notifies || !after_create {
                problems.push(PolicyProblem::NeedsExpiryTime { action: index });
            }
            return;
        };
        let fits = if after_create {
            given.fits_within(&expiry_time, at_least_a_second(rules.after_create_margin_days))
        } else {
            // Only the bounds count here: a walk back is not the inverse of a walk forth.
            let margin_s = at_least_a_second(rules.before_expiry_margin_days);
            given.longest_s() + margin_s <= expiry_time.shortest_s()
        };
        if !fits {
            let margin_days =
                if after_create { rules.after_create_margin_days } else { rules.before_expiry_margin_days };
            problems.push(PolicyProblem::TriggerOutsideLife { action: index, given, margin_days });
        }
    }

    /// The first action that always says the same as this later one.
    fn same_moment(&self, index: usize, action: &LifetimeAction) -> Option<usize> {
        self.lifetime_actions[..index].iter().position(|earlier| {
            let same_kind = match (earlier.trigger, action.trigger) {
                (Trigger::TimeAfterCreate(a), Trigger::TimeAfterCreate(b))
                | (Trigger::TimeBeforeExpiry(a), Trigger::TimeBeforeExpiry(b)) => a.is_as_long_as(&b),
                _ => false,
            };
            same_kind && earlier.action == action.action
        })
    }
}

/// "Inside" means that at least a second is left.
fn at_least_a_second(days: i64) -> i64 {
    (days * DAY_S).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::{
        BudgetAction, UseBudget,
        fixtures::{any_policy, notify_after, notify_before, policy, rotate_after, rotate_before, time},
    };

    type Asked<'a> = (&'a [LifetimeAction], Option<&'a str>);

    /// What is wrong as `path: text`.
    fn problems(profile: Profile, (actions, expiry_time): Asked<'_>) -> Vec<String> {
        let problems = policy(actions, expiry_time).check(profile).err().unwrap_or_default();
        problems.iter().map(|problem| format!("{}: {problem}", problem.path())).collect()
    }

    fn accepted(profile: Profile, asked: &[Asked<'_>]) {
        for asked in asked {
            assert_eq!(problems(profile, *asked), Vec::<String>::new(), "{asked:?}");
        }
    }

    fn refused(profile: Profile, cases: &[(Asked<'_>, &str)]) {
        for (asked, problem) in cases {
            assert_eq!(problems(profile, *asked), [*problem], "{asked:?}");
        }
    }

    use Profile::{AzureManagedHsm, AzureVault, Own};

    #[test]
    fn azures_own_example_is_accepted_by_vaults_and_here() {
        let example: Asked<'_> = (&[rotate_after("P18M"), notify_before("P30D")], Some("P2Y"));
        accepted(AzureVault, &[example]);
        accepted(Own, &[example]);
    }

    #[test]
    fn a_policy_that_says_nothing_is_accepted_everywhere() {
        for profile in [Own, AzureVault, AzureManagedHsm] {
            accepted(profile, &[(&[], None), (&[], Some("P28D"))]);
        }
    }

    #[test]
    fn own_durations_go_from_a_minute_to_a_century() {
        accepted(
            Own,
            &[
                (&[rotate_after("PT1M")], None),
                (&[rotate_after("P100Y")], None),
                (&[rotate_after("PT1M"), notify_before("PT1M")], Some("PT2M")),
                (&[rotate_before("PT1M")], Some("PT1M1S")),
                (&[rotate_after("P99Y")], Some("P100Y")),
            ],
        );
    }

    #[test]
    fn everywhere_there_is_one_rotate() {
        for profile in [Own, AzureVault, AzureManagedHsm] {
            refused(
                profile,
                &[(
                    (&[rotate_after("P28D"), rotate_before("P30D")], Some("P90D")),
                    "lifetime_actions[1].action: a policy rotates by one trigger: leave out all but one action that \
                     is Rotate",
                )],
            );
        }
    }

    #[test]
    fn own_policies_notify_up_to_eight_times_at_different_moments() {
        let eight: Vec<_> = (1..=8).map(|n| notify_before(&format!("P{n}D"))).collect();
        accepted(Own, &[(&eight, Some("P1Y")), (&[notify_after("P1D"), notify_before("P1D")], Some("P1Y"))]);
        let nine: Vec<_> = (1..=9).map(|n| notify_before(&format!("P{n}D"))).collect();
        refused(
            Own,
            &[
                (
                    (&nine, Some("P1Y")),
                    "lifetime_actions[8].action: at most 8 of the actions can be Notify: leave out the others",
                ),
                (
                    (&[notify_before("P1W"), notify_before("P7D")], Some("P1Y")),
                    "lifetime_actions[1].trigger: this is the same moment as that of lifetime_actions[0]: leave one \
                     out or change its trigger",
                ),
            ],
        );
    }

    #[test]
    fn a_policy_with_more_actions_than_any_has_is_not_looked_at_further() {
        let ten: Vec<_> = (1..=10).map(|_| rotate_before("P1D")).collect();
        refused(
            Own,
            &[(
                (&ten, None),
                "lifetime_actions: 10 actions are too many: give at most 9, one that is Rotate and others that are \
                 Notify",
            )],
        );
    }

    #[test]
    fn everywhere_what_is_about_an_expiry_needs_an_expiry_time() {
        let text = "lifetime_actions[0].trigger: this needs an expiry to reckon with: set expiry_time, or use Rotate \
                    with time_after_create";
        for profile in [Own, AzureVault, AzureManagedHsm] {
            refused(profile, &[((&[rotate_before("P30D")], None), text)]);
        }
        for profile in [Own, AzureVault] {
            refused(profile, &[((&[notify_before("P30D")], None), text)]);
        }
        refused(Own, &[((&[notify_after("P30D")], None), text)]);
    }

    #[test]
    fn own_triggers_are_inside_the_life_of_a_version_from_every_date() {
        let text = |given: &str| {
            format!(
                "lifetime_actions[0].trigger: {given} does not fit into expiry_time from every date: \
                 shorten it, or lengthen expiry_time"
            )
        };
        for (action, given, expiry) in [
            (rotate_after("P1Y"), "P1Y", "P1Y"),
            (rotate_after("P1Y"), "P1Y", "P12M"),
            (rotate_after("P30D"), "P30D", "P1M"),
            (rotate_after("P28D"), "P28D", "P1M"),
            (rotate_before("P1M"), "P1M", "P1M1D"),
            (rotate_before("P365D"), "P365D", "P1Y"),
            (notify_before("P1Y"), "P1Y", "P1Y"),
            (notify_after("P1D"), "P1D", "P1D"),
        ] {
            refused(Own, &[((&[action], Some(expiry)), &text(given))]);
        }
        accepted(
            Own,
            &[
                (&[rotate_after("P27D")], Some("P1M")),
                (&[rotate_after("P1Y")], Some("P1YT1S")),
                (&[rotate_before("P1M")], Some("P1M4D")),
                (&[rotate_before("P364D")], Some("P1Y")),
            ],
        );
    }

    #[test]
    fn a_vault_has_one_notify() {
        refused(
            AzureVault,
            &[(
                (&[notify_before("P30D"), notify_before("P20D")], Some("P1Y")),
                "lifetime_actions[1].action: at most 1 of the actions can be Notify: leave out the others",
            )],
        );
    }

    #[test]
    fn a_vault_notifies_before_expiry_only() {
        refused(
            AzureVault,
            &[(
                (&[notify_after("P30D")], Some("P1Y")),
                "lifetime_actions[0].trigger: Notify has the trigger timeBeforeExpiry only: say how long before the \
                 expiry",
            )],
        );
    }

    #[test]
    fn a_vault_rotates_a_week_after_creation_at_the_earliest() {
        accepted(AzureVault, &[(&[rotate_after("P7D")], None), (&[rotate_after("P1W")], Some("P28D"))]);
        refused(
            AzureVault,
            &[(
                (&[rotate_after("P6D")], None),
                "lifetime_actions[0].trigger: P6D is too short: give at least 7 days, for example P7D",
            )],
        );
    }

    #[test]
    fn a_vault_acts_a_week_before_expiry_at_the_latest() {
        accepted(AzureVault, &[(&[rotate_before("P7D")], Some("P28D")), (&[notify_before("P7D")], Some("P28D"))]);
        let text = "lifetime_actions[0].trigger: P6D is too short: give at least 7 days, for example P7D";
        refused(
            AzureVault,
            &[((&[rotate_before("P6D")], Some("P28D")), text), ((&[notify_before("P6D")], Some("P28D")), text)],
        );
    }

    #[test]
    fn a_vaults_trigger_after_creation_leaves_a_week_before_expiry() {
        accepted(AzureVault, &[(&[rotate_after("P21D")], Some("P28D")), (&[rotate_after("P1Y")], Some("P1Y1W"))]);
        refused(
            AzureVault,
            &[(
                (&[rotate_after("P22D")], Some("P28D")),
                "lifetime_actions[0].trigger: P22D does not fit into expiry_time from every date with 7 days \
                 left: shorten it, or lengthen expiry_time",
            )],
        );
    }

    #[test]
    fn a_vaults_trigger_before_expiry_leaves_a_week_after_creation() {
        accepted(AzureVault, &[(&[rotate_before("P21D")], Some("P28D")), (&[notify_before("P21D")], Some("P1M"))]);
        let text = "lifetime_actions[0].trigger: P22D does not fit into expiry_time from every date with 7 \
                    days left: shorten it, or lengthen expiry_time";
        refused(
            AzureVault,
            &[((&[rotate_before("P22D")], Some("P28D")), text), ((&[notify_before("P22D")], Some("P28D")), text)],
        );
    }

    #[test]
    fn azures_versions_live_four_weeks_at_least() {
        for profile in [AzureVault, AzureManagedHsm] {
            accepted(profile, &[(&[], Some("P28D")), (&[], Some("P1M")), (&[], Some("P100Y"))]);
            refused(
                profile,
                &[((&[], Some("P27D")), "expiry_time: P27D is too short: give at least 28 days, for example P28D")],
            );
        }
    }

    #[test]
    fn azures_durations_are_whole_days() {
        for profile in [AzureVault, AzureManagedHsm] {
            refused(
                profile,
                &[
                    (
                        (&[rotate_after("P30DT1H")], None),
                        "lifetime_actions[0].trigger: P30DT1H has a time of day: give whole years, months, weeks and \
                         days, for example P90D",
                    ),
                    (
                        (&[], Some("PT8760H")),
                        "expiry_time: PT8760H has a time of day: give whole years, months, weeks and days, for \
                         example P2Y",
                    ),
                ],
            );
        }
    }

    #[test]
    fn a_managed_hsm_has_no_notify() {
        refused(
            AzureManagedHsm,
            &[(
                (&[notify_before("P30D")], Some("P1Y")),
                "lifetime_actions[0].action: a managed HSM has no Notify: leave it out, or watch the events of the \
                 service",
            )],
        );
    }

    #[test]
    fn a_managed_hsm_rotates_four_weeks_after_creation_at_the_earliest() {
        accepted(AzureManagedHsm, &[(&[rotate_after("P28D")], None), (&[rotate_after("P1M")], Some("P2M"))]);
        refused(
            AzureManagedHsm,
            &[(
                (&[rotate_after("P27D")], None),
                "lifetime_actions[0].trigger: P27D is too short: give at least 28 days, for example P28D",
            )],
        );
    }

    #[test]
    fn a_managed_hsms_trigger_before_expiry_leaves_four_weeks_after_creation() {
        accepted(AzureManagedHsm, &[(&[rotate_before("P62D")], Some("P90D")), (&[rotate_before("P1D")], Some("P29D"))]);
        refused(
            AzureManagedHsm,
            &[(
                (&[rotate_before("P63D")], Some("P90D")),
                "lifetime_actions[0].trigger: P63D does not fit into expiry_time from every date with 28 \
                 days left: shorten it, or lengthen expiry_time",
            )],
        );
    }

    #[test]
    fn everywhere_a_rotation_before_expiry_needs_an_expiry_on_the_current_version() {
        let before = policy(&[notify_before("P20D"), rotate_before("P30D")], Some("P1Y"));
        let problem = before.check_current(None).expect_err("it has none");
        assert_eq!(
            (problem.path().as_str(), &problem),
            ("lifetime_actions[1].trigger", &PolicyProblem::NeedsExpiry { action: 1 })
        );
        assert_eq!(before.check_current(Some(time("2027-01-01T00:00:00Z"))), Ok(()));
        assert_eq!(policy(&[rotate_after("P30D"), notify_before("P1D")], Some("P1Y")).check_current(None), Ok(()));
    }

    #[test]
    fn a_budget_is_for_at_least_one_use_and_can_be_counted() {
        for (uses, right) in [(0, false), (1, true), (USES_MAX, true), (USES_MAX + 1, false), (u64::MAX, false)] {
            let use_budget = Some(UseBudget { uses, action: BudgetAction::Rotate });
            let found = RotationPolicy { use_budget, ..RotationPolicy::default() }.check(Own);
            assert_eq!(found, if right { Ok(()) } else { Err(vec![PolicyProblem::Uses { given: uses }]) });
        }
    }

    #[test]
    fn every_fault_is_named_at_once_in_the_order_of_the_fields() {
        let all = RotationPolicy {
            use_budget: Some(UseBudget { uses: 0, action: BudgetAction::Rotate }),
            ..policy(&[rotate_after("P1D"), notify_after("P8D"), rotate_before("P6D")], Some("P14DT1H"))
        };
        let paths: Vec<_> = all.check(AzureVault).expect_err("much is wrong").iter().map(PolicyProblem::path).collect();
        assert_eq!(
            paths,
            [
                "lifetime_actions[2].action",
                "lifetime_actions[0].trigger",
                "lifetime_actions[1].trigger",
                "lifetime_actions[1].trigger",
                "lifetime_actions[2].trigger",
                "expiry_time",
                "expiry_time",
                "use_budget.uses"
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn an_accepted_trigger_is_inside_the_life_of_every_version(
            policy in any_policy(), created in 0..200_000_000_000_i64,
        ) {
            let created = Timestamp(created);
            for profile in [Own, AzureVault, AzureManagedHsm] {
                let Some(life) = policy.expiry_time.filter(|_| policy.check(profile).is_ok()) else { continue };
                let expires = life.after(created);
                for action in &policy.lifetime_actions {
                    let at = action.trigger.instant(created, Some(expires)).expect("there is an expiry");
                    proptest::prop_assert!(created < at && at < expires, "{policy:?}");
                }
            }
        }
    }
}
