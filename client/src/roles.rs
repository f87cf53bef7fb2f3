//! Role assignments.

use strongroom_proto::v1::{
    CreateRoleAssignmentRequest, DeleteRoleAssignmentRequest, GetRoleAssignmentRequest, ListRoleAssignmentsRequest,
    RoleAssignment,
};

use crate::{Client, Error, client::request_id};

impl Client {
    /// Gives a principal or a group a role. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create_role_assignment(
        &self,
        mut request: CreateRoleAssignmentRequest,
    ) -> Result<RoleAssignment, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.roles().create_role_assignment(request).await }).await
    }

    /// A role assignment, by its name.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_role_assignment(&self, name: &str) -> Result<RoleAssignment, Error> {
        let request = || GetRoleAssignmentRequest { name: name.to_owned() };
        self.call(request, |request| async { self.roles().get_role_assignment(request).await }).await
    }

    /// Role assignments, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_role_assignments(
        &self,
        mut request: ListRoleAssignmentsRequest,
    ) -> Result<Vec<RoleAssignment>, Error> {
        let mut assignments = Vec::new();
        loop {
            let send = |request| async { self.roles().list_role_assignments(request).await };
            let page = self.call(|| request.clone(), send).await?;
            assignments.extend(page.role_assignments);
            if page.next_page_token.is_empty() {
                return Ok(assignments);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Takes a role away. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_role_assignment(
        &self,
        mut request: DeleteRoleAssignmentRequest,
    ) -> Result<RoleAssignment, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.roles().delete_role_assignment(request).await }).await
    }
}
