//! What a key does by itself, by Azure's rules: [`crate::rotation`] knows them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    address::Flavour,
    call::{Answer, Call, required},
    fault::{Fault, Noun},
};
use crate::{
    model::{CalendarDuration, LifetimeAction, LifetimeActionType, RotationPolicy, Trigger},
    rotation::{ACTIONS_MAX, Profile},
    service::{ChangeOptions, rotation::PolicyView},
};

/// When events tell of an expiry where no policy says so: what a key does that has none.
const NOTICE: &str = "P30D";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    #[serde(default)]
    lifetime_actions: Option<Vec<SaidAction>>,
    #[serde(default)]
    attributes: Option<SaidAttributes>,
}

#[derive(Deserialize)]
struct SaidAction {
    trigger: Option<SaidTrigger>,
    action: Option<SaidType>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SaidTrigger {
    #[serde(default)]
    time_after_create: Option<String>,
    #[serde(default)]
    time_before_expiry: Option<String>,
}

#[derive(Deserialize)]
struct SaidType {
    r#type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SaidAttributes {
    #[serde(default)]
    expiry_time: Option<String>,
}

pub(super) async fn get(call: &Call<'_>) -> Result<Answer, Fault> {
    let view = call.done(call.service.get_rotation_policy(call.caller, &call.whole_key()?).await)?;
    if !view.key.state.is_active() {
        return Err(Fault::not_found(Noun::Key, view.key.name.as_str()));
    }
    Ok(Answer::ok(&shown(call, &view)))
}

pub(super) async fn set(call: &Call<'_>) -> Result<Answer, Fault> {
    let policy = policy(call.json()?)?;
    let rules = match call.flavour {
        Flavour::Vault => Profile::AzureVault,
        Flavour::ManagedHsm => Profile::AzureManagedHsm,
    };
    if let Err(problems) = policy.check(rules) {
        let why: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Fault::bad(format!("The rotation policy is not valid: {}.", why.join("; "))));
    }
    let options = ChangeOptions::default();
    let view = call.service.update_rotation_policy(call.caller, &call.whole_key()?, policy, options).await;
    Ok(Answer::ok(&shown(call, &call.done(view)?)))
}

fn policy(said: Said) -> Result<RotationPolicy, Fault> {
    let actions = said.lifetime_actions.unwrap_or_default();
    if actions.len() > ACTIONS_MAX {
        return Err(Fault::property("lifetimeActions", "there are too many"));
    }
    let expiry = said.attributes.and_then(|said| said.expiry_time).filter(|text| !text.is_empty());
    let expiry_time = expiry.map(|text| duration("attributes.expiryTime", &text)).transpose()?;
    let lifetime_actions = actions.into_iter().map(action).collect::<Result<_, _>>()?;
    Ok(RotationPolicy { lifetime_actions, expiry_time, use_budget: None, next_spec: None })
}

fn action(said: SaidAction) -> Result<LifetimeAction, Fault> {
    let trigger = required("lifetimeActions.trigger", said.trigger)?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let trigger = match (given(trigger.time_after_create), given(trigger.time_before_expiry)) {
        (Some(text), None) => Trigger::TimeAfterCreate(duration("lifetimeActions.trigger.timeAfterCreate", &text)?),
        (None, Some(text)) => Trigger::TimeBeforeExpiry(duration("lifetimeActions.trigger.timeBeforeExpiry", &text)?),
        _ => {
            let why = "it is timeAfterCreate or timeBeforeExpiry, and not both";
            return Err(Fault::property("lifetimeActions.trigger", why));
        }
    };
    let kind = said.action.and_then(|action| action.r#type).unwrap_or_default();
    let action = LifetimeActionType::from_name(&kind);
    let action = action.ok_or_else(|| Fault::property("lifetimeActions.action.type", "it is Rotate or Notify"))?;
    Ok(LifetimeAction { trigger, action })
}

fn duration(name: &str, text: &str) -> Result<CalendarDuration, Fault> {
    text.parse().map_err(|error: crate::model::DurationError| Fault::property(name, &error.to_string()))
}

fn shown(call: &Call<'_>, view: &PolicyView) -> Value {
    let id = call.url(&format!("keys/{}/rotationpolicy", view.key.name));
    let Some(rotation) = &view.key.rotation else {
        let notice = json!([{ "trigger": { "timeBeforeExpiry": NOTICE }, "action": { "type": "Notify" } }]);
        let actions = if call.flavour == Flavour::Vault { notice } else { json!([]) };
        return json!({ "id": id, "lifetimeActions": actions, "attributes": {} });
    };
    let actions = rotation.policy.lifetime_actions.iter().map(|LifetimeAction { trigger, action }| {
        let trigger = match trigger {
            Trigger::TimeAfterCreate(duration) => json!({ "timeAfterCreate": duration.to_string() }),
            Trigger::TimeBeforeExpiry(duration) => json!({ "timeBeforeExpiry": duration.to_string() }),
        };
        json!({ "trigger": trigger, "action": { "type": action.name() } })
    });
    let mut attributes = json!({ "created": rotation.created.0, "updated": rotation.updated.0 });
    if let Some(life) = rotation.policy.expiry_time {
        attributes["expiryTime"] = life.to_string().into();
    }
    json!({ "id": id, "lifetimeActions": actions.collect::<Vec<_>>(), "attributes": attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RotationPolicy, Fault> {
        policy(serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn a_policy_is_read_as_clients_write_it() {
        let text = r#"{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D","timeBeforeExpiry":null},
            "action":{"type":"rotate"}},{"trigger":{"timeBeforeExpiry":"P30D"},"action":{"type":"Notify"}}],
            "attributes":{"expiryTime":"P2Y","created":1}}"#;
        let policy = read(text).expect("right");
        assert_eq!(policy.lifetime_actions.len(), 2);
        assert!(policy.check(Profile::AzureVault).is_ok());
        assert_eq!(read("{}").expect("no policy"), RotationPolicy::default());
        for wrong in [
            r#"{"lifetimeActions":[{"trigger":{},"action":{"type":"Rotate"}}]}"#,
            r#"{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P1D","timeBeforeExpiry":"P1D"},"action":{"type":"Rotate"}}]}"#,
            r#"{"lifetimeActions":[{"trigger":{"timeAfterCreate":"soon"},"action":{"type":"Rotate"}}]}"#,
            r#"{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P9D"},"action":{"type":"Burn"}}]}"#,
            r#"{"lifetimeActions":[{"action":{"type":"Rotate"}}]}"#,
            r#"{"attributes":{"expiryTime":"x"}}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
