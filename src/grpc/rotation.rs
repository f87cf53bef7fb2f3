//! `strongroom.v1.Rotations`.

use std::sync::Arc;

use strongroom_proto::v1::{
    self, GetRotationPolicyRequest, ListRotationsRequest, ListRotationsResponse, RotationPolicy,
    UpdateRotationPolicyRequest, lifetime_action::Trigger as Said, rotations_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    model::{
        self, BudgetAction, CalendarDuration, KeyObjectRow, KeySpec, LifetimeAction, LifetimeActionType, Row as _,
        Trigger, UseBudget,
    },
    rotation::{ACTIONS_MAX, Due},
    service::{
        Caller, KeyRef, Problem, Service, ServiceError,
        rotation::{PolicyView, RotationView},
    },
};

serve!(rotations_server::Rotations {
    get_rotation_policy(GetRotationPolicyRequest) -> RotationPolicy;
    update_rotation_policy(UpdateRotationPolicyRequest) -> RotationPolicy;
    list_rotations(ListRotationsRequest) -> ListRotationsResponse;
});

const SUFFIX: &str = "/rotationPolicy";

fn key_of(field: &'static str, name: &str) -> Result<KeyRef, Problem> {
    let why = || Problem::Invalid { field, why: "has the form vaults/{vault}/keys/{key}/rotationPolicy".to_owned() };
    names::key(field, name.strip_suffix(SUFFIX).ok_or_else(why)?)
}

async fn get_rotation_policy(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetRotationPolicyRequest,
) -> Result<RotationPolicy, ServiceError> {
    let name = key_of("name", &message.name)?;
    Ok(shown(&service.get_rotation_policy(caller, &name).await?))
}

async fn update_rotation_policy(
    service: &Arc<Service>,
    caller: &Caller,
    message: UpdateRotationPolicyRequest,
) -> Result<RotationPolicy, ServiceError> {
    let etag = message.rotation_policy.as_ref().map(|policy| policy.etag.clone()).unwrap_or_default();
    let options =
        decode::options("UpdateRotationPolicy", &message, None, &message.request_id, &etag, message.validate_only)?;
    let said = decode::required("rotation_policy", message.rotation_policy)?;
    let name = key_of("rotation_policy.name", &said.name)?;
    let policy = policy(&said)?;
    Ok(shown(&service.update_rotation_policy(caller, &name, policy, options).await?))
}

