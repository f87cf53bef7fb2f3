//! The table of actions: what can be done, and what it is called, here and in Azure.
//!
//! An action answers to its own name (`keys.sign`), which audit records, metrics and errors show, and to Azure's:
//! those of Key Vault and Azure Resource Manager, those of Managed HSM, and those of a vault's access policies.
//! Several of ours may answer to one of Azure's (`keys.read` and `keys.list` both to `keys/read`), because an
//! access policy parts what a role does not. Where an action names several, a role must hold all of them: to make
//! a data key and see it is to wrap and to unwrap.

/// Whether an action administers or uses what is in a vault. In a vault with access policies the latter are
/// decided by these alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Vaults, roles, policies, the service itself.
    Control,
    /// What is in a vault, and random bytes.
    Data,
}

/// One action's row.
struct Entry {
    name: &'static str,
    plane: Plane,
    azure: &'static [&'static str],
    managed_hsm: &'static [&'static str],
    policy: &'static [&'static str],
}

macro_rules! actions {
    ($($action:ident $name:literal $plane:ident $azure:tt $hsm:tt $policy:tt;)*) => {
        /// Something that can be done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $(#[doc = concat!("`", $name, "`.")] $action,)*
        }

        const TABLE: &[Entry] = &[
            $(Entry { name: $name, plane: Plane::$plane, azure: &$azure, managed_hsm: &$hsm, policy: &$policy },)*
        ];

        impl Action {
            /// Every action.
            pub const ALL: [Self; TABLE.len()] = [$(Self::$action),*];
        }

        /// An operation as a type: what a grant is for.
        pub trait Op: Send + Sync + 'static {
            /// The action it needs.
            const ACTION: Action;
        }

        /// The operations as types.
        pub mod ops {
            $(
                #[doc = concat!("The operation `", $name, "`.")]
                #[derive(Debug)]
                pub struct $action;

                impl super::Op for $action {
                    const ACTION: super::Action = super::Action::$action;
                }
            )*
        }
    };
}

