//! What an owner wants of a key's life: when it rotates, who hears of it before, how long a version is to live.
//!
//! A policy says nothing of the version that is there when it is set, but for its triggers: `expiry_time` is for the
//! versions that a rotation makes. What may stand together is decided in `rotation::check`.

use super::{CalendarDuration, KeySpec, Timestamp};

/// The tag of the canonical form: another form takes another one.
const TAG: &str = "rotation-policy.v1";

/// What happens to a key by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationPolicy {
    /// What is done when, in the order it was given.
    pub lifetime_actions: Vec<LifetimeAction>,
    /// How long a version that a rotation makes is to live; without it that version never expires.
    pub expiry_time: Option<CalendarDuration>,
    /// After how many uses something happens.
    pub use_budget: Option<UseBudget>,
    /// What the next version is, if not what the current one is. Older versions stay as they are.
    pub next_spec: Option<KeySpec>,
}

/// Something that is done at a moment of a version's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifetimeAction {
    /// When.
    pub trigger: Trigger,
    /// What.
    pub action: LifetimeActionType,
}

/// A moment of a version's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// So long after the version was made.
    TimeAfterCreate(CalendarDuration),
    /// So long before the version expires; never, if it does not.
    TimeBeforeExpiry(CalendarDuration),
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeActionType {
    /// A new version is made and becomes the current one.
    Rotate,
    /// An event says that the version is near its expiry.
    Notify,
}

/// How often a version may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseBudget {
    /// So often: 1 to [`USES_MAX`]. What an algorithm allows at most (AES-GCM: 2^32) holds all the same.
    pub uses: u64,
    /// What happens then.
    pub action: BudgetAction,
}

/// The largest budget: 2^53, up to which every reader of JSON has whole numbers.
pub const USES_MAX: u64 = 1 << 53;

/// What happens when a version was used as often as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetAction {
    /// The key rotates; until it has, the version goes on.
    Rotate,
    /// The version encrypts, signs and wraps no more.
    Refuse,
}

impl Trigger {
    /// Its duration.
    #[must_use]
    pub const fn duration(&self) -> &CalendarDuration {
        match self {
            Self::TimeAfterCreate(duration) | Self::TimeBeforeExpiry(duration) => duration,
        }
    }

    /// When that is for a version.
    #[must_use]
    pub fn instant(&self, created: Timestamp, expires: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::TimeAfterCreate(duration) => Some(duration.after(created)),
            Self::TimeBeforeExpiry(duration) => expires.map(|expires| duration.before(expires)),
        }
    }

    /// The name of its kind, as stored.
    const fn name(&self) -> &'static str {
        match self {
            Self::TimeAfterCreate(_) => "timeAfterCreate",
            Self::TimeBeforeExpiry(_) => "timeBeforeExpiry",
        }
    }
}

impl LifetimeActionType {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rotate => "Rotate",
            Self::Notify => "Notify",
        }
    }

    /// The one of that name, large or small letters (as in Azure Key Vault).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Rotate, Self::Notify].into_iter().find(|action| action.name().eq_ignore_ascii_case(name))
    }
}

impl BudgetAction {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rotate => "Rotate",
            Self::Refuse => "Refuse",
        }
    }

    /// The one of that name, large or small letters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Rotate, Self::Refuse].into_iter().find(|action| action.name().eq_ignore_ascii_case(name))
    }
}

impl UseBudget {
    /// Whether a version that was used so often has none left.
    #[must_use]
    pub const fn is_spent(&self, uses: u64) -> bool {
        uses >= self.uses
    }
}

impl RotationPolicy {
    /// When the key is rotated by time, if it is.
    #[must_use]
    pub fn rotation(&self) -> Option<&Trigger> {
        self.triggers(LifetimeActionType::Rotate).next()
    }

    /// The triggers of one kind of action.
    pub(crate) fn triggers(&self, wanted: LifetimeActionType) -> impl Iterator<Item = &Trigger> {
        self.lifetime_actions.iter().filter(move |action| action.action == wanted).map(|action| &action.trigger)
    }

    /// What is stored and sealed: the same text for the same policy, for ever.
    ///
    /// ```text
    /// rotation-policy.v1;Rotate=timeAfterCreate:P18M;Notify=timeBeforeExpiry:P30D;expiryTime=P2Y;uses=1000:Rotate;next=RSA-4096
    /// ```
    ///
    /// Actions come in the order they were given, what is not set is left out.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = TAG.to_owned();
        for LifetimeAction { trigger, action } in &self.lifetime_actions {
            text += &format!(";{}={}:{}", action.name(), trigger.name(), trigger.duration());
        }
        if let Some(duration) = self.expiry_time {
            text += &format!(";expiryTime={duration}");
        }
        if let Some(UseBudget { uses, action }) = self.use_budget {
            text += &format!(";uses={uses}:{}", action.name());
        }
        if let Some(spec) = self.next_spec {
            text += &format!(";next={}", spec.name());
        }
        text
    }

    /// Reads what [`Self::canonical`] wrote, and nothing else.
    #[must_use]
    pub fn from_canonical(text: &str) -> Option<Self> {
        let mut policy = Self::default();
        let mut fields = text.split(';');
        fields.next().filter(|tag| *tag == TAG)?;
        for field in fields {
            let (name, value) = field.split_once('=')?;
            match name {
                "expiryTime" => policy.expiry_time = Some(value.parse().ok()?),
                "next" => policy.next_spec = Some(KeySpec::from_name(value)?),
                "uses" => policy.use_budget = Some(read_budget(value)?),
                action => policy.lifetime_actions.push(read_action(action, value)?),
            }
        }
        // Another order, a repeated field or another spelling would be a second text for one policy.
        (policy.canonical() == text).then_some(policy)
    }
}