async fn list_rotations(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListRotationsRequest,
) -> Result<ListRotationsResponse, ServiceError> {
    let vault = names::vault("parent", &message.parent)?;
    let until = decode::time("until_time", message.until_time)?;
    let list = List { kind: "rotations", parent: vault.as_str(), deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let (found, last) = service.list_rotations(caller, &vault, until, page).await?;
    let next_page_token = list.next(last.is_some(), last.map(|name| name.to_string()));
    Ok(ListRotationsResponse { rotations: found.iter().map(rotation).collect(), next_page_token })
}

fn policy(said: &RotationPolicy) -> Result<model::RotationPolicy, Problem> {
    let next_spec = match said.next_key.as_str() {
        "" => None,
        name => Some(KeySpec::from_name(name).ok_or_else(|| Problem::Invalid {
            field: "rotation_policy.next_key",
            why: format!("there is no kind {name:?}; RSA-3072, P-384 and AES-256 are some"),
        })?),
    };
    let expiry_time = match said.expiry_time.as_str() {
        "" => None,
        text => Some(duration("rotation_policy.expiry_time", text)?),
    };
    if said.lifetime_actions.len() > ACTIONS_MAX {
        let why = format!("has more than {ACTIONS_MAX} actions");
        return Err(Problem::Invalid { field: "rotation_policy.lifetime_actions", why });
    }
    let lifetime_actions = said.lifetime_actions.iter().map(action).collect::<Result<_, _>>()?;
    let use_budget = said.use_budget.as_ref().map(budget).transpose()?;
    Ok(model::RotationPolicy { lifetime_actions, expiry_time, use_budget, next_spec })
}

fn budget(said: &v1::UseBudget) -> Result<UseBudget, Problem> {
    let action = match v1::BudgetAction::try_from(said.action) {
        Ok(v1::BudgetAction::Rotate) => BudgetAction::Rotate,
        Ok(v1::BudgetAction::Refuse) => BudgetAction::Refuse,
        Ok(v1::BudgetAction::Unspecified) | Err(_) => {
            let why = "is BUDGET_ACTION_ROTATE or BUDGET_ACTION_REFUSE".to_owned();
            return Err(Problem::Invalid { field: "rotation_policy.use_budget.action", why });
        }
    };
    // What is no number of uses is refused with the other rules.
    Ok(UseBudget { uses: u64::try_from(said.uses).unwrap_or(0), action })
}

fn duration(field: &'static str, text: &str) -> Result<CalendarDuration, Problem> {
    text.parse().map_err(|error| names::invalid(field, &error))
}

fn action(said: &v1::LifetimeAction) -> Result<LifetimeAction, Problem> {
    const FIELD: &str = "rotation_policy.lifetime_actions";
    let trigger = match &said.trigger {
        Some(Said::TimeAfterCreate(text)) => Trigger::TimeAfterCreate(duration(FIELD, text)?),
        Some(Said::TimeBeforeExpiry(text)) => Trigger::TimeBeforeExpiry(duration(FIELD, text)?),
        None => {
            let why = "an action has no trigger: time_after_create or time_before_expiry".to_owned();
            return Err(Problem::Invalid { field: FIELD, why });
        }
    };
    let action = match v1::LifetimeActionType::try_from(said.action) {
        Ok(v1::LifetimeActionType::Rotate) => LifetimeActionType::Rotate,
        Ok(v1::LifetimeActionType::Notify) => LifetimeActionType::Notify,
        Ok(v1::LifetimeActionType::Unspecified) | Err(_) => {
            return Err(Problem::Invalid { field: FIELD, why: "an action is ROTATE or NOTIFY".to_owned() });
        }
    };
    Ok(LifetimeAction { trigger, action })
}

fn key_name(key: &KeyObjectRow) -> String {
    format!("vaults/{}/keys/{}", key.vault, key.name)
}

fn shown(view: &PolicyView) -> RotationPolicy {
    let PolicyView { key } = view;
    let name = key_name(key) + SUFFIX;
    let Some(rotation) = &key.rotation else { return RotationPolicy { name, etag: key.etag(), ..Default::default() } };
    let actions = rotation.policy.lifetime_actions.iter().map(|LifetimeAction { trigger, action }| {
        let trigger = match trigger {
            Trigger::TimeAfterCreate(duration) => Said::TimeAfterCreate(duration.to_string()),
            Trigger::TimeBeforeExpiry(duration) => Said::TimeBeforeExpiry(duration.to_string()),
        };
        let action = match action {
            LifetimeActionType::Rotate => v1::LifetimeActionType::Rotate,
            LifetimeActionType::Notify => v1::LifetimeActionType::Notify,
        };
        v1::LifetimeAction { trigger: Some(trigger), action: action.into() }
    });
    RotationPolicy {
        name,
        lifetime_actions: actions.collect(),
        expiry_time: rotation.policy.expiry_time.map(|life| life.to_string()).unwrap_or_default(),
        next_key: rotation.policy.next_spec.map(|spec| spec.name().to_owned()).unwrap_or_default(),
        create_time: Some(encode::time(rotation.created)),
        update_time: Some(encode::time(rotation.updated)),
        etag: key.etag(),
        use_budget: rotation.policy.use_budget.map(|budget| v1::UseBudget {
            uses: i64::try_from(budget.uses).unwrap_or(i64::MAX),
            action: match budget.action {
                BudgetAction::Rotate => v1::BudgetAction::Rotate,
                BudgetAction::Refuse => v1::BudgetAction::Refuse,
            }
            .into(),
        }),
    }
}

fn rotation(view: &RotationView) -> v1::KeyRotation {
    let step = |due: &Due| v1::RotationStep {
        work: due.work.kind().name().to_owned(),
        due_time: Some(encode::time(due.at)),
        run_time: Some(encode::time(due.run_at)),
    };
    let failure = view.failure.as_ref();
    v1::KeyRotation {
        key: key_name(&view.key),
        steps: view.steps.iter().map(step).collect(),
        failure: failure.map(|failure| failure.why.clone()).unwrap_or_default(),
        failures: failure.map_or(0, |failure| i32::try_from(failure.times).unwrap_or(i32::MAX)),
        failure_time: failure.map(|failure| encode::time(failure.last)),
    }
}