// Ours, what it is called; whether it administers; Azure's names: of Key Vault and Resource Manager, of Managed HSM
// (below `Microsoft.KeyVault/managedHsm/`), of access policies.
actions! {
    VaultsCreate "vaults.create" Control ["Microsoft.KeyVault/vaults/write"] [] [];
    VaultsRead "vaults.read" Control ["Microsoft.KeyVault/vaults/read"] [] [];
    VaultsUpdate "vaults.update" Control ["Microsoft.KeyVault/vaults/write"] [] [];
    VaultsDelete "vaults.delete" Control ["Microsoft.KeyVault/vaults/delete"] [] [];
    VaultsUndelete "vaults.undelete" Control ["Microsoft.KeyVault/vaults/write"] [] [];
    VaultsPurge "vaults.purge" Control ["Microsoft.KeyVault/locations/deletedVaults/purge/action"] [] [];
    // What Azure wraps a vault's keys under it rotates itself.
    VaultsRotateKek "vaults.rotateKek" Control [] [] [];

    KeysCreate "keys.create" Data ["Microsoft.KeyVault/vaults/keys/create/action"] ["keys/create"] ["keys/create"];
    KeysImport "keys.import" Data
        ["Microsoft.KeyVault/vaults/keys/import/action"] ["keys/import/action"] ["keys/import"];
    KeysRead "keys.read" Data ["Microsoft.KeyVault/vaults/keys/read"] ["keys/read/action"] ["keys/get"];
    KeysList "keys.list" Data ["Microsoft.KeyVault/vaults/keys/read"] ["keys/read/action"] ["keys/list"];
    KeysUpdate "keys.update" Data
        ["Microsoft.KeyVault/vaults/keys/update/action"] ["keys/write/action"] ["keys/update"];
    KeysDelete "keys.delete" Data ["Microsoft.KeyVault/vaults/keys/delete"] ["keys/delete"] ["keys/delete"];
    KeysUndelete "keys.undelete" Data
        ["Microsoft.KeyVault/vaults/keys/recover/action"] ["keys/deletedKeys/recover/action"] ["keys/recover"];
    KeysPurge "keys.purge" Data
        ["Microsoft.KeyVault/vaults/keys/purge/action"] ["keys/deletedKeys/delete"] ["keys/purge"];
    KeysBackup "keys.backup" Data
        ["Microsoft.KeyVault/vaults/keys/backup/action"] ["keys/backup/action"] ["keys/backup"];
    KeysRestore "keys.restore" Data
        ["Microsoft.KeyVault/vaults/keys/restore/action"] ["keys/restore/action"] ["keys/restore"];
    // Azure moves no keys. Who may back a key up, delete and purge it could take it away; where it comes to, `keys.restore`
    // is asked for.
    KeysMove "keys.move" Data
        [
            "Microsoft.KeyVault/vaults/keys/backup/action",
            "Microsoft.KeyVault/vaults/keys/delete",
            "Microsoft.KeyVault/vaults/keys/purge/action",
        ]
        ["keys/backup/action", "keys/delete", "keys/deletedKeys/delete"] ["keys/backup", "keys/delete", "keys/purge"];
    KeysRotate "keys.rotate" Data
        ["Microsoft.KeyVault/vaults/keys/rotate/action"] ["keys/rotate/action"] ["keys/rotate"];
    RotationPoliciesRead "rotationPolicies.read" Data
        ["Microsoft.KeyVault/vaults/keyrotationpolicies/read"] ["keys/read/action"] ["keys/getrotationpolicy"];
    RotationPoliciesUpdate "rotationPolicies.update" Data
        ["Microsoft.KeyVault/vaults/keyrotationpolicies/write"] ["keys/write/action"] ["keys/setrotationpolicy"];
    KeysSign "keys.sign" Data ["Microsoft.KeyVault/vaults/keys/sign/action"] ["keys/sign/action"] ["keys/sign"];
    KeysVerify "keys.verify" Data
        ["Microsoft.KeyVault/vaults/keys/verify/action"] ["keys/verify/action"] ["keys/verify"];
    KeysEncrypt "keys.encrypt" Data
        ["Microsoft.KeyVault/vaults/keys/encrypt/action"] ["keys/encrypt/action"] ["keys/encrypt"];
    KeysDecrypt "keys.decrypt" Data
        ["Microsoft.KeyVault/vaults/keys/decrypt/action"] ["keys/decrypt/action"] ["keys/decrypt"];
    KeysWrap "keys.wrap" Data ["Microsoft.KeyVault/vaults/keys/wrap/action"] ["keys/wrap/action"] ["keys/wrapKey"];
    KeysUnwrap "keys.unwrap" Data
        ["Microsoft.KeyVault/vaults/keys/unwrap/action"] ["keys/unwrap/action"] ["keys/unwrapKey"];

    // Azure has no data keys. Who may wrap and unwrap could make one and unwrap it, so who may do both may see it;
    // who may only wrap gets it wrapped.
    DataKeysGenerate "dataKeys.generate" Data
        ["Microsoft.KeyVault/vaults/keys/wrap/action", "Microsoft.KeyVault/vaults/keys/unwrap/action"]
        ["keys/wrap/action", "keys/unwrap/action"] ["keys/wrapKey", "keys/unwrapKey"];
    DataKeysGenerateWrapped "dataKeys.generateWrapped" Data
        ["Microsoft.KeyVault/vaults/keys/wrap/action"] ["keys/wrap/action"] ["keys/wrapKey"];
    RandomGenerate "random.generate" Data [] ["rng/action"] [];

    SecretsSet "secrets.set" Data ["Microsoft.KeyVault/vaults/secrets/setSecret/action"] [] ["secrets/set"];
    // The value.
    SecretsGet "secrets.get" Data ["Microsoft.KeyVault/vaults/secrets/getSecret/action"] [] ["secrets/get"];
    // All but the value: an access policy has no word for it, and who may have the value may see what it is.
    SecretsRead "secrets.read" Data ["Microsoft.KeyVault/vaults/secrets/readMetadata/action"] [] ["secrets/get"];
    SecretsList "secrets.list" Data ["Microsoft.KeyVault/vaults/secrets/readMetadata/action"] [] ["secrets/list"];
    SecretsUpdate "secrets.update" Data ["Microsoft.KeyVault/vaults/secrets/update/action"] [] ["secrets/set"];
    SecretsDelete "secrets.delete" Data ["Microsoft.KeyVault/vaults/secrets/delete"] [] ["secrets/delete"];
    SecretsUndelete "secrets.undelete" Data
        ["Microsoft.KeyVault/vaults/secrets/recover/action"] [] ["secrets/recover"];
    SecretsPurge "secrets.purge" Data ["Microsoft.KeyVault/vaults/secrets/purge/action"] [] ["secrets/purge"];
    SecretsBackup "secrets.backup" Data ["Microsoft.KeyVault/vaults/secrets/backup/action"] [] ["secrets/backup"];
    SecretsRestore "secrets.restore" Data ["Microsoft.KeyVault/vaults/secrets/restore/action"] [] ["secrets/restore"];

    RoleDefinitionsRead "roleDefinitions.read" Control
        ["Microsoft.Authorization/roleDefinitions/read"] ["roleDefinitions/read/action"] [];
    RoleDefinitionsCreate "roleDefinitions.create" Control
        ["Microsoft.Authorization/roleDefinitions/write"] ["roleDefinitions/write/action"] [];
    RoleDefinitionsUpdate "roleDefinitions.update" Control
        ["Microsoft.Authorization/roleDefinitions/write"] ["roleDefinitions/write/action"] [];
    RoleDefinitionsDelete "roleDefinitions.delete" Control
        ["Microsoft.Authorization/roleDefinitions/delete"] ["roleDefinitions/delete/action"] [];
    RoleAssignmentsRead "roleAssignments.read" Control
        ["Microsoft.Authorization/roleAssignments/read"] ["roleAssignments/read/action"] [];
    RoleAssignmentsCreate "roleAssignments.create" Control
        ["Microsoft.Authorization/roleAssignments/write"] ["roleAssignments/write/action"] [];
    RoleAssignmentsDelete "roleAssignments.delete" Control
        ["Microsoft.Authorization/roleAssignments/delete"] ["roleAssignments/delete/action"] [];
    // To assign, or take away, roles that administer too: what a Data Access Administrator may not.
    RoleAssignmentsDelegate "roleAssignments.delegate" Control
        ["Microsoft.Authorization/roleAssignments/write"] ["roleAssignments/write/action"] [];
    AccessPoliciesRead "accessPolicies.read" Control ["Microsoft.KeyVault/vaults/accessPolicies/read"] [] [];
    AccessPoliciesUpdate "accessPolicies.update" Control ["Microsoft.KeyVault/vaults/accessPolicies/write"] [] [];
    AccessPoliciesDelete "accessPolicies.delete" Control ["Microsoft.KeyVault/vaults/accessPolicies/write"] [] [];

    // Azure's tokens are Entra ID's. To issue one is to have every right that is assigned to any name of a token.
    TokensCreate "tokens.create" Control [] [] [];
    TokensRead "tokens.read" Control [] [] [];
    TokensRevoke "tokens.revoke" Control [] [] [];

    // Azure's own keys are Azure's business, as its replicas are.
    OwnKeysRead "ownKeys.read" Control [] [] [];
    OwnKeysRotateIssuer "ownKeys.rotateIssuer" Control [] [] [];
    OwnKeysRotateRoot "ownKeys.rotateRoot" Control [] [] [];
    OwnKeysRotateLog "ownKeys.rotateLog" Control [] [] [];
    ReplicasRead "replicas.read" Control [] [] [];

    BackupsCreate "backups.create" Control [] ["backup/start/action"] [];
    BackupsRead "backups.read" Control [] ["backup/status/action"] [];

    // Azure's events are Event Grid's.
    EventsRead "events.read" Control [] [] [];
    WebhooksRead "webhooks.read" Control [] [] [];
    WebhooksReplay "webhooks.replay" Control [] [] [];

    // Azure's logs are Azure Monitor's: whoever reads keys or roles there reads nothing of them.
    AuditRecordsRead "auditRecords.read" Control [] [] [];
}

