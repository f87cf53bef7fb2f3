//! Role definitions and assignments, as a Managed HSM has them: of the vault that the host is, and of its keys. They are the
//! service's own, seen from there; what lies in other vaults, or above them all, is not shown.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    call::{Answer, Call, required},
    errors::of_problem,
    fault::{Fault, Noun},
    page::Paging,
};
use crate::{
    access::RoleDefinition,
    grpc::pages::List,
    model::{ActionPattern, AssignmentRow, ObjectType, Principal, RoleId, RolePatterns, Scope, VersionId},
    service::{
        ChangeOptions, NewAssignment, Problem,
        assignments::AssignmentFilter,
        definitions::{self, NewRole, RolePatch},
    },
};

const DEFINITIONS: &str = "Microsoft.Authorization/roleDefinitions";
const ASSIGNMENTS: &str = "Microsoft.Authorization/roleAssignments";

#[derive(Deserialize)]
struct Assign {
    properties: Option<AssignProperties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssignProperties {
    role_definition_id: Option<String>,
    principal_id: Option<String>,
}

#[derive(Deserialize)]
struct Define {
    properties: Option<DefineProperties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DefineProperties {
    role_name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    permissions: Option<Vec<Permission>>,
    #[serde(default)]
    assignable_scopes: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Permission {
    actions: Vec<String>,
    not_actions: Vec<String>,
    data_actions: Vec<String>,
    not_data_actions: Vec<String>,
}

/// An id as Azure writes it.
fn guid(id: VersionId) -> String {
    Uuid::from_bytes(id.bytes()).to_string()
}

/// The id at the end of a path.
fn id(name: &str, text: &str) -> Result<VersionId, Fault> {
    let last = text.rsplit('/').next().unwrap_or_default();
    let found = Uuid::try_parse(last).map_err(|_| Fault::property(name, "it does not end with a GUID"))?;
    Ok(VersionId::from_bytes(found.into_bytes()))
}

impl Call<'_> {
    /// The scope of the path.
    fn scope(&self) -> Result<Scope, Fault> {
        let parts: Vec<&str> = self.route.scope.iter().map(String::as_str).collect();
        scope(self, &parts)
    }

    fn id(&self) -> Result<VersionId, Fault> {
        id("the name in the request URI", &self.route.name)
    }
}

/// A scope of the vault.
fn scope(call: &Call<'_>, parts: &[&str]) -> Result<Scope, Fault> {
    let wrong = || Fault::bad("The scope is none of /, /keys and /keys/{name}.");
    match parts {
        [] => Ok(Scope::Vault(call.vault.clone())),
        ["keys"] => Ok(Scope::keys(&call.vault)),
        ["keys", name] => Ok(Scope::key(&call.vault, &name.parse().map_err(|_| wrong())?)),
        _ => Err(wrong()),
    }
}

/// A scope as it is seen from the vault. `None` where it is not seen.
fn seen(call: &Call<'_>, scope: &Scope) -> Option<String> {
    match scope {
        Scope::Service => Some("/".to_owned()),
        Scope::Vault(vault) if *vault == call.vault => Some("/".to_owned()),
        Scope::Type(vault, ObjectType::Keys) if *vault == call.vault => Some("/keys".to_owned()),
        Scope::Object(vault, ObjectType::Keys, name) if *vault == call.vault => Some(format!("/keys/{name}")),
        _ => None,
    }
}

fn definition(call: &Call<'_>, role: &RoleDefinition) -> Value {
    let texts = |patterns: &[ActionPattern]| -> Vec<String> { patterns.iter().map(ToString::to_string).collect() };
    let patterns = &role.patterns;
    let scopes: std::collections::BTreeSet<String> =
        role.assignable_scopes.iter().filter_map(|scope| seen(call, scope)).collect();
    json!({
        "id": format!("Microsoft.KeyVault/providers/{DEFINITIONS}/{}", guid(role.id)),
        "name": guid(role.id),
        "type": DEFINITIONS,
        "properties": {
            "roleName": role.name,
            "description": role.description,
            "type": if role.custom.is_some() { "CustomRole" } else { "AKVBuiltInRole" },
            "permissions": [{
                "actions": texts(&patterns.actions),
                "notActions": texts(&patterns.not_actions),
                "dataActions": texts(&patterns.data_actions),
                "notDataActions": texts(&patterns.not_data_actions),
            }],
            "assignableScopes": scopes,
        },
    })
}

fn assignment(call: &Call<'_>, row: &AssignmentRow) -> Value {
    json!({
        "id": format!("/providers/{ASSIGNMENTS}/{}", guid(row.id)),
        "name": guid(row.id),
        "type": ASSIGNMENTS,
        "properties": {
            "principalId": shown_principal(call, &row.principal),
            "roleDefinitionId": format!("Microsoft.KeyVault/providers/{DEFINITIONS}/{}", guid(row.role)),
            "scope": seen(call, &row.scope).unwrap_or_default(),
        },
    })
}

/// A principal: one of ours as it is, or an object id behind what the operator says comes before it.
fn principal(call: &Call<'_>, text: &str) -> Result<Principal, Fault> {
    let whole = match Uuid::try_parse(text) {
        Ok(_) => format!("{}{text}", call.settings.principals),
        Err(_) => text.to_owned(),
    };
    whole.parse().map_err(|_| {
        let why = "it is no principal of this service, and azure.principals does not say what object ids stand for";
        Fault::property("properties.principalId", why)
    })
}

fn shown_principal<'a>(call: &Call<'_>, principal: &'a Principal) -> &'a str {
    let text = principal.as_str();
    let prefix = call.settings.principals.as_str();
    let bare = text.strip_prefix(prefix).filter(|bare| !prefix.is_empty() && Uuid::try_parse(bare).is_ok());
    bare.unwrap_or(text)
}

pub(super) async fn list_definitions(call: &Call<'_>) -> Result<Answer, Fault> {
    let paging = Paging::of(call, List { kind: "roles", parent: "", deleted: false })?;
    let page = paging.page(|last| last.parse().ok())?;
    let found = call.done(call.service.list_roles(call.caller, page).await)?;
    let last = found.items.last().filter(|_| found.more).map(|role| role.id.to_string());
    let name = match filter(call, "roleName")? {
        Filter::Is(name) => Some(name),
        Filter::Absent => None,
    };
    let wanted = |role: &&RoleDefinition| {
        let assignable = role.assignable_scopes.iter().any(|scope| seen(call, scope).is_some());
        assignable && name.as_ref().is_none_or(|name| role.name.eq_ignore_ascii_case(name))
    };
    Ok(paging.answer(found.items.iter().filter(wanted).map(|role| definition(call, role)).collect(), last))
}

pub(super) async fn get_definition(call: &Call<'_>) -> Result<Answer, Fault> {
    let role = call.done(call.service.get_role(call.caller, call.id()?).await)?;
    Ok(Answer::ok(&definition(call, &role)))
}

pub(super) async fn set_definition(call: &Call<'_>) -> Result<Answer, Fault> {
    let id = call.id()?;
    let Define { properties } = call.json()?;
    let new = new_role(call, id, required("properties", properties)?)?;
    let patch = RolePatch {
        name: Some(new.name.clone()),
        description: Some(new.description.clone()),
        actions: Some(new.patterns.actions.clone()),
        not_actions: Some(new.patterns.not_actions.clone()),
        data_actions: Some(new.patterns.data_actions.clone()),
        not_data_actions: Some(new.patterns.not_data_actions.clone()),
        assignable_scopes: Some(new.assignable_scopes.clone()),
    };
    let made = match call.service.create_role(call.caller, new, ChangeOptions::default()).await {
        Err(error) if is_taken(&error.problem, id) => {
            call.service.update_role(call.caller, id, patch, ChangeOptions::default()).await
        }
        made => made,
    };
    match made {
        Err(error) if is_reused(&error.problem) => {
            Err(Fault::bad("Cannot re-use the name/GUID of a built-in role or of another role."))
        }
        made => Ok(Answer::with(StatusCode::CREATED, &definition(call, &call.done(made)?))),
    }
}

/// Whether there is a role of that id.
fn is_taken(problem: &Problem, id: RoleId) -> bool {
    matches!(problem, Problem::Exists { name } if *name == definitions::resource(id))
}

/// Whether id or name belong to a role that stays as it is.
fn is_reused(problem: &Problem) -> bool {
    matches!(problem, Problem::Exists { .. } | Problem::Precondition { reason: "BUILT_IN_ROLE", .. })
}

fn new_role(call: &Call<'_>, id: RoleId, said: DefineProperties) -> Result<NewRole, Fault> {
    let mut patterns = RolePatterns::default();
    for permission in said.permissions.unwrap_or_default() {
        let Permission { actions, not_actions, data_actions, not_data_actions } = permission;
        add(&mut patterns.actions, &actions)?;
        add(&mut patterns.not_actions, &not_actions)?;
        add(&mut patterns.data_actions, &data_actions)?;
        add(&mut patterns.not_data_actions, &not_data_actions)?;
    }
    let scopes = said.assignable_scopes.filter(|scopes| !scopes.is_empty()).unwrap_or_else(|| vec!["/".to_owned()]);
    let scopes = scopes.iter().map(|text| {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        scope(call, &parts)
    });
    Ok(NewRole {
        id: Some(id),
        name: required("properties.roleName", said.role_name)?,
        description: said.description.unwrap_or_default(),
        patterns,
        assignable_scopes: scopes.collect::<Result<_, _>>()?,
    })
}

fn add(patterns: &mut Vec<ActionPattern>, texts: &[String]) -> Result<(), Fault> {
    for text in texts {
        patterns.push(text.parse().map_err(|_| Fault::property("properties.permissions", "it has what is no action"))?);
    }
    Ok(())
}

pub(super) async fn delete_definition(call: &Call<'_>) -> Result<Answer, Fault> {
    let role = call.done(call.service.delete_role(call.caller, call.id()?, ChangeOptions::default()).await)?;
    Ok(Answer::ok(&definition(call, &role)))
}

/// What a list is to show, of one property.
enum Filter {
    Absent,
    Is(String),
}

/// `{name} eq '{value}'`, and `atScope()`, which is what a list is anyway.
fn filter(call: &Call<'_>, name: &str) -> Result<Filter, Fault> {
    let text = call.target.parameter("$filter").unwrap_or_default().trim();
    if text.is_empty() || text == "atScope()" {
        return Ok(Filter::Absent);
    }
    let value = text.strip_prefix(name).and_then(|rest| rest.trim().strip_prefix("eq"));
    let value = value.and_then(|rest| rest.trim().strip_prefix('\'')?.strip_suffix('\''));
    match value {
        Some(value) if !value.contains('\'') => Ok(Filter::Is(value.to_owned())),
        _ => Err(Fault::property("$filter", &format!("{name} eq '...' and atScope() are taken"))),
    }
}

pub(super) async fn list_assignments(call: &Call<'_>) -> Result<Answer, Fault> {
    let scope = call.scope()?;
    let of = match filter(call, "principalId")? {
        Filter::Is(text) => Some(principal(call, &text)?),
        Filter::Absent => None,
    };
    let parent = format!("{scope}\0{}", of.as_ref().map(Principal::as_str).unwrap_or_default());
    let paging = Paging::of(call, List { kind: "assignments", parent: &parent, deleted: false })?;
    let page = paging.page(|last| last.parse().ok())?;
    let wanted = AssignmentFilter { principal: of, scope: Some(scope.clone()), role: None };
    let found = call.done(call.service.list_assignments(call.caller, page, wanted).await)?;
    let last = found.items.last().filter(|_| found.more).map(|row| row.id.to_string());
    // What is held at a key is listed there and nowhere above.
    let items = found.items.iter().filter(|row| row.scope == scope).map(|row| assignment(call, row)).collect();
    Ok(paging.answer(items, last))
}

/// That an assignment lies at the scope of the path: through one vault's host nobody reaches another's.
fn check_scope(call: &Call<'_>, row: &AssignmentRow) -> Result<(), Fault> {
    if row.scope == call.scope()? {
        return Ok(());
    }
    Err(Fault::not_found(Noun::RoleAssignment, &guid(row.id)))
}

pub(super) async fn get_assignment(call: &Call<'_>) -> Result<Answer, Fault> {
    let row = call.done(call.service.get_assignment(call.caller, call.id()?).await)?;
    check_scope(call, &row)?;
    Ok(Answer::ok(&assignment(call, &row)))
}

pub(super) async fn set_assignment(call: &Call<'_>) -> Result<Answer, Fault> {
    let Assign { properties } = call.json()?;
    let said = required("properties", properties)?;
    let role = required("properties.roleDefinitionId", said.role_definition_id)?;
    let who = required("properties.principalId", said.principal_id)?;
    let new = NewAssignment {
        id: Some(call.id()?),
        principal: principal(call, &who)?,
        role: id("properties.roleDefinitionId", &role)?,
        scope: call.scope()?,
    };
    let made = call.done(call.service.create_assignment(call.caller, new, ChangeOptions::default()).await)?;
    Ok(Answer::with(StatusCode::CREATED, &assignment(call, &made)))
}

pub(super) async fn delete_assignment(call: &Call<'_>) -> Result<Answer, Fault> {
    let id = call.id()?;
    let row = call.done(call.service.get_assignment(call.caller, id).await)?;
    check_scope(call, &row)?;
    let gone = call.service.delete_assignment(call.caller, id, ChangeOptions::default()).await;
    let gone = gone.map_err(|error| of_problem(&error.problem, call.route.operation))?;
    Ok(Answer::ok(&assignment(call, &gone)))
}
