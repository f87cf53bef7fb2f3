//! What came back, as JSON and as tables.
//!
//! JSON is the protobuf JSON form of the message with every field present: lowerCamelCase, bytes in
//! base64, times in RFC 3339, enums by name, 64-bit numbers as strings. Messages that were not sent are
//! absent. Fields may be added; none is renamed or removed.

use std::collections::{BTreeMap, HashMap};

use base64ct::{Base64, Encoding as _};
use prost_types::Timestamp;
use serde::Serialize;
use strongroom_proto::v1;

use super::{output::Rows, parse};

/// An enum by its name in the proto; a number when this program does not know it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum EnumName {
    Known(&'static str),
    Unknown(i32),
}

macro_rules! enum_name {
    ($kind:ty, $value:expr) => {
        <$kind>::try_from($value).map_or(EnumName::Unknown($value), |known| EnumName::Known(known.as_str_name()))
    };
}

pub(super) use enum_name;

/// In RFC 3339. Reckoned with civil times: `jiff::Timestamp` ends a day before the proto's does.
fn time(time: &Timestamp) -> String {
    let since = jiff::SignedDuration::new(time.seconds, time.nanos);
    match jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0).checked_add(since) {
        Ok(time) => format!("{time}Z"),
        Err(_) => format!("@{}", time.seconds),
    }
}

pub(super) fn optional_time(value: Option<&Timestamp>) -> Option<String> {
    value.map(time)
}

fn sorted(tags: &HashMap<String, String>) -> BTreeMap<String, String> {
    tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn tags_text(tags: &BTreeMap<String, String>) -> String {
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// `strongroom.v1.Change`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeView {
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_time: Option<String>,
    revision: String,
}

impl From<&v1::Change> for ChangeView {
    fn from(change: &v1::Change) -> Self {
        Self {
            create_time: optional_time(change.create_time.as_ref()),
            update_time: optional_time(change.update_time.as_ref()),
            delete_time: optional_time(change.delete_time.as_ref()),
            purge_time: optional_time(change.purge_time.as_ref()),
            revision: change.revision.to_string(),
        }
    }
}

impl ChangeView {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let times = [
            ("created", &self.create_time),
            ("updated", &self.update_time),
            ("deleted", &self.delete_time),
            ("purged from", &self.purge_time),
        ];
        times.into_iter().filter_map(|(name, time)| Some((name, time.clone()?))).collect()
    }
}

fn change_fields(change: Option<&ChangeView>) -> Vec<(&'static str, String)> {
    change.map(ChangeView::fields).unwrap_or_default()
}

fn created(change: Option<&ChangeView>) -> String {
    change.and_then(|change| change.create_time.clone()).unwrap_or_default()
}

/// `STATE_ACTIVE` is `active` to people.
pub(super) fn word(name: &EnumName, prefix: &str) -> String {
    match name {
        EnumName::Known(name) => name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase(),
        EnumName::Unknown(number) => format!("unknown ({number})"),
    }
}

