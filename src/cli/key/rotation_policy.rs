//! `key rotation-policy …`: what a key does by itself.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde::Serialize;
use strongroom_proto::v1::{
    BudgetAction, LifetimeAction, LifetimeActionType, RotationPolicy, UpdateRotationPolicyRequest, UseBudget,
    lifetime_action::Trigger,
};

use super::{NameArgs, changing, using};
use crate::{
    cli::{
        change::{ChangeArgs, EtagArgs},
        connection::ConnectionArgs,
        failure::Failure,
        output::{self, FormatArgs, Rows},
        view::{EnumName, enum_name, optional_time},
    },
    model::CalendarDuration,
};

pub(in crate::cli) const AFTER_HELP: &str = "\
Durations are ISO 8601, by the calendar, from PT1M to P100Y: P90D, P1Y6M, PT12H. A key rotates within an hour after its \
time (a twentieth of the time, if that is less). Versions before the newest decrypt, unwrap and verify what they made.";

/// `key rotation-policy …`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// Show what a key does by itself
    Show(ShowArgs),
    /// Say what a key does by itself, in place of what was said before
    #[command(after_help = AFTER_HELP)]
    Set(Box<SetArgs>),
    /// Let nothing happen to a key by itself
    Clear(ClearArgs),
}

/// What `show` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `set` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("when").args(["rotate_after", "rotate_before_expiry"]))]
pub(in crate::cli) struct SetArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Rotate so long after the newest version was made
    #[arg(long, value_name = "DURATION")]
    rotate_after: Option<CalendarDuration>,
    /// Rotate so long before the newest version expires
    #[arg(long, value_name = "DURATION")]
    rotate_before_expiry: Option<CalendarDuration>,
    /// Let versions that rotations make expire after so long
    #[arg(long, value_name = "DURATION")]
    expiry: Option<CalendarDuration>,
    /// Tell so long before the newest version expires: an event, for webhooks and those who watch; once for each
    #[arg(long = "notify-before-expiry", value_name = "DURATION")]
    notify_before_expiry: Vec<CalendarDuration>,
    /// What the next version is, if not what the newest is, such as RSA-4096 or P-384
    #[arg(long, value_name = "KIND")]
    next_key: Option<String>,
    /// How often a version may encrypt, sign, wrap or make a data key
    #[arg(long, value_name = "N", requires = "when_spent", value_parser = clap::value_parser!(i64).range(1..=1 << 53))]
    uses: Option<i64>,
    /// What happens when it was used as often: the key rotates, or the version refuses
    #[arg(long, value_name = "ACTION", requires = "uses", value_enum)]
    when_spent: Option<WhenSpent>,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What happens when a version was used as often as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhenSpent {
    /// The key rotates; until it has, the version goes on
    Rotate,
    /// The version encrypts, signs and wraps no more
    Refuse,
}

/// What `clear` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ClearArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: &PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Show(args) => show(connection, args).await,
        PolicyCommand::Set(args) => {
            let policy = args.policy();
            if policy == RotationPolicy::default() {
                // The server takes it for the wish to have none.
                return Err(Failure::new("it was not said what the key is to do by itself")
                    .hint("pass --rotate-after, --rotate-before-expiry, --notify-before-expiry, --expiry, --next-key or --uses")
                    .hint("to let nothing happen to it by itself: strongroom key rotation-policy clear NAME")
                    .into());
            }
            set(connection, &args.name, policy, &args.etag, &args.change, &args.format).await
        }
        PolicyCommand::Clear(args) => {
            let none = RotationPolicy::default();
            set(connection, &args.name, none, &args.etag, &args.change, &args.format).await
        }
    }
}

impl SetArgs {
    fn policy(&self) -> RotationPolicy {
        let action =
            |trigger, action: LifetimeActionType| LifetimeAction { trigger: Some(trigger), action: action.into() };
        let after = self.rotate_after.iter().map(|after| Trigger::TimeAfterCreate(after.to_string()));
        let before = self.rotate_before_expiry.iter().map(|before| Trigger::TimeBeforeExpiry(before.to_string()));
        let rotate = after.chain(before).map(|trigger| action(trigger, LifetimeActionType::Rotate));
        let notices = self.notify_before_expiry.iter().map(|before| Trigger::TimeBeforeExpiry(before.to_string()));
        let notify = notices.map(|trigger| action(trigger, LifetimeActionType::Notify));
        RotationPolicy {
            lifetime_actions: rotate.chain(notify).collect(),
            expiry_time: self.expiry.map(|expiry| expiry.to_string()).unwrap_or_default(),
            next_key: self.next_key.clone().unwrap_or_default(),
            use_budget: self.uses.zip(self.when_spent).map(|(uses, action)| UseBudget {
                uses,
                action: match action {
                    WhenSpent::Rotate => BudgetAction::Rotate,
                    WhenSpent::Refuse => BudgetAction::Refuse,
                }
                .into(),
            }),
            ..RotationPolicy::default()
        }
    }
}

