//! How roles and access policies are shown.

use serde::Serialize;
use strongroom_proto::v1;

use super::{EnumName, optional_time, pairs, word};
use crate::cli::output::Rows;

/// `strongroom.v1.RoleDefinition`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RoleView {
    name: String,
    role_name: String,
    description: String,
    r#type: EnumName,
    actions: Vec<String>,
    not_actions: Vec<String>,
    data_actions: Vec<String>,
    not_data_actions: Vec<String>,
    assignable_scopes: Vec<String>,
    permits: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_time: Option<String>,
    etag: String,
}

impl From<&v1::RoleDefinition> for RoleView {
    fn from(role: &v1::RoleDefinition) -> Self {
        Self {
            name: role.name.clone(),
            role_name: role.role_name.clone(),
            description: role.description.clone(),
            r#type: enum_name!(v1::RoleType, role.r#type),
            actions: role.actions.clone(),
            not_actions: role.not_actions.clone(),
            data_actions: role.data_actions.clone(),
            not_data_actions: role.not_data_actions.clone(),
            assignable_scopes: role.assignable_scopes.clone(),
            permits: role.permits.clone(),
            create_time: optional_time(role.create_time.as_ref()),
            update_time: optional_time(role.update_time.as_ref()),
            etag: role.etag.clone(),
        }
    }
}

impl RoleView {
    fn id(&self) -> String {
        self.name.trim_start_matches("roleDefinitions/").to_owned()
    }

    fn kind(&self) -> String {
        word(&self.r#type, "ROLE_TYPE_").replace('_', "-")
    }
}

impl Rows for RoleView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let lines = |items: &[String]| items.join("\n");
        pairs(vec![
            ("id", self.id()),
            ("name", self.role_name.clone()),
            ("description", self.description.clone()),
            ("type", self.kind()),
            ("actions", lines(&self.actions)),
            ("not actions", lines(&self.not_actions)),
            ("data actions", lines(&self.data_actions)),
            ("not data actions", lines(&self.not_data_actions)),
            ("assignable at", lines(&self.assignable_scopes)),
            ("permits", lines(&self.permits)),
            ("etag", self.etag.clone()),
        ])
    }
}

/// Several roles.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct RoleList(pub(in crate::cli) Vec<RoleView>);

impl Rows for RoleList {
    fn head(&self) -> Vec<&'static str> {
        vec!["ID", "NAME", "TYPE", "DESCRIPTION"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |role: &RoleView| vec![role.id(), role.role_name.clone(), role.kind(), role.description.clone()];
        self.0.iter().map(row).collect()
    }
}

/// `strongroom.v1.AccessPolicy`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct PolicyView {
    parent: String,
    principal: String,
    keys: Vec<String>,
    secrets: Vec<String>,
    certificates: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_time: Option<String>,
    etag: String,
}

impl From<&v1::AccessPolicy> for PolicyView {
    fn from(policy: &v1::AccessPolicy) -> Self {
        Self {
            parent: policy.parent.clone(),
            principal: policy.principal.clone(),
            keys: policy.keys.clone(),
            secrets: policy.secrets.clone(),
            certificates: policy.certificates.clone(),
            create_time: optional_time(policy.create_time.as_ref()),
            update_time: optional_time(policy.update_time.as_ref()),
            etag: policy.etag.clone(),
        }
    }
}

impl Rows for PolicyView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        pairs(vec![
            ("vault", self.parent.clone()),
            ("principal", self.principal.clone()),
            ("keys", self.keys.join(" ")),
            ("secrets", self.secrets.join(" ")),
            ("certificates", self.certificates.join(" ")),
            ("etag", self.etag.clone()),
        ])
    }
}

/// Several access policies.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct PolicyList(pub(in crate::cli) Vec<PolicyView>);

impl Rows for PolicyList {
    fn head(&self) -> Vec<&'static str> {
        vec!["PRINCIPAL", "KEYS", "SECRETS", "CERTIFICATES"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |policy: &PolicyView| {
            vec![
                policy.principal.clone(),
                policy.keys.join(" "),
                policy.secrets.join(" "),
                policy.certificates.join(" "),
            ]
        };
        self.0.iter().map(row).collect()
    }
}