pub(super) fn pairs(fields: Vec<(&'static str, String)>) -> Vec<Vec<String>> {
    fields.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

/// `strongroom.v1.NetworkRules`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NetworkView {
    public_access: bool,
    allowed_ranges: Vec<String>,
    local_access: bool,
}

impl From<&v1::NetworkRules> for NetworkView {
    fn from(rules: &v1::NetworkRules) -> Self {
        Self {
            public_access: rules.public_access(),
            allowed_ranges: rules.allowed_ranges.clone(),
            local_access: rules.local_access(),
        }
    }
}

impl NetworkView {
    fn fields(&self) -> [(&'static str, String); 2] {
        let addresses = match (self.public_access, self.allowed_ranges.as_slice()) {
            (true, _) => "any".to_owned(),
            (false, []) => "none".to_owned(),
            (false, ranges) => ranges.join(", "),
        };
        let local = if self.local_access { "allowed" } else { "refused" };
        [("allowed addresses", addresses), ("local access", local.to_owned())]
    }
}

/// `strongroom.v1.Vault`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VaultView {
    name: String,
    tags: BTreeMap<String, String>,
    retention_days: i32,
    purge_protection: bool,
    padding_decryption_allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkView>,
    authorization: EnumName,
    max_staleness_seconds: i32,
    own_kek: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    kek_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kek_time: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    retired_kek_ids: Vec<String>,
    state: EnumName,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<ChangeView>,
    etag: String,
}

impl From<&v1::Vault> for VaultView {
    fn from(vault: &v1::Vault) -> Self {
        Self {
            name: vault.name.clone(),
            tags: sorted(&vault.tags),
            retention_days: vault.retention_days,
            purge_protection: vault.purge_protection,
            padding_decryption_allowed: vault.padding_decryption_allowed,
            network: vault.network.as_ref().map(NetworkView::from),
            authorization: enum_name!(v1::VaultAuthorization, vault.authorization),
            max_staleness_seconds: vault.max_staleness_seconds,
            own_kek: vault.own_kek,
            kek_id: vault.kek_id.clone(),
            kek_time: optional_time(vault.kek_time.as_ref()),
            retired_kek_ids: vault.retired_kek_ids.clone(),
            state: enum_name!(v1::State, vault.state),
            change: vault.change.as_ref().map(ChangeView::from),
            etag: vault.etag.clone(),
        }
    }
}

impl Rows for VaultView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut fields = vec![
            ("name", self.name.clone()),
            ("state", word(&self.state, "STATE_")),
            ("retention", format!("{} days", self.retention_days)),
            ("purge protection", on_off(self.purge_protection).to_owned()),
            ("padding decryption", if self.padding_decryption_allowed { "allowed" } else { "refused" }.to_owned()),
        ];
        fields.extend(self.network.iter().flat_map(NetworkView::fields));
        fields.push(("authorization", word(&self.authorization, "VAULT_AUTHORIZATION_").replace('_', " ")));
        fields.push(("max staleness", format!("{} s", self.max_staleness_seconds)));
        let kek = if self.own_kek { format!("its own, {} on the token", self.kek_id) } else { "root".to_owned() };
        fields.push(("keys wrapped under", kek));
        fields.extend(self.kek_time.clone().map(|since| ("since", since)));
        if !self.retired_kek_ids.is_empty() {
            fields.push(("old versions under", self.retired_kek_ids.join(" ")));
        }
        fields.push(("tags", tags_text(&self.tags)));
        fields.extend(change_fields(self.change.as_ref()));
        fields.push(("etag", self.etag.clone()));
        pairs(fields)
    }
}

const fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

const fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Several vaults.
#[derive(Debug, Serialize)]
pub(super) struct VaultList(pub(super) Vec<VaultView>);

impl Rows for VaultList {
    fn head(&self) -> Vec<&'static str> {
        vec!["NAME", "STATE", "RETENTION", "PURGE PROTECTION", "CREATED"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |vault: &VaultView| {
            vec![
                vault.name.trim_start_matches("vaults/").to_owned(),
                word(&vault.state, "STATE_"),
                format!("{} days", vault.retention_days),
                on_off(vault.purge_protection).to_owned(),
                created(vault.change.as_ref()),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

/// A version's operations by their JWK names; those this program does not know are left out.
pub(super) fn operation_names(version: &v1::KeyVersion) -> Vec<&'static str> {
    version.key_operations().filter_map(parse::operation_name).collect()
}

/// `RSA-2048`, `EC P-256`, `oct-256`.
fn kind(version: &v1::KeyVersion) -> String {
    match version.key_type() {
        v1::KeyType::Rsa => format!("RSA-{}", version.key_size),
        v1::KeyType::Oct => format!("oct-{}", version.key_size),
        v1::KeyType::Ec => match version.curve() {
            v1::Curve::P256 => "EC P-256".to_owned(),
            v1::Curve::P384 => "EC P-384".to_owned(),
            v1::Curve::P521 => "EC P-521".to_owned(),
            v1::Curve::P256k => "EC P-256K".to_owned(),
            v1::Curve::Ed25519 | v1::Curve::Unspecified => "EC".to_owned(),
        },
        v1::KeyType::Okp => match version.curve() {
            v1::Curve::Ed25519 => "OKP Ed25519".to_owned(),
            _ => "OKP".to_owned(),
        },
        v1::KeyType::Unspecified => "unknown".to_owned(),
    }
}

/// `strongroom.v1.KeyVersion`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionView {
    name: String,
    key_type: EnumName,
    key_size: i32,
    curve: EnumName,
    key_operations: Vec<EnumName>,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_time: Option<String>,
    tags: BTreeMap<String, String>,
    residency: EnumName,
    public_key: String,
    algorithms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<ChangeView>,
    etag: String,
    imported: bool,
    state: EnumName,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#use: Option<VersionUseView>,
    #[serde(skip)]
    kind: String,
    #[serde(skip)]
    operations: String,
}

impl From<&v1::KeyVersion> for VersionView {
    fn from(version: &v1::KeyVersion) -> Self {
        let operation = |number: &i32| enum_name!(v1::KeyOperation, *number);
        Self {
            name: version.name.clone(),
            key_type: enum_name!(v1::KeyType, version.key_type),
            key_size: version.key_size,
            curve: enum_name!(v1::Curve, version.curve),
            key_operations: version.key_operations.iter().map(operation).collect(),
            enabled: version.enabled(),
            not_before_time: optional_time(version.not_before_time.as_ref()),
            expire_time: optional_time(version.expire_time.as_ref()),
            tags: sorted(&version.tags),
            residency: enum_name!(v1::Residency, version.residency),
            public_key: Base64::encode_string(&version.public_key),
            algorithms: version.algorithms.clone(),
            change: version.change.as_ref().map(ChangeView::from),
            etag: version.etag.clone(),
            imported: version.imported,
            state: enum_name!(v1::State, version.state),
            r#use: version.r#use.as_ref().map(VersionUseView::from),
            kind: kind(version),
            operations: operation_names(version).join(", "),
        }
    }
}

impl VersionView {
    fn used(&self, field: impl Fn(&VersionUseView) -> String) -> String {
        self.r#use.as_ref().map(field).unwrap_or_default()
    }

    fn id(&self) -> String {
        self.name.rsplit('/').next().unwrap_or_default().to_owned()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("version", self.name.clone()),
            ("type", self.kind.clone()),
            ("operations", self.operations.clone()),
            ("algorithms", self.algorithms.join(", ")),
            ("enabled", yes_no(self.enabled).to_owned()),
        ];
        fields.extend(self.not_before_time.clone().map(|time| ("not before", time)));
        fields.extend(self.expire_time.clone().map(|time| ("expires", time)));
        fields.push(("residency", word(&self.residency, "RESIDENCY_")));
        fields.push(("imported", yes_no(self.imported).to_owned()));
        fields.push(("tags", tags_text(&self.tags)));
        fields.extend(change_fields(self.change.as_ref()));
        fields.push(("etag", self.etag.clone()));
        fields
    }
}

impl Rows for VersionView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        pairs(self.fields())
    }
}