/// How data actions of Managed HSM begin.
pub const MANAGED_HSM: &str = "Microsoft.KeyVault/managedHsm/";

impl Action {
    const fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// The name, `{noun}.{verb}`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// The action of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Whether it administers.
    #[must_use]
    pub const fn plane(self) -> Plane {
        self.entry().plane
    }

    /// Azure Key Vault's and Resource Manager's names for it: all of them are needed.
    #[must_use]
    pub const fn azure(self) -> &'static [&'static str] {
        self.entry().azure
    }

    /// Managed HSM's names for it, without [`MANAGED_HSM`]: all of them are needed.
    #[must_use]
    pub const fn managed_hsm(self) -> &'static [&'static str] {
        self.entry().managed_hsm
    }

    /// The permissions of an access policy that it needs, as `{type}/{permission}`.
    #[must_use]
    pub const fn policy(self) -> &'static [&'static str] {
        self.entry().policy
    }

    /// Whether it hands out a secret that was made or is kept here: its record is on the disk before the answer.
    #[must_use]
    pub const fn releases_secret(self) -> bool {
        matches!(self, Self::DataKeysGenerate | Self::SecretsGet)
    }

    /// Whether its answer waits until it is in force everywhere: it may take from somebody what he could do until then, or
    /// give what he will use at once.
    #[must_use]
    pub const fn waits_for_all(self) -> bool {
        matches!(self, Self::KeysUpdate | Self::KeysDelete | Self::KeysMove | Self::SecretsUpdate | Self::SecretsDelete)
            || (matches!(self.plane(), Plane::Control) && !self.reads())
    }

    /// Whether it only shows what there is.
    const fn reads(self) -> bool {
        matches!(
            self,
            Self::VaultsRead
                | Self::RoleDefinitionsRead
                | Self::RoleAssignmentsRead
                | Self::AccessPoliciesRead
                | Self::TokensRead
                | Self::OwnKeysRead
                | Self::AuditRecordsRead
                | Self::EventsRead
                | Self::WebhooksRead
                | Self::ReplicasRead
                | Self::BackupsRead
        )
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights(u128);

// One bit for each.
const _: () = assert!(Action::ALL.len() <= 128);

impl Rights {
    /// None.
    pub const NONE: Self = Self(0);
    /// Those that administer.
    pub const CONTROL: Self = Self::chosen(false);
    /// Those that administer and change something: what nobody hands on who does not hold it.
    pub const ADMINISTRATIVE: Self = Self::chosen(true);

    const fn chosen(changes_only: bool) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < Action::ALL.len() {
            let action = Action::ALL[at];
            if matches!(action.plane(), Plane::Control) && !(changes_only && action.reads()) {
                set |= 1 << at;
            }
            at += 1;
        }
        Self(set)
    }

    /// One action.
    #[must_use]
    pub const fn of(action: Action) -> Self {
        Self(1 << action as u32)
    }

    /// Those of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that the other has not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, action: Action) -> bool {
        self.0 & Self::of(action).0 != 0
    }

    /// Whether all of the other are among them.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the table's order.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.has(*action))
    }
}

