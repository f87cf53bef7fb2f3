//! `strongroom.v1.RoleAssignments`.

use std::sync::Arc;

use strongroom_proto::v1::{
    CreateRoleAssignmentRequest, DeleteRoleAssignmentRequest, ListRoleAssignmentsRequest, ListRoleAssignmentsResponse,
    RoleAssignment, role_assignments_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::service::{Caller, NewAssignment, Service, ServiceError};

serve!(role_assignments_server::RoleAssignments {
    create_role_assignment(CreateRoleAssignmentRequest) -> RoleAssignment;
    list_role_assignments(ListRoleAssignmentsRequest) -> ListRoleAssignmentsResponse;
    delete_role_assignment(DeleteRoleAssignmentRequest) -> RoleAssignment;
});

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
        principal: assignment.principal.parse().map_err(invalid_principal)?,
        role: decode::role("role_assignment.role", assignment.role)?,
        scope: assignment.scope.parse().map_err(invalid_scope)?,
    };
    Ok(encode::assignment(&service.create_assignment(caller, new, options).await?))
}

async fn list_role_assignments(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListRoleAssignmentsRequest,
) -> Result<ListRoleAssignmentsResponse, ServiceError> {
    let list = List { kind: "assignments", parent: "", deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.list_assignments(caller, page).await?;
    let next_page_token = list.next(found.more, found.items.last().map(|row| row.id.to_string()));
    let role_assignments = found.items.iter().map(encode::assignment).collect();
    Ok(ListRoleAssignmentsResponse { role_assignments, next_page_token })
}

async fn delete_role_assignment(
    service: &Arc<Service>,
    caller: &Caller,
    message: DeleteRoleAssignmentRequest,
) -> Result<RoleAssignment, ServiceError> {
    let id = names::assignment("name", &message.name)?;
    let options =
        decode::options("DeleteRoleAssignment", &message, None, &message.request_id, "", message.validate_only)?;
    Ok(encode::assignment(&service.delete_assignment(caller, id, options).await?))
}