/// Several versions.
#[derive(Debug, Serialize)]
pub(super) struct VersionList(pub(super) Vec<VersionView>);

impl Rows for VersionList {
    fn head(&self) -> Vec<&'static str> {
        vec![
            "VERSION",
            "TYPE",
            "STATE",
            "ENABLED",
            "RESIDENCY",
            "CREATED",
            "NOT BEFORE",
            "EXPIRES",
            "LAST USED",
            "USES",
            "SINCE",
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |version: &VersionView| {
            vec![
                version.id(),
                version.kind.clone(),
                word(&version.state, "STATE_"),
                yes_no(version.enabled).to_owned(),
                word(&version.residency, "RESIDENCY_"),
                created(version.change.as_ref()),
                version.not_before_time.clone().unwrap_or_default(),
                version.expire_time.clone().unwrap_or_default(),
                version.used(|used| used.last_use_time.clone().unwrap_or_else(|| "never".to_owned())),
                version.used(|used| used.uses.clone()),
                version.used(|used| used.recorded_since_time.clone().unwrap_or_default()),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

/// `strongroom.v1.KeyVersionUse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionUseView {
    #[serde(skip_serializing_if = "Option::is_none")]
    last_use_time: Option<String>,
    uses: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_since_time: Option<String>,
}

impl From<&v1::KeyVersionUse> for VersionUseView {
    fn from(used: &v1::KeyVersionUse) -> Self {
        Self {
            last_use_time: optional_time(used.last_use_time.as_ref()),
            uses: used.uses.to_string(),
            recorded_since_time: optional_time(used.recorded_since_time.as_ref()),
        }
    }
}

/// `strongroom.v1.Recovery`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecoveryView {
    level: String,
    retention_days: i32,
}

/// `strongroom.v1.Key`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<VersionView>,
    state: EnumName,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<ChangeView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<RecoveryView>,
    etag: String,
}

impl From<&v1::Recovery> for RecoveryView {
    fn from(recovery: &v1::Recovery) -> Self {
        Self { level: recovery.level.clone(), retention_days: recovery.retention_days }
    }
}

impl From<&v1::Key> for KeyView {
    fn from(key: &v1::Key) -> Self {
        Self {
            name: key.name.clone(),
            version: key.version.as_ref().map(VersionView::from),
            state: enum_name!(v1::State, key.state),
            change: key.change.as_ref().map(ChangeView::from),
            recovery: key.recovery.as_ref().map(RecoveryView::from),
            etag: key.etag.clone(),
        }
    }
}

impl Rows for KeyView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut fields = vec![("name", self.name.clone()), ("state", word(&self.state, "STATE_"))];
        if matches!(self.state, EnumName::Known("STATE_DELETED")) {
            fields.extend(change_fields(self.change.as_ref()));
        }
        fields.extend(self.version.iter().flat_map(VersionView::fields));
        fields.extend(self.recovery.iter().map(|recovery| ("recovery", recovery.level.clone())));
        pairs(fields)
    }
}

