//! `strongroom.v1.RoleAssignments`.

use std::sync::Arc;

use strongroom_proto::v1::{
    CreateRoleAssignmentRequest, DeleteRoleAssignmentRequest, GetRoleAssignmentRequest, ListRoleAssignmentsRequest,
    ListRoleAssignmentsResponse, RoleAssignment, role_assignments_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    model::AssignmentRow,
    service::{Caller, NewAssignment, Problem, Service, ServiceError, assignments::AssignmentFilter},
};

serve!(role_assignments_server::RoleAssignments {
    create_role_assignment(CreateRoleAssignmentRequest) -> RoleAssignment;
    get_role_assignment(GetRoleAssignmentRequest) -> RoleAssignment;
    list_role_assignments(ListRoleAssignmentsRequest) -> ListRoleAssignmentsResponse;
    delete_role_assignment(DeleteRoleAssignmentRequest) -> RoleAssignment;
});

fn shown(service: &Service, row: &AssignmentRow) -> RoleAssignment {
    encode::assignment(row, service.role_name(row.role))
}

async fn create_role_assignment(
    service: &Arc<Service>,
    caller: &Caller,
    message: CreateRoleAssignmentRequest,
) -> Result<RoleAssignment, ServiceError> {
    let options =
        decode::options("CreateRoleAssignment", &message, None, &message.request_id, "", message.validate_only)?;
    let assignment = decode::required("role_assignment", message.role_assignment)?;
    let invalid_principal = |error| names::invalid("role_assignment.principal", &error);
    let invalid_scope = |error| names::invalid("role_assignment.scope", &error);
    let new = NewAssignment {
        id: None,
        principal: assignment.principal.parse().map_err(invalid_principal)?,
        role: names::role("role_assignment.role", &assignment.role)?,
        scope: assignment.scope.parse().map_err(invalid_scope)?,
    };
    Ok(shown(service, &service.create_assignment(caller, new, options).await?))
}

async fn get_role_assignment(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetRoleAssignmentRequest,
) -> Result<RoleAssignment, ServiceError> {
    let id = names::assignment("name", &message.name)?;
    Ok(shown(service, &service.get_assignment(caller, id).await?))
}

async fn list_role_assignments(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListRoleAssignmentsRequest,
) -> Result<ListRoleAssignmentsResponse, ServiceError> {
    let filter = filter(&message)?;
    // A token goes on with the filter it was given for.
    let parent = format!("{}\0{}\0{}", message.principal, message.scope, message.role);
    let list = List { kind: "assignments", parent: &parent, deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.list_assignments(caller, page, filter).await?;
    let next_page_token = list.next(found.more, found.items.last().map(|row| row.id.to_string()));
    let role_assignments = found.items.iter().map(|row| shown(service, row)).collect();
    Ok(ListRoleAssignmentsResponse { role_assignments, next_page_token })
}

fn filter(message: &ListRoleAssignmentsRequest) -> Result<AssignmentFilter, Problem> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let principal = given(&message.principal).map(|text| text.parse()).transpose();
    let scope = given(&message.scope).map(|text| text.parse()).transpose();
    let role = given(&message.role).map(|text| names::role("role", &text)).transpose()?;
    Ok(AssignmentFilter {
        principal: principal.map_err(|error| names::invalid("principal", &error))?,
        scope: scope.map_err(|error| names::invalid("scope", &error))?,
        role,
    })
}

async fn delete_role_assignment(
    service: &Arc<Service>,
    caller: &Caller,
    message: DeleteRoleAssignmentRequest,
) -> Result<RoleAssignment, ServiceError> {
    let id = names::assignment("name", &message.name)?;
    let options =
        decode::options("DeleteRoleAssignment", &message, None, &message.request_id, "", message.validate_only)?;
    Ok(shown(service, &service.delete_assignment(caller, id, options).await?))
}
