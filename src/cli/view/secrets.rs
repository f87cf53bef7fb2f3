//! Secrets, as JSON and as tables. A value is in [`SecretValueView`] and nowhere else.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding as _};
use serde::Serialize;
use strongroom_proto::v1;
use zeroize::Zeroizing;

use super::{
    ChangeView, EnumName, RecoveryView, change_fields, created, optional_time, pairs, sorted, tags_text, word, yes_no,
};
use crate::cli::output::Rows;

/// `strongroom.v1.SecretVersion`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct SecretVersionView {
    name: String,
    content_type: String,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_time: Option<String>,
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<ChangeView>,
    etag: String,
}

impl From<&v1::SecretVersion> for SecretVersionView {
    fn from(version: &v1::SecretVersion) -> Self {
        Self {
            name: version.name.clone(),
            content_type: version.content_type.clone(),
            enabled: version.enabled(),
            not_before_time: optional_time(version.not_before_time.as_ref()),
            expire_time: optional_time(version.expire_time.as_ref()),
            tags: sorted(&version.tags),
            change: version.change.as_ref().map(ChangeView::from),
            etag: version.etag.clone(),
        }
    }
}

impl SecretVersionView {
    fn id(&self) -> String {
        self.name.rsplit('/').next().unwrap_or_default().to_owned()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("version", self.name.clone()),
            ("content type", self.content_type.clone()),
            ("enabled", yes_no(self.enabled).to_owned()),
        ];
        fields.extend(self.not_before_time.clone().map(|time| ("not before", time)));
        fields.extend(self.expire_time.clone().map(|time| ("expires", time)));
        fields.push(("tags", tags_text(&self.tags)));
        fields.extend(change_fields(self.change.as_ref()));
        fields.push(("etag", self.etag.clone()));
        fields
    }
}

impl Rows for SecretVersionView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        pairs(self.fields())
    }
}

/// Several versions.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct SecretVersionList(pub(in crate::cli) Vec<SecretVersionView>);

impl Rows for SecretVersionList {
    fn head(&self) -> Vec<&'static str> {
        vec!["VERSION", "CONTENT TYPE", "ENABLED", "CREATED", "NOT BEFORE", "EXPIRES"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |version: &SecretVersionView| {
            vec![
                version.id(),
                version.content_type.clone(),
                yes_no(version.enabled).to_owned(),
                created(version.change.as_ref()),
                version.not_before_time.clone().unwrap_or_default(),
                version.expire_time.clone().unwrap_or_default(),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

/// `strongroom.v1.Secret`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct SecretView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<SecretVersionView>,
    state: EnumName,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<ChangeView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<RecoveryView>,
    etag: String,
}

impl From<&v1::Secret> for SecretView {
    fn from(secret: &v1::Secret) -> Self {
        Self {
            name: secret.name.clone(),
            version: secret.version.as_ref().map(SecretVersionView::from),
            state: enum_name!(v1::State, secret.state),
            change: secret.change.as_ref().map(ChangeView::from),
            recovery: secret.recovery.as_ref().map(RecoveryView::from),
            etag: secret.etag.clone(),
        }
    }
}

impl Rows for SecretView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut fields = vec![("name", self.name.clone()), ("state", word(&self.state, "STATE_"))];
        if matches!(self.state, EnumName::Known("STATE_DELETED")) {
            fields.extend(change_fields(self.change.as_ref()));
        }
        fields.extend(self.version.iter().flat_map(SecretVersionView::fields));
        fields.extend(self.recovery.iter().map(|recovery| ("recovery", recovery.level.clone())));
        pairs(fields)
    }
}

/// Several secrets.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct SecretList(pub(in crate::cli) Vec<SecretView>);

impl Rows for SecretList {
    fn head(&self) -> Vec<&'static str> {
        vec!["NAME", "CONTENT TYPE", "STATE", "ENABLED", "NEWEST VERSION", "EXPIRES"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |secret: &SecretView| {
            let of_version =
                |field: fn(&SecretVersionView) -> String| secret.version.as_ref().map(field).unwrap_or_default();
            vec![
                secret.name.rsplit('/').next().unwrap_or_default().to_owned(),
                of_version(|version| version.content_type.clone()),
                word(&secret.state, "STATE_"),
                of_version(|version| yes_no(version.enabled).to_owned()),
                of_version(SecretVersionView::id),
                of_version(|version| version.expire_time.clone().unwrap_or_default()),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

/// A value with the version that it is of. Debug would show it, so there is none.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct SecretValueView {
    version: SecretVersionView,
    /// In base64. Absent when it went into a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Zeroizing<String>>,
}

impl SecretValueView {
    /// The version, and the value unless it went elsewhere.
    pub(in crate::cli) fn new(version: &v1::SecretVersion, value: Option<&[u8]>) -> Self {
        let value = value.map(|value| Zeroizing::new(Base64::encode_string(value)));
        Self { version: SecretVersionView::from(version), value }
    }
}