/// Several keys.
#[derive(Debug, Serialize)]
pub(super) struct KeyList(pub(super) Vec<KeyView>);

impl Rows for KeyList {
    fn head(&self) -> Vec<&'static str> {
        vec!["NAME", "TYPE", "STATE", "ENABLED", "NEWEST VERSION", "EXPIRES"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |key: &KeyView| {
            let of_version = |field: fn(&VersionView) -> String| key.version.as_ref().map(field).unwrap_or_default();
            vec![
                key.name.rsplit('/').next().unwrap_or_default().to_owned(),
                of_version(|version| version.kind.clone()),
                word(&key.state, "STATE_"),
                of_version(|version| yes_no(version.enabled).to_owned()),
                of_version(VersionView::id),
                of_version(|version| version.expire_time.clone().unwrap_or_default()),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

/// `strongroom.v1.RoleAssignment`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AssignmentView {
    name: String,
    principal: String,
    role: String,
    role_name: String,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
}

impl From<&v1::RoleAssignment> for AssignmentView {
    fn from(assignment: &v1::RoleAssignment) -> Self {
        Self {
            name: assignment.name.clone(),
            principal: assignment.principal.clone(),
            role: assignment.role.clone(),
            role_name: assignment.role_name.clone(),
            scope: assignment.scope.clone(),
            create_time: optional_time(assignment.create_time.as_ref()),
        }
    }
}

impl AssignmentView {
    pub(super) fn row(&self) -> [String; 5] {
        [
            self.name.trim_start_matches("roleAssignments/").to_owned(),
            self.principal.clone(),
            self.role_name.clone(),
            self.scope.clone(),
            self.create_time.clone().unwrap_or_default(),
        ]
    }
}

impl Rows for AssignmentView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        pairs(["id", "principal", "role", "scope", "created"].into_iter().zip(self.row()).collect())
    }
}

/// Several role assignments.
#[derive(Debug, Serialize)]
pub(super) struct AssignmentList(pub(super) Vec<AssignmentView>);

impl Rows for AssignmentList {
    fn head(&self) -> Vec<&'static str> {
        vec!["ID", "PRINCIPAL", "ROLE", "SCOPE", "CREATED"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.0.iter().map(|assignment| assignment.row().to_vec()).collect()
    }
}

/// `strongroom.v1.Token`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenView {
    name: String,
    principal: String,
    creator: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_time: Option<String>,
}

impl From<&v1::Token> for TokenView {
    fn from(token: &v1::Token) -> Self {
        Self {
            name: token.name.clone(),
            principal: token.principal.clone(),
            creator: token.creator.clone(),
            create_time: optional_time(token.create_time.as_ref()),
            expire_time: optional_time(token.expire_time.as_ref()),
        }
    }
}

impl TokenView {
    fn row(&self) -> [String; 5] {
        [
            self.name.trim_start_matches("tokens/").to_owned(),
            self.principal.clone(),
            self.creator.clone(),
            self.create_time.clone().unwrap_or_default(),
            self.expire_time.clone().unwrap_or_default(),
        ]
    }
}

impl Rows for TokenView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        pairs(["id", "principal", "creator", "created", "expires"].into_iter().zip(self.row()).collect())
    }
}

/// Several tokens.
#[derive(Debug, Serialize)]
pub(super) struct TokenList(pub(super) Vec<TokenView>);

impl Rows for TokenList {
    fn head(&self) -> Vec<&'static str> {
        vec!["ID", "PRINCIPAL", "CREATOR", "CREATED", "EXPIRES"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.0.iter().map(|token| token.row().to_vec()).collect()
    }
}

/// What an operation with a key has to say besides its output.
#[derive(Debug, Serialize)]
pub(super) struct UseView {
    /// The version that was used.
    pub(super) name: String,
    /// By which algorithm.
    pub(super) algorithm: &'static str,
    /// `key verify` only: whether the signature is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) valid: Option<bool>,
}

