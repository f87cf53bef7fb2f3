//! `strongroom.v1.RoleDefinitions`.

use std::{fmt::Display, str::FromStr, sync::Arc};

use strongroom_proto::v1::{
    CreateRoleDefinitionRequest, DeleteRoleDefinitionRequest, GetRoleDefinitionRequest, ListRoleDefinitionsRequest,
    ListRoleDefinitionsResponse, RoleDefinition, UpdateRoleDefinitionRequest, role_definitions_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    model::{RoleId, RolePatterns, Scope},
    service::{
        Caller, Problem, Service, ServiceError,
        definitions::{NewRole, RolePatch},
    },
};

serve!(role_definitions_server::RoleDefinitions {
    create_role_definition(CreateRoleDefinitionRequest) -> RoleDefinition;
    get_role_definition(GetRoleDefinitionRequest) -> RoleDefinition;
    list_role_definitions(ListRoleDefinitionsRequest) -> ListRoleDefinitionsResponse;
    update_role_definition(UpdateRoleDefinitionRequest) -> RoleDefinition;
    delete_role_definition(DeleteRoleDefinitionRequest) -> RoleDefinition;
});

/// What can be changed.
const MASK: [&str; 7] =
    ["role_name", "description", "actions", "not_actions", "data_actions", "not_data_actions", "assignable_scopes"];

/// Items of a list, each by its own rule.
fn items<T: FromStr<Err: Display>>(field: &'static str, texts: &[String]) -> Result<Vec<T>, Problem> {
    texts.iter().map(|text| text.parse().map_err(|error: T::Err| names::invalid(field, &error.to_string()))).collect()
}

async fn create_role_definition(
    service: &Arc<Service>,
    caller: &Caller,
    message: CreateRoleDefinitionRequest,
) -> Result<RoleDefinition, ServiceError> {
    let options =
        decode::options("CreateRoleDefinition", &message, None, &message.request_id, "", message.validate_only)?;
    let role = decode::required("role_definition", message.role_definition)?;
    let id = match message.role_definition_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|error| names::invalid("role_definition_id", &error))?),
    };
    let mut assignable_scopes = items("role_definition.assignable_scopes", &role.assignable_scopes)?;
    if assignable_scopes.is_empty() {
        assignable_scopes.push(Scope::Service);
    }
    let patterns = RolePatterns {
        actions: items("role_definition.actions", &role.actions)?,
        not_actions: items("role_definition.not_actions", &role.not_actions)?,
        data_actions: items("role_definition.data_actions", &role.data_actions)?,
        not_data_actions: items("role_definition.not_data_actions", &role.not_data_actions)?,
    };
    let new = NewRole { id, name: role.role_name, description: role.description, patterns, assignable_scopes };
    Ok(encode::role(&service.create_role(caller, new, options).await?))
}

async fn get_role_definition(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetRoleDefinitionRequest,
) -> Result<RoleDefinition, ServiceError> {
    let id = names::role("name", &message.name)?;
    Ok(encode::role(&service.get_role(caller, id).await?))
}

async fn list_role_definitions(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListRoleDefinitionsRequest,
) -> Result<ListRoleDefinitionsResponse, ServiceError> {
    let list = List { kind: "roles", parent: "", deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.list_roles(caller, page).await?;
    let next_page_token = list.next(found.more, found.items.last().map(|role| role.id.to_string()));
    Ok(ListRoleDefinitionsResponse {
        role_definitions: found.items.iter().map(encode::role).collect(),
        next_page_token,
    })
}

async fn update_role_definition(
    service: &Arc<Service>,
    caller: &Caller,
    message: UpdateRoleDefinitionRequest,
) -> Result<RoleDefinition, ServiceError> {
    let etag = message.role_definition.as_ref().map(|role| role.etag.clone()).unwrap_or_default();
    let options =
        decode::options("UpdateRoleDefinition", &message, None, &message.request_id, &etag, message.validate_only)?;
    let (id, patch) = read_patch(message)?;
    Ok(encode::role(&service.update_role(caller, id, patch, options).await?))
}

/// What is to be changed of which role.
pub(super) fn read_patch(message: UpdateRoleDefinitionRequest) -> Result<(RoleId, RolePatch), Problem> {
    let role = decode::required("role_definition", message.role_definition)?;
    let id = names::role("role_definition.name", &role.name)?;
    let mask = decode::mask(message.update_mask.as_ref(), &MASK)?;
    let has = |field: &str| mask.contains(&field);
    fn list<T: FromStr<Err: Display>>(
        named: bool,
        field: &'static str,
        texts: &[String],
    ) -> Result<Option<Vec<T>>, Problem> {
        if named { items(field, texts).map(Some) } else { Ok(None) }
    }
    let scopes = &role.assignable_scopes;
    let patch = RolePatch {
        actions: list(has("actions"), "role_definition.actions", &role.actions)?,
        not_actions: list(has("not_actions"), "role_definition.not_actions", &role.not_actions)?,
        data_actions: list(has("data_actions"), "role_definition.data_actions", &role.data_actions)?,
        not_data_actions: list(has("not_data_actions"), "role_definition.not_data_actions", &role.not_data_actions)?,
        assignable_scopes: list(has("assignable_scopes"), "role_definition.assignable_scopes", scopes)?,
        name: has("role_name").then_some(role.role_name),
        description: has("description").then_some(role.description),
    };
    Ok((id, patch))
}

async fn delete_role_definition(
    service: &Arc<Service>,
    caller: &Caller,
    message: DeleteRoleDefinitionRequest,
) -> Result<RoleDefinition, ServiceError> {
    let id = names::role("name", &message.name)?;
    let (request_id, etag) = (&message.request_id, &message.etag);
    let options = decode::options("DeleteRoleDefinition", &message, None, request_id, etag, message.validate_only)?;
    Ok(encode::role(&service.delete_role(caller, id, options).await?))
}
