//! Access policies, the older way of a vault to say who may use what is in it: set, listed, deleted. They decide
//! where the vault says so, and then alone; elsewhere they are kept and decide nothing. A change is in force when
//! it is answered.

use std::sync::Arc;

use super::{
    Caller, ChangeOptions, Page, Paged, Service, bounds,
    catalog::Checked,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    scopes::{Making, NewRow, Put},
};
use crate::{
    access::{Op as _, Permit, ops},
    model::{AccessPolicyRow, Permissions, Principal, Row as _, Scope, VaultName},
    store::HeadScope,
};

impl Service {
    /// Sets what somebody may do with what is in a vault, in place of what he had.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when the vault has as many as it can.
    pub async fn set_access_policy(
        self: &Arc<Self>,
        caller: &Caller,
        vault: &VaultName,
        principal: Principal,
        permissions: Permissions,
        options: ChangeOptions,
    ) -> Result<AccessPolicyRow, ServiceError> {
        let work = SetPolicy { vault: vault.clone(), principal, permissions };
        self.change(caller, work.resource_name(), Scope::Vault(vault.clone()), options, work).await
    }

    /// Lists the access policies of a vault, in the order of their principals.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when the vault does not exist or is deleted.
    pub async fn list_access_policies(
        &self,
        caller: &Caller,
        vault: &VaultName,
        page: Page<Principal>,
    ) -> Result<Paged<AccessPolicyRow>, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::AccessPoliciesRead>| async {
            self.catalog.live_vault(vault, caller.deadline).await?;
            let policy = self.policy.now();
            let mut found: Vec<&Arc<AccessPolicyRow>> = policy.access_policies(vault).collect();
            found.retain(|row| page.after.as_ref().is_none_or(|after| row.principal > *after));
            found.sort_unstable_by(|one, other| one.principal.cmp(&other.principal));
            let size = usize::try_from(page.size).unwrap_or(usize::MAX);
            let more = found.len() > size;
            Ok(Paged { items: found.into_iter().take(size).map(|row| AccessPolicyRow::clone(row)).collect(), more })
        };
        self.plain(caller, format!("vaults/{vault}/accessPolicies"), Scope::Vault(vault.clone()), &note, work).await
    }

    /// Takes away what somebody may do by an access policy.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_access_policy(
        self: &Arc<Self>,
        caller: &Caller,
        vault: &VaultName,
        principal: Principal,
        options: ChangeOptions,
    ) -> Result<AccessPolicyRow, ServiceError> {
        let work = DeletePolicy { vault: vault.clone(), principal };
        let name = resource(vault, &work.principal);
        self.change(caller, name, Scope::Vault(vault.clone()), options, work).await
    }

    async fn access_policy(
        &self,
        vault: &VaultName,
        principal: &Principal,
        context: &Context,
    ) -> Result<Option<Checked<AccessPolicyRow>>, ServiceError> {
        let deadline = context.caller.deadline;
        self.catalog.live_vault(vault, deadline).await?;
        self.catalog.access_policy(vault, principal, deadline).await
    }
}

/// An access policy's resource name.
#[must_use]
pub fn resource(vault: &VaultName, principal: &Principal) -> String {
    format!("vaults/{vault}/accessPolicies/{principal}")
}

struct SetPolicy {
    vault: VaultName,
    principal: Principal,
    permissions: Permissions,
}

impl SetPolicy {
    fn resource_name(&self) -> String {
        resource(&self.vault, &self.principal)
    }

    async fn plan(
        &self,
        service: &Service,
        context: &Context,
    ) -> Result<(Option<Checked<AccessPolicyRow>>, AccessPolicyRow), ServiceError> {
        if self.permissions.is_empty() {
            let why = "permits nothing: delete the access policy instead".to_owned();
            return Err(Problem::Invalid { field: "access_policy", why }.into());
        }
        let old = service.access_policy(&self.vault, &self.principal, context).await?;
        let etag = old.as_ref().map(|old| old.row.etag()).unwrap_or_default();
        context.check_etag(&etag, &self.resource_name())?;
        if old.is_none() {
            bounds::check_policies(&service.policy.now(), &self.vault)?;
        }
        let new = AccessPolicyRow {
            vault: self.vault.clone(),
            principal: self.principal.clone(),
            permissions: self.permissions,
            created: old.as_ref().map_or(context.now, |old| old.row.created),
            updated: context.now,
            intent: context.intent,
            revision: old.as_ref().map_or(1, |old| old.row.revision + 1),
        };
        Ok((old, new))
    }
}

impl Work for SetPolicy {
    type Op = ops::AccessPoliciesUpdate;
    type Out = AccessPolicyRow;

    fn detail(&self) -> Option<String> {
        Some(self.permissions.to_string())
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<AccessPolicyRow, ServiceError> {
        Ok(self.plan(service, context).await?.1)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<AccessPolicyRow>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (old, row) = self.plan(service, context).await?;
        let new = NewRow::AccessPolicy(row.clone());
        let put = match old {
            Some(old) => Put::replace(old.row.as_ref(), old.seal, new),
            None => Put::insert(new),
        };
        let request = context.request_record(self.resource_name());
        let name = Self::Op::ACTION.name();
        let making = Making { name, right: &permit, intent: context.intent, request, deadline };
        let committed = service.note_policy(service.catalog.scopes.commit(&locked, making, vec![put]).await)?;
        service.policy.set(service.policy.now().with_access_policy(row.clone()));
        Ok(Applied { out: row, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        context: &Context,
    ) -> Result<AccessPolicyRow, ServiceError> {
        let found = service.access_policy(&self.vault, &self.principal, context).await?;
        let found = found.ok_or_else(|| Problem::NotFound { name: name.to_owned() })?;
        Ok(AccessPolicyRow::clone(&found.row))
    }
}

struct DeletePolicy {
    vault: VaultName,
    principal: Principal,
}

impl DeletePolicy {
    async fn plan(&self, service: &Service, context: &Context) -> Result<Checked<AccessPolicyRow>, ServiceError> {
        let name = resource(&self.vault, &self.principal);
        let found = service.access_policy(&self.vault, &self.principal, context).await?;
        let found = found.ok_or_else(|| Problem::NotFound { name: name.clone() })?;
        context.check_etag(&found.row.etag(), &name)?;
        Ok(found)
    }
}

impl Work for DeletePolicy {
    type Op = ops::AccessPoliciesDelete;
    type Out = AccessPolicyRow;

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<AccessPolicyRow, ServiceError> {
        Ok(AccessPolicyRow::clone(&self.plan(service, context).await?.row))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<AccessPolicyRow>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let found = self.plan(service, context).await?;
        let row = AccessPolicyRow::clone(&found.row);
        let put = Put::remove(NewRow::RemoveAccessPolicy(row.clone()), found.seal);
        let request = context.request_record(resource(&self.vault, &self.principal));
        let name = Self::Op::ACTION.name();
        let making = Making { name, right: &permit, intent: context.intent, request, deadline };
        let committed = service.note_policy(service.catalog.scopes.commit(&locked, making, vec![put]).await)?;
        service.policy.set(service.policy.now().without_access_policy(&self.vault, &self.principal));
        Ok(Applied { out: row, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        _: &Service,
        _: &Permit<Self::Op>,
        name: &str,
        _: &Context,
    ) -> Result<AccessPolicyRow, ServiceError> {
        // It is gone, as was asked; there is nothing left to show.
        Err(Problem::NotFound { name: name.to_owned() }.into())
    }
}