impl Rows for UseView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut fields = vec![("version", self.name.clone()), ("algorithm", self.algorithm.to_owned())];
        fields.extend(self.valid.map(|valid| ("signature", if valid { "right" } else { "WRONG" }.to_owned())));
        pairs(fields)
    }
}

mod roles;
mod secrets;

pub(super) use roles::{PolicyList, PolicyView, RoleList, RoleView};
pub(super) use secrets::{SecretList, SecretValueView, SecretVersionList, SecretVersionView, SecretView};

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> v1::Key {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let change = v1::Change { create_time: at(0), update_time: at(86_400), revision: 2, ..v1::Change::default() };
        v1::Key {
            name: "vaults/dev/keys/k".into(),
            version: Some(v1::KeyVersion {
                name: "vaults/dev/keys/k/versions/00".into(),
                key_type: v1::KeyType::Ec.into(),
                key_size: 256,
                curve: v1::Curve::P256.into(),
                key_operations: vec![v1::KeyOperation::Sign.into(), 99],
                enabled: Some(true),
                expire_time: at(253_402_300_799),
                tags: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
                residency: v1::Residency::Wrapped.into(),
                public_key: vec![0xff],
                algorithms: vec!["ES256".into()],
                change: Some(change),
                etag: "v".into(),
                ..v1::KeyVersion::default()
            }),
            state: v1::State::Active.into(),
            change: Some(change),
            recovery: Some(v1::Recovery { level: "Recoverable".into(), retention_days: 90 }),
            etag: "k".into(),
        }
    }

    #[test]
    fn a_key_is_this_json() {
        let expected = concat!(
            r#"{"name":"vaults/dev/keys/k","version":{"name":"vaults/dev/keys/k/versions/00","keyType":"KEY_TYPE_EC","#,
            r#""keySize":256,"curve":"CURVE_P256","keyOperations":["KEY_OPERATION_SIGN",99],"enabled":true,"#,
            r#""expireTime":"9999-12-31T23:59:59Z","tags":{"a":"1","b":"2"},"residency":"RESIDENCY_WRAPPED","#,
            r#""publicKey":"/w==","algorithms":["ES256"],"change":{"createTime":"1970-01-01T00:00:00Z","#,
            r#""updateTime":"1970-01-02T00:00:00Z","revision":"2"},"etag":"v","imported":false,"state":"STATE_UNSPECIFIED"},"state":"STATE_ACTIVE","#,
            r#""change":{"createTime":"1970-01-01T00:00:00Z","updateTime":"1970-01-02T00:00:00Z","revision":"2"},"#,
            r#""recovery":{"level":"Recoverable","retentionDays":90},"etag":"k"}"#,
        );
        assert_eq!(serde_json::to_string(&KeyView::from(&key())).expect("JSON"), expected);
    }

    #[test]
    fn a_vault_is_this_json() {
        let vault = v1::Vault { name: "vaults/dev".into(), retention_days: 7, state: 2, ..v1::Vault::default() };
        let expected = r#"{"name":"vaults/dev","tags":{},"retentionDays":7,"purgeProtection":false,"paddingDecryptionAllowed":false,"authorization":"VAULT_AUTHORIZATION_UNSPECIFIED","maxStalenessSeconds":0,"ownKek":false,"state":"STATE_DELETED","etag":""}"#;
        assert_eq!(serde_json::to_string(&VaultView::from(&vault)).expect("JSON"), expected);
    }

    #[test]
    fn an_assignment_is_this_json() {
        let assignment = v1::RoleAssignment {
            name: "roleAssignments/00".into(),
            principal: "spiffe://a/b".into(),
            role: "roleDefinitions/01".into(),
            scope: "vaults/dev".into(),
            create_time: None,
            role_name: "Key Vault Reader".into(),
        };
        let expected = r#"{"name":"roleAssignments/00","principal":"spiffe://a/b","role":"roleDefinitions/01","roleName":"Key Vault Reader","scope":"vaults/dev"}"#;
        assert_eq!(serde_json::to_string(&AssignmentView::from(&assignment)).expect("JSON"), expected);
    }

    #[test]
    fn tables_say_it_in_words() {
        let view = KeyView::from(&key());
        let rows: Vec<String> = view.rows().iter().map(|row| row.join(": ")).collect();
        assert!(rows.contains(&"type: EC P-256".to_owned()), "{rows:?}");
        assert!(rows.contains(&"residency: wrapped".to_owned()), "{rows:?}");
        let list = KeyList(vec![view]);
        assert_eq!(list.rows()[0].len(), list.head().len());
    }
}
