//! Roles, their assignments, and access policies of vaults.

use strongroom_proto::v1::{
    AccessPolicy, CreateRoleAssignmentRequest, CreateRoleDefinitionRequest, DeleteAccessPolicyRequest,
    DeleteRoleAssignmentRequest, DeleteRoleDefinitionRequest, GetRoleAssignmentRequest, GetRoleDefinitionRequest,
    ListAccessPoliciesRequest, ListRoleAssignmentsRequest, ListRoleDefinitionsRequest, RoleAssignment, RoleDefinition,
    SetAccessPolicyRequest, UpdateRoleDefinitionRequest,
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

    /// Makes a role. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create_role_definition(
        &self,
        mut request: CreateRoleDefinitionRequest,
    ) -> Result<RoleDefinition, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.role_definitions().create_role_definition(request).await })
            .await
    }

    /// A role, by its name.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_role_definition(&self, name: &str) -> Result<RoleDefinition, Error> {
        let request = || GetRoleDefinitionRequest { name: name.to_owned() };
        self.call(request, |request| async { self.role_definitions().get_role_definition(request).await }).await
    }

    /// Roles, built-in and others, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_role_definitions(
        &self,
        mut request: ListRoleDefinitionsRequest,
    ) -> Result<Vec<RoleDefinition>, Error> {
        let mut found = Vec::new();
        loop {
            let send = |request| async { self.role_definitions().list_role_definitions(request).await };
            let page = self.call(|| request.clone(), send).await?;
            found.extend(page.role_definitions);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Changes a role. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn update_role_definition(
        &self,
        mut request: UpdateRoleDefinitionRequest,
    ) -> Result<RoleDefinition, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.role_definitions().update_role_definition(request).await })
            .await
    }

    /// Deletes a role that nobody has. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_role_definition(
        &self,
        mut request: DeleteRoleDefinitionRequest,
    ) -> Result<RoleDefinition, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.role_definitions().delete_role_definition(request).await })
            .await
    }

    /// Sets what a principal may do in a vault that decides by access policies. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_access_policy(&self, mut request: SetAccessPolicyRequest) -> Result<AccessPolicy, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.access_policies().set_access_policy(request).await }).await
    }

    /// Access policies of a vault, from the request's page to the last one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_access_policies(
        &self,
        mut request: ListAccessPoliciesRequest,
    ) -> Result<Vec<AccessPolicy>, Error> {
        let mut found = Vec::new();
        loop {
            let send = |request| async { self.access_policies().list_access_policies(request).await };
            let page = self.call(|| request.clone(), send).await?;
            found.extend(page.access_policies);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Takes an access policy away. Without a request id it gets one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_access_policy(&self, mut request: DeleteAccessPolicyRequest) -> Result<AccessPolicy, Error> {
        let id = request_id(&request.request_id);
        request.request_id.clone_from(&id);
        self.change(request, &id, |request| async { self.access_policies().delete_access_policy(request).await }).await
    }
}