fn read_action(action: &str, value: &str) -> Option<LifetimeAction> {
    let (kind, duration) = value.split_once(':')?;
    let duration = duration.parse().ok()?;
    let trigger = [Trigger::TimeAfterCreate(duration), Trigger::TimeBeforeExpiry(duration)]
        .into_iter()
        .find(|trigger| trigger.name() == kind)?;
    Some(LifetimeAction { trigger, action: LifetimeActionType::from_name(action)? })
}

fn read_budget(value: &str) -> Option<UseBudget> {
    let (uses, action) = value.split_once(':')?;
    Some(UseBudget { uses: uses.parse().ok()?, action: BudgetAction::from_name(action)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rotation::fixtures::{any_policy, duration, notify_before, policy, rotate_after, time};

    fn full() -> RotationPolicy {
        RotationPolicy {
            use_budget: Some(UseBudget { uses: 1_000, action: BudgetAction::Rotate }),
            next_spec: KeySpec::from_name("RSA-4096"),
            ..policy(&[rotate_after("P18M"), notify_before("P30D")], Some("P2Y"))
        }
    }

    #[test]
    fn the_canonical_form_stays_as_it_is_for_ever() {
        assert_eq!(RotationPolicy::default().canonical(), "rotation-policy.v1");
        assert_eq!(
            full().canonical(),
            "rotation-policy.v1;Rotate=timeAfterCreate:P18M;Notify=timeBeforeExpiry:P30D;expiryTime=P2Y;\
             uses=1000:Rotate;next=RSA-4096"
        );
    }

    #[test]
    fn everything_that_decides_is_in_the_canonical_form() {
        let rules = [
            full(),
            RotationPolicy::default(),
            RotationPolicy { expiry_time: None, ..full() },
            RotationPolicy { expiry_time: Some(duration("P24M")), ..full() },
            RotationPolicy { use_budget: None, ..full() },
            RotationPolicy { use_budget: Some(UseBudget { uses: 1_000, action: BudgetAction::Refuse }), ..full() },
            RotationPolicy { use_budget: Some(UseBudget { uses: 1_001, action: BudgetAction::Rotate }), ..full() },
            RotationPolicy { next_spec: None, ..full() },
            RotationPolicy { next_spec: KeySpec::from_name("AES-256"), ..full() },
            RotationPolicy { lifetime_actions: vec![rotate_after("P18M")], ..full() },
            RotationPolicy { lifetime_actions: vec![notify_before("P30D"), rotate_after("P18M")], ..full() },
        ];
        let forms: std::collections::HashSet<String> = rules.iter().map(RotationPolicy::canonical).collect();
        assert_eq!(forms.len(), rules.len());
    }

    #[test]
    fn what_is_not_canonical_is_not_read() {
        for text in [
            "",
            "rotation-policy.v2",
            "rotation-policy.v1;",
            "rotation-policy.v1;expiryTime=P1Y0M",
            "rotation-policy.v1;expiryTime=P1Y;expiryTime=P1Y",
            "rotation-policy.v1;next=RSA-1024",
            "rotation-policy.v1;rotate=timeAfterCreate:P18M",
            "rotation-policy.v1;Rotate=timeafterCreate:P18M",
            "rotation-policy.v1;uses=+1:Rotate",
            "rotation-policy.v1;expiryTime=P1Y;Rotate=timeAfterCreate:P18M",
        ] {
            assert_eq!(RotationPolicy::from_canonical(text), None, "{text}");
        }
    }

    #[test]
    fn actions_are_known_by_their_names_in_large_and_small_letters() {
        for name in ["Rotate", "rotate", "ROTATE"] {
            assert_eq!(LifetimeActionType::from_name(name), Some(LifetimeActionType::Rotate));
            assert_eq!(BudgetAction::from_name(name), Some(BudgetAction::Rotate));
        }
        assert_eq!(LifetimeActionType::from_name("notify"), Some(LifetimeActionType::Notify));
        assert_eq!(LifetimeActionType::from_name("refuse"), None);
    }

    #[test]
    fn a_trigger_before_expiry_never_comes_without_an_expiry() {
        let trigger = Trigger::TimeBeforeExpiry(duration("P30D"));
        let created = time("2026-01-01T00:00:00Z");
        assert_eq!(trigger.instant(created, None), None);
        assert_eq!(trigger.instant(created, Some(time("2026-03-03T00:00:00Z"))), Some(time("2026-02-01T00:00:00Z")));
        assert_eq!(
            Trigger::TimeAfterCreate(duration("P1M")).instant(created, None),
            Some(time("2026-02-01T00:00:00Z"))
        );
    }

    #[test]
    fn a_budget_is_spent_by_its_last_use() {
        let budget = UseBudget { uses: 3, action: BudgetAction::Refuse };
        assert_eq!([0, 2, 3, 4].map(|uses| budget.is_spent(uses)), [false, false, true, true]);
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_read_back(policy in any_policy()) {
            prop_assert_eq!(RotationPolicy::from_canonical(&policy.canonical()), Some(policy));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(rotation-policy.v1)?[;=:A-Za-z0-9-]{0,60}") {
            let _ = RotationPolicy::from_canonical(&text);
        }
    }
}