async fn show(connection: &ConnectionArgs, args: &ShowArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let client = connection.connect().await?;
    let action = using("show the rotation policy of", &key);
    let found = client.call(&action, client.api.get_rotation_policy(&format!("{key}/rotationPolicy"))).await?;
    output::show(args.format.format, &RotationPolicyView::from(&found))
}

async fn set(
    connection: &ConnectionArgs,
    name: &NameArgs,
    policy: RotationPolicy,
    etag: &EtagArgs,
    change: &ChangeArgs,
    format: &FormatArgs,
) -> anyhow::Result<()> {
    let key = name.key(connection)?;
    let request_id = change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("set the rotation policy of", &key, &request_id);
    let policy = RotationPolicy { name: format!("{key}/rotationPolicy"), etag: etag.value(), ..policy };
    let request = UpdateRotationPolicyRequest { rotation_policy: Some(policy), request_id, validate_only: false };
    let made = client.call(&action, client.api.update_rotation_policy(request)).await?;
    output::show(format.format, &RotationPolicyView::from(&made))
}

/// `strongroom.v1.RotationPolicy`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RotationPolicyView {
    name: String,
    lifetime_actions: Vec<LifetimeActionView>,
    expiry_time: String,
    next_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_time: Option<String>,
    etag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    use_budget: Option<UseBudgetView>,
}

/// `strongroom.v1.UseBudget`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UseBudgetView {
    uses: String,
    action: EnumName,
}

/// `strongroom.v1.LifetimeAction`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LifetimeActionView {
    #[serde(skip_serializing_if = "Option::is_none")]
    time_after_create: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_before_expiry: Option<String>,
    action: EnumName,
}

impl From<&RotationPolicy> for RotationPolicyView {
    fn from(policy: &RotationPolicy) -> Self {
        Self {
            name: policy.name.clone(),
            lifetime_actions: policy.lifetime_actions.iter().map(LifetimeActionView::from).collect(),
            expiry_time: policy.expiry_time.clone(),
            next_key: policy.next_key.clone(),
            create_time: optional_time(policy.create_time.as_ref()),
            update_time: optional_time(policy.update_time.as_ref()),
            etag: policy.etag.clone(),
            use_budget: policy.use_budget.as_ref().map(|budget| UseBudgetView {
                uses: budget.uses.to_string(),
                action: enum_name!(BudgetAction, budget.action),
            }),
        }
    }
}

impl From<&LifetimeAction> for LifetimeActionView {
    fn from(action: &LifetimeAction) -> Self {
        let (time_after_create, time_before_expiry) = match &action.trigger {
            Some(Trigger::TimeAfterCreate(after)) => (Some(after.clone()), None),
            Some(Trigger::TimeBeforeExpiry(before)) => (None, Some(before.clone())),
            None => (None, None),
        };
        Self { time_after_create, time_before_expiry, action: enum_name!(LifetimeActionType, action.action) }
    }
}

impl LifetimeActionView {
    fn text(&self) -> String {
        let what = match &self.action {
            EnumName::Known(name) => name.to_lowercase(),
            EnumName::Unknown(number) => number.to_string(),
        };
        match (&self.time_after_create, &self.time_before_expiry) {
            (Some(after), _) => format!("{what} {after} after creation"),
            (None, Some(before)) => format!("{what} {before} before expiry"),
            (None, None) => what,
        }
    }
}

impl Rows for RotationPolicyView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |title: &str, value: &str| vec![title.to_owned(), value.to_owned()];
        let mut rows = vec![row("name", &self.name)];
        match self.lifetime_actions.as_slice() {
            [] if self.expiry_time.is_empty() => rows.push(row("actions", "none: nothing happens to it by itself")),
            actions => rows.extend(actions.iter().map(|action| row("action", &action.text()))),
        }
        let optional = [("new versions live", &self.expiry_time), ("next key", &self.next_key)];
        rows.extend(optional.iter().filter(|(_, value)| !value.is_empty()).map(|(title, value)| row(title, value)));
        rows.extend(self.update_time.iter().map(|time| row("updated", time)));
        rows.push(row("etag", &self.etag));
        rows
    }
}
