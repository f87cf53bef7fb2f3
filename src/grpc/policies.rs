//! `strongroom.v1.AccessPolicies`.

use std::sync::Arc;

use strongroom_proto::v1::{
    AccessPolicy, DeleteAccessPolicyRequest, ListAccessPoliciesRequest, ListAccessPoliciesResponse,
    SetAccessPolicyRequest, access_policies_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    model::{ObjectType, Permissions},
    service::{Caller, Problem, Service, ServiceError},
};

serve!(access_policies_server::AccessPolicies {
    set_access_policy(SetAccessPolicyRequest) -> AccessPolicy;
    list_access_policies(ListAccessPoliciesRequest) -> ListAccessPoliciesResponse;
    delete_access_policy(DeleteAccessPolicyRequest) -> AccessPolicy;
});

/// What a policy permits.
pub(super) fn permissions(policy: &AccessPolicy) -> Result<Permissions, Problem> {
    let mut permissions = Permissions::default();
    for (kind, field, given) in [
        (ObjectType::Keys, "access_policy.keys", &policy.keys),
        (ObjectType::Secrets, "access_policy.secrets", &policy.secrets),
        (ObjectType::Certificates, "access_policy.certificates", &policy.certificates),
    ] {
        for name in given {
            permissions.add(kind, name).map_err(|error| names::invalid(field, &error))?;
        }
    }
    Ok(permissions)
}

async fn set_access_policy(
    service: &Arc<Service>,
    caller: &Caller,
    message: SetAccessPolicyRequest,
) -> Result<AccessPolicy, ServiceError> {
    let etag = message.access_policy.as_ref().map(|policy| policy.etag.clone()).unwrap_or_default();
    let options =
        decode::options("SetAccessPolicy", &message, None, &message.request_id, &etag, message.validate_only)?;
    let policy = decode::required("access_policy", message.access_policy)?;
    let vault = names::vault("access_policy.parent", &policy.parent)?;
    let permissions = permissions(&policy)?;
    let principal = policy.principal.parse().map_err(|error| names::invalid("access_policy.principal", &error))?;
    let row = service.set_access_policy(caller, &vault, principal, permissions, options).await?;
    Ok(encode::access_policy(&row))
}

async fn list_access_policies(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListAccessPoliciesRequest,
) -> Result<ListAccessPoliciesResponse, ServiceError> {
    let vault = names::vault("parent", &message.parent)?;
    let list = List { kind: "policies", parent: &message.parent, deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.list_access_policies(caller, &vault, page).await?;
    let next_page_token = list.next(found.more, found.items.last().map(|row| row.principal.to_string()));
    let access_policies = found.items.iter().map(encode::access_policy).collect();
    Ok(ListAccessPoliciesResponse { access_policies, next_page_token })
}

async fn delete_access_policy(
    service: &Arc<Service>,
    caller: &Caller,
    message: DeleteAccessPolicyRequest,
) -> Result<AccessPolicy, ServiceError> {
    let vault = names::vault("parent", &message.parent)?;
    let principal = message.principal.parse().map_err(|error| names::invalid("principal", &error))?;
    let (request_id, etag) = (&message.request_id, &message.etag);
    let options = decode::options("DeleteAccessPolicy", &message, None, request_id, etag, message.validate_only)?;
    let row = service.delete_access_policy(caller, &vault, principal, options).await?;
    Ok(encode::access_policy(&row))
}