impl FromIterator<Action> for Rights {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        actions.into_iter().fold(Self::NONE, |set, action| set.union(Self::of(action)))
    }
}

impl std::fmt::Display for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.iter().map(Action::name).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_come_back() {
        let names: HashSet<&str> = Action::ALL.into_iter().map(Action::name).collect();
        assert_eq!(names.len(), Action::ALL.len());
        for action in Action::ALL {
            assert_eq!(Action::from_name(action.name()), Some(action));
            assert_eq!(Rights::of(action).iter().collect::<Vec<_>>(), [action]);
            let (noun, verb) = action.name().split_once('.').expect("{noun}.{verb}");
            assert!(!noun.is_empty() && verb.chars().all(|c| c.is_ascii_alphabetic()), "{}", action.name());
        }
    }

    #[test]
    fn what_administers_is_no_data_action_of_azure_and_the_other_way_round() {
        for action in Action::ALL {
            let control = action.plane() == Plane::Control;
            assert_eq!(Rights::CONTROL.has(action), control, "{}", action.name());
            for name in action.azure() {
                let data = ["/keys/", "/keyrotationpolicies/", "/secrets/", "/certificates/"]
                    .iter()
                    .any(|part| name.contains(part));
                assert_eq!(data, !control, "{name}");
            }
            assert!(!control || action.policy().is_empty(), "access policies administer nothing");
        }
        assert!(!Rights::ADMINISTRATIVE.has(Action::VaultsRead) && Rights::ADMINISTRATIVE.has(Action::VaultsUpdate));
        assert!(Rights::CONTROL.contains(Rights::ADMINISTRATIVE));
    }

    #[test]
    fn the_two_forms_of_a_data_key_are_two_rights() {
        assert_ne!(ops::DataKeysGenerate::ACTION, ops::DataKeysGenerateWrapped::ACTION);
        let secret: Vec<&str> =
            Action::ALL.into_iter().filter(|action| action.releases_secret()).map(Action::name).collect();
        assert_eq!(secret, ["dataKeys.generate", "secrets.get"]);
    }
}
