//! What is stored and sealed of access, beside assignments: roles of one's own, and access policies of vaults.

use std::fmt;

use sha2::{Digest as _, Sha256};
use strongroom_hsm::statement::Canonical;

use super::{
    names::{NameError, VaultName},
    principal::Principal,
    roles::{ActionPattern, RoleId, RolePatterns},
    rows::{Row, RowId, RowKind},
    scope::{ObjectType, Scope},
    time::Timestamp,
};

/// The longest name of a role, in characters.
pub const ROLE_NAME_MAX: usize = 128;
/// The longest description of a role, in characters.
pub const DESCRIPTION_MAX: usize = 1024;
/// The most patterns of one list of a role.
pub const PATTERNS_MAX: usize = 256;
/// The most scopes that a role says it is for.
pub const ASSIGNABLE_MAX: usize = 100;

/// A role that did not come with the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDefinitionRow {
    /// Which role.
    pub id: RoleId,
    /// Its name, unique without regard to case.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it permits.
    pub patterns: RolePatterns,
    /// It can be assigned at these scopes and within them.
    pub assignable_scopes: Vec<Scope>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// The audit log's index of the intent of the newest change: settles an open intent after a crash.
    pub intent: u64,
    /// Grows with every change.
    pub revision: u64,
}

impl RoleDefinitionRow {
    /// Whether its parts are such as can be kept.
    ///
    /// # Errors
    /// The rule that is broken, and by what.
    pub fn check(&self) -> Result<(), NameError> {
        let length = self.name.chars().count();
        if !(1..=ROLE_NAME_MAX).contains(&length) || self.name.trim() != self.name || has_control(&self.name) {
            let rule = "1 to 128 characters, without control characters, and without spaces at either end";
            return Err(NameError { what: "role name", rule, found: self.name.chars().take(200).collect() });
        }
        if self.description.chars().count() > DESCRIPTION_MAX || has_control(&self.description) {
            let found = self.description.chars().take(200).collect();
            return Err(NameError {
                what: "description",
                rule: "at most 1024 characters, none of them control",
                found,
            });
        }
        let lists = self.lists();
        if let Some(longest) = lists.iter().map(|list| list.len()).max().filter(|most| *most > PATTERNS_MAX) {
            let rule = "at most 256 patterns in each list";
            return Err(NameError { what: "role", rule, found: longest.to_string() });
        }
        if !(1..=ASSIGNABLE_MAX).contains(&self.assignable_scopes.len()) {
            let found = self.assignable_scopes.len().to_string();
            return Err(NameError { what: "role", rule: "1 to 100 assignable scopes", found });
        }
        Ok(())
    }

    /// The name that it is unique by.
    #[must_use]
    pub fn folded_name(&self) -> String {
        self.name.to_lowercase()
    }

    /// Its lists of patterns, in the order in which they are sealed.
    #[must_use]
    pub fn lists(&self) -> [&Vec<ActionPattern>; 4] {
        let RolePatterns { actions, not_actions, data_actions, not_data_actions } = &self.patterns;
        [actions, not_actions, data_actions, not_data_actions]
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Items one to a line. None of what is kept so has a line break in it.
pub fn lines<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Row for RoleDefinitionRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::RoleDefinition, id: self.id.bytes() }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        let [actions, not_actions, data_actions, not_data_actions] = self.lists().map(|list| lines(list));
        Canonical::new("strongroom.role-definition.v1")
            .field(1, &self.id.bytes())
            .field(2, self.name.as_bytes())
            .field(3, self.description.as_bytes())
            .field(4, actions.as_bytes())
            .field(5, not_actions.as_bytes())
            .field(6, data_actions.as_bytes())
            .field(7, not_data_actions.as_bytes())
            .field(8, lines(&self.assignable_scopes).as_bytes())
            .optional_number(9, Some(self.created.0))
            .optional_number(10, Some(self.updated.0))
            .number(11, self.revision)
            .number(12, self.intent)
            .finish()
    }
}

/// What access policies can permit with keys (Azure Key Vault's names).
const KEY_PERMISSIONS: &[&str] = &[
    "all",
    "get",
    "list",
    "create",
    "import",
    "update",
    "delete",
    "recover",
    "backup",
    "restore",
    "purge",
    "encrypt",
    "decrypt",
    "wrapKey",
    "unwrapKey",
    "sign",
    "verify",
    "release",
    "rotate",
    "getrotationpolicy",
    "setrotationpolicy",
];
/// With secrets.
const SECRET_PERMISSIONS: &[&str] = &["all", "get", "list", "set", "delete", "recover", "backup", "restore", "purge"];
/// With certificates.
const CERTIFICATE_PERMISSIONS: &[&str] = &[
    "all",
    "get",
    "list",
    "create",
    "import",
    "update",
    "delete",
    "recover",
    "backup",
    "restore",
    "purge",
    "managecontacts",
    "getissuers",
    "listissuers",
    "setissuers",
    "deleteissuers",
    "manageissuers",
];

/// What an access policy permits: some of the permissions of each type of object. `all` is a permission of its own,
/// and permits what comes later too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions([u32; ObjectType::ALL.len()]);

impl Permissions {
    /// The permissions there are for objects of a type.
    #[must_use]
    pub const fn known(kind: ObjectType) -> &'static [&'static str] {
        match kind {
            ObjectType::Keys => KEY_PERMISSIONS,
            ObjectType::Secrets => SECRET_PERMISSIONS,
            ObjectType::Certificates => CERTIFICATE_PERMISSIONS,
        }
    }

    /// Adds one by its name, without regard to case.
    ///
    /// # Errors
    /// When there is no such permission.
    pub fn add(&mut self, kind: ObjectType, name: &str) -> Result<(), NameError> {
        let place = Self::known(kind).iter().position(|known| known.eq_ignore_ascii_case(name));
        let place = place.ok_or_else(|| NameError {
            what: match kind {
                ObjectType::Keys => "permission with keys",
                ObjectType::Secrets => "permission with secrets",
                ObjectType::Certificates => "permission with certificates",
            },
            rule: "see the table in docs/access.md",
            found: name.chars().take(200).collect(),
        })?;
        self.0[kind as usize] |= 1 << place;
        Ok(())
    }

    /// Those with objects of a type, by name, in their order.
    pub fn names(&self, kind: ObjectType) -> impl Iterator<Item = &'static str> {
        let set = self.0[kind as usize];
        Self::known(kind).iter().zip(0..).filter(move |(_, place)| set & (1 << place) != 0).map(|(name, _)| *name)
    }

    /// Whether it permits that: by its name or by `all`.
    #[must_use]
    pub fn permits(&self, kind: ObjectType, name: &str) -> bool {
        self.names(kind).any(|given| given == "all" || given == name)
    }

    /// Whether it permits nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those with objects of a type, as they are kept.
    #[must_use]
    pub fn text(&self, kind: ObjectType) -> String {
        self.names(kind).collect::<Vec<_>>().join(",")
    }

    /// Reads what [`Self::text`] wrote, for each type in its order; nothing else.
    #[must_use]
    pub fn from_texts(texts: [&str; ObjectType::ALL.len()]) -> Option<Self> {
        let mut found = Self::default();
        for (kind, text) in ObjectType::ALL.into_iter().zip(texts) {
            for name in text.split(',').filter(|name| !name.is_empty()) {
                found.add(kind, name).ok()?;
            }
            if found.text(kind) != text {
                return None;
            }
        }
        Some(found)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = ObjectType::ALL.map(|kind| (kind, self.text(kind)));
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(kind, text)| format!("{}={text}", kind.name()))
            .collect();
        f.write_str(&parts.join(" "))
    }
}

/// What somebody may do in a vault that decides by access policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPolicyRow {
    /// Where.
    pub vault: VaultName,
    /// Who: a principal or a group.
    pub principal: Principal,
    /// What.
    pub permissions: Permissions,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// The audit log's index of the intent of the newest change: settles an open intent after a crash.
    pub intent: u64,
    /// Grows with every change.
    pub revision: u64,
}

/// The id of an access policy: what its vault and principal decide.
#[must_use]
pub fn access_policy_id(vault: &VaultName, principal: &Principal) -> [u8; 16] {
    let digest = Sha256::new()
        .chain_update("strongroom.access-policy")
        .chain_update([0])
        .chain_update(vault.as_str())
        .chain_update([0])
        .chain_update(principal.as_str())
        .finalize();
    digest[..16].try_into().expect("a digest has 32 bytes")
}

impl Row for AccessPolicyRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::AccessPolicy, id: access_policy_id(&self.vault, &self.principal) }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.access-policy.v1")
            .field(1, self.vault.as_str().as_bytes())
            .field(2, self.principal.as_str().as_bytes())
            .field(3, self.permissions.text(ObjectType::Keys).as_bytes())
            .field(4, self.permissions.text(ObjectType::Secrets).as_bytes())
            .field(5, self.permissions.text(ObjectType::Certificates).as_bytes())
            .optional_number(6, Some(self.created.0))
            .optional_number(7, Some(self.updated.0))
            .number(8, self.revision)
            .number(9, self.intent)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_come_back_in_their_order() {
        let mut permissions = Permissions::default();
        for name in ["unwrapkey", "get", "GET"] {
            permissions.add(ObjectType::Keys, name).expect("is one");
        }
        permissions.add(ObjectType::Secrets, "all").expect("is one");
        assert_eq!(permissions.to_string(), "keys=get,unwrapKey secrets=all");
        let texts = ObjectType::ALL.map(|kind| permissions.text(kind));
        assert_eq!(Permissions::from_texts(texts.each_ref().map(String::as_str)), Some(permissions));
        for wrong in [["unwrapKey,get", "", ""], ["get,get", "", ""], ["set", "", ""], ["get,", "", ""]] {
            assert_eq!(Permissions::from_texts(wrong), None, "{wrong:?}");
        }
        assert!(permissions.permits(ObjectType::Secrets, "set") && !permissions.permits(ObjectType::Keys, "sign"));
    }

    #[test]
    fn every_permission_is_named_once() {
        for kind in ObjectType::ALL {
            let names: std::collections::HashSet<&str> = Permissions::known(kind).iter().copied().collect();
            assert_eq!(names.len(), Permissions::known(kind).len());
            assert!(names.len() <= 32 && names.contains("all"));
        }
    }
}
