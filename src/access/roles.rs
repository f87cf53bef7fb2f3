//! What roles permit: the built-in ones, with Azure's ids and names, and what the patterns of any role come to.
//!
//! A pattern is matched against our names and against Azure's, so a role written for Azure means the same here, and
//! an action that comes later falls under the wildcard that meant it all along. Patterns that mean nothing here yet
//! are kept and shown as they are.
//!
//! `actions` mean actions that administer, `data_actions` those that use what is in a vault. Managed HSM has its
//! roles administered by data actions: only a pattern that names Managed HSM itself means those.

use std::sync::{Arc, LazyLock};

use super::action::{Action, MANAGED_HSM, Plane, Rights};
use crate::model::{ADMINISTRATOR, ActionPattern, BREAK_GLASS, RoleDefinitionRow, RoleId, RolePatterns, Scope};

/// What a role is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// Its id.
    pub id: RoleId,
    /// Its name, unique without regard to case.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it permits.
    pub patterns: RolePatterns,
    /// It can be assigned at these scopes and within them.
    pub assignable_scopes: Vec<Scope>,
    /// Its row; none when it came with the program and stays as it is.
    pub custom: Option<Arc<RoleDefinitionRow>>,
}

impl RoleDefinition {
    /// Every action that it permits.
    #[must_use]
    pub fn rights(&self) -> Rights {
        rights(&self.patterns)
    }

    /// Whether it can be assigned there.
    #[must_use]
    pub fn is_assignable_at(&self, scope: &Scope) -> bool {
        self.assignable_scopes.iter().any(|wider| wider.contains(scope))
    }
}

impl From<&RoleDefinitionRow> for RoleDefinition {
    fn from(row: &RoleDefinitionRow) -> Self {
        Self {
            id: row.id,
            name: row.name.clone(),
            description: row.description.clone(),
            patterns: row.patterns.clone(),
            assignable_scopes: row.assignable_scopes.clone(),
            custom: Some(Arc::new(row.clone())),
        }
    }
}

/// Every action that these patterns permit.
#[must_use]
pub fn rights(patterns: &RolePatterns) -> Rights {
    Action::ALL.into_iter().filter(|action| permits(patterns, *action)).collect()
}

fn permits(patterns: &RolePatterns, action: Action) -> bool {
    let (given, taken) = match action.plane() {
        Plane::Control => (&patterns.actions, &patterns.not_actions),
        Plane::Data => (&patterns.data_actions, &patterns.not_data_actions),
    };
    let (own, azure, hsm) = (action.name(), action.azure(), action.managed_hsm());
    let is_given = means(given, own)
        || (!azure.is_empty() && azure.iter().all(|name| means(given, name)))
        || (!hsm.is_empty() && hsm.iter().all(|name| means_hsm(&patterns.data_actions, name)));
    // Taken back under any of its names it is taken back, under whichever it was given.
    let is_taken = means(taken, own)
        || azure.iter().any(|name| means(taken, name))
        || hsm.iter().any(|name| means_hsm(&patterns.not_data_actions, name));
    is_given && !is_taken
}

fn means(patterns: &[ActionPattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

fn means_hsm(patterns: &[ActionPattern], name: &str) -> bool {
    let names_it = |pattern: &ActionPattern| {
        let begin = pattern.as_str().get(..MANAGED_HSM.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(MANAGED_HSM))
    };
    let full = format!("{MANAGED_HSM}{name}");
    patterns.iter().any(|pattern| names_it(pattern) && pattern.matches(&full))
}

/// The built-in roles, in the order of the table.
#[must_use]
pub fn built_in() -> &'static [Arc<RoleDefinition>] {
    static ROLES: LazyLock<Vec<Arc<RoleDefinition>>> =
        LazyLock::new(|| TABLE.iter().map(|row| Arc::new(row.definition())).collect());
    &ROLES
}

/// The built-in role of that id.
#[must_use]
pub fn built_in_by_id(id: RoleId) -> Option<&'static Arc<RoleDefinition>> {
    built_in().iter().find(|role| role.id == id)
}

/// The built-in role of that name, without regard to case.
#[must_use]
pub fn built_in_by_name(name: &str) -> Option<&'static Arc<RoleDefinition>> {
    built_in().iter().find(|role| role.name.eq_ignore_ascii_case(name))
}

struct BuiltIn {
    id: u128,
    name: &'static str,
    description: &'static str,
    actions: &'static [&'static str],
    not_actions: &'static [&'static str],
    data_actions: &'static [&'static str],
    /// It can be assigned at these scopes and within them.
    assignable_scopes: &'static [Scope],
}

impl BuiltIn {
    const NONE: Self = Self {
        id: 0,
        name: "",
        description: "",
        actions: &[],
        not_actions: &[],
        data_actions: &[],
        assignable_scopes: &[Scope::Service],
    };

    fn definition(&self) -> RoleDefinition {
        let patterns = |texts: &[&str]| -> Vec<ActionPattern> {
            texts.iter().map(|text| text.parse().expect("the table holds patterns")).collect()
        };
        RoleDefinition {
            id: RoleId::from_bytes(self.id.to_be_bytes()),
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            patterns: RolePatterns {
                actions: patterns(self.actions),
                not_actions: patterns(self.not_actions),
                data_actions: patterns(self.data_actions),
                not_data_actions: Vec::new(),
            },
            assignable_scopes: self.assignable_scopes.to_vec(),
            custom: None,
        }
    }
}

/// What those have who look after what is in a vault: they see the vault, and who has which role in it.
const SEES_VAULT: &[&str] = &["Microsoft.Authorization/*/read", "Microsoft.KeyVault/vaults/*/read", "vaults.read"];

/// Azure's roles have Azure's ids and data actions. Ours beside them: `vaults.read` where Azure's role reads the
/// vault by other names; `random.generate`, which Key Vault has not, for those who make or use keys of all kinds;
/// and what [`Action::RoleAssignmentsDelegate`] and the access policies are taken back from.
const TABLE: &[BuiltIn] = &[
    BuiltIn {
        id: u128::from_be_bytes(ADMINISTRATOR.bytes()),
        name: "administrator",
        description: "Everything at its scope: at `/` the service, at a vault that vault's owner",
        actions: &["*"],
        data_actions: &["*"],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: u128::from_be_bytes(BREAK_GLASS.bytes()),
        name: "break-glass administrator",
        description: "Everything, at `/`: given at the console with the HSM's PIN, and by no request; to be taken away again",
        actions: &["*"],
        data_actions: &["*"],
        assignable_scopes: &[],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x5d6f2c19_40b8_4e7e_9a53_c17e08b4d26a,
        name: "auditor",
        description: "Reads the audit log and proves what is in it; is told of events; sees vaults, keys, secrets (not their values) and roles, and uses nothing",
        actions: &[
            "auditRecords.read",
            "events.read",
            "webhooks.read",
            "vaults.read",
            "roleDefinitions.read",
            "roleAssignments.read",
            "accessPolicies.read",
        ],
        data_actions: &["keys.read", "keys.list", "secrets.read", "secrets.list"],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x00482a5a_887f_4fb3_b363_3b7fe8e74483,
        name: "Key Vault Administrator",
        description: "Everything with the keys, secrets and certificates of a vault; not the vault itself, nor roles",
        actions: SEES_VAULT,
        data_actions: &["Microsoft.KeyVault/vaults/*", "random.generate"],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x21090545_7ca7_4776_b22c_e363652d74d2,
        name: "Key Vault Reader",
        description: "Sees a vault and its objects, and neither uses keys nor reads secrets",
        actions: SEES_VAULT,
        data_actions: &["Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0xa68e7c17_0ab2_4c09_9a58_125dae29748c,
        name: "Key Vault Purge Operator",
        description: "Destroys deleted vaults before their date",
        actions: &[
            "Microsoft.KeyVault/locations/deletedVaults/purge/action",
            "Microsoft.KeyVault/locations/deletedVaults/read",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0xa4417e6f_fecd_4de8_b567_7b0420556985,
        name: "Key Vault Certificates Officer",
        description: "Everything with certificates",
        actions: SEES_VAULT,
        data_actions: &[
            "Microsoft.KeyVault/vaults/certificatecas/*",
            "Microsoft.KeyVault/vaults/certificates/*",
            "Microsoft.KeyVault/vaults/certificatecontacts/write",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0xdb79e9a7_68ee_4b58_9aeb_b90e7c24fcba,
        name: "Key Vault Certificate User",
        description: "Reads certificates with their keys and secrets",
        data_actions: &[
            "Microsoft.KeyVault/vaults/certificates/read",
            "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
            "Microsoft.KeyVault/vaults/keys/read",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x14b46e9e_c2b7_41b4_b07b_48a6ebf60603,
        name: "Key Vault Crypto Officer",
        description: "Everything with keys: makes, imports, changes, deletes and uses them",
        actions: SEES_VAULT,
        data_actions: &[
            "Microsoft.KeyVault/vaults/keys/*",
            "Microsoft.KeyVault/vaults/keyrotationpolicies/*",
            "random.generate",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x12338af0_0e69_4776_bea7_57ae8d297424,
        name: "Key Vault Crypto User",
        description: "Uses keys: sign, verify, encrypt, decrypt, wrap, unwrap; makes none",
        data_actions: &[
            "Microsoft.KeyVault/vaults/keys/read",
            "Microsoft.KeyVault/vaults/keys/update/action",
            "Microsoft.KeyVault/vaults/keys/backup/action",
            "Microsoft.KeyVault/vaults/keys/encrypt/action",
            "Microsoft.KeyVault/vaults/keys/decrypt/action",
            "Microsoft.KeyVault/vaults/keys/wrap/action",
            "Microsoft.KeyVault/vaults/keys/unwrap/action",
            "Microsoft.KeyVault/vaults/keys/sign/action",
            "Microsoft.KeyVault/vaults/keys/verify/action",
            "random.generate",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0xe147488a_f6f5_4113_8e2d_b22465e65bf6,
        name: "Key Vault Crypto Service Encryption User",
        description: "Wraps and unwraps with keys, and reads them: what disk and database encryption needs",
        data_actions: &[
            "Microsoft.KeyVault/vaults/keys/read",
            "Microsoft.KeyVault/vaults/keys/wrap/action",
            "Microsoft.KeyVault/vaults/keys/unwrap/action",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x08bbd89e_9f13_488c_ac41_acfcb10c90ab,
        name: "Key Vault Crypto Service Release User",
        description: "Has keys released",
        data_actions: &["Microsoft.KeyVault/vaults/keys/release/action"],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0xb86a8fe4_44ce_4948_aee5_eccb2c155cd7,
        name: "Key Vault Secrets Officer",
        description: "Everything with secrets",
        actions: SEES_VAULT,
        data_actions: &["Microsoft.KeyVault/vaults/secrets/*"],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x4633458b_17de_408a_b874_0445c86b69e6,
        name: "Key Vault Secrets User",
        description: "Reads secrets",
        data_actions: &[
            "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0xf25e0fa2_a7c8_4377_a976_54943a77a395,
        name: "Key Vault Contributor",
        description: "Makes, changes and deletes vaults; uses nothing in them and gives nobody access",
        actions: &["Microsoft.Authorization/*/read", "Microsoft.KeyVault/*"],
        not_actions: &[
            "Microsoft.KeyVault/locations/deletedVaults/purge/action",
            "Microsoft.KeyVault/hsmPools/*",
            "Microsoft.KeyVault/managedHsms/*",
            "accessPolicies.update",
            "accessPolicies.delete",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x8b54135c_b56d_4d72_a534_26097cfdc8d8,
        name: "Key Vault Data Access Administrator",
        description: "Assigns roles, and takes them away, that administer nothing themselves",
        actions: &[
            "Microsoft.Authorization/roleAssignments/write",
            "Microsoft.Authorization/roleAssignments/delete",
            "Microsoft.Authorization/*/read",
            "Microsoft.KeyVault/vaults/*/read",
            "vaults.read",
        ],
        not_actions: &["roleAssignments.delegate"],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0xa290e904_7015_4bba_90c8_60543313cdb4,
        name: "Managed HSM Administrator",
        description: "Role definitions, role assignments, security domain, backup; no use of keys",
        data_actions: &[
            "Microsoft.KeyVault/managedHsm/securitydomain/*",
            "Microsoft.KeyVault/managedHsm/backup/*",
            "Microsoft.KeyVault/managedHsm/restore/*",
            "Microsoft.KeyVault/managedHsm/roleDefinitions/*",
            "Microsoft.KeyVault/managedHsm/roleAssignments/*",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x515eb02d_2335_4d2d_92f2_b1cbdf9c3778,
        name: "Managed HSM Crypto Officer",
        description: "Role definitions and role assignments; brings deleted keys back; no other use of keys",
        data_actions: &[
            "Microsoft.KeyVault/managedHsm/roleDefinitions/*",
            "Microsoft.KeyVault/managedHsm/roleAssignments/*",
            "Microsoft.KeyVault/managedHsm/keys/deletedKeys/*",
            "Microsoft.KeyVault/managedHsm/keys/export/action",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x21dbd100_6940_42c2_9190_5d6cb909625b,
        name: "Managed HSM Crypto User",
        description: "Makes, changes, deletes and uses keys; brings none back",
        data_actions: &[
            "Microsoft.KeyVault/managedHsm/keys/read/action",
            "Microsoft.KeyVault/managedHsm/keys/write/action",
            "Microsoft.KeyVault/managedHsm/keys/rotate/action",
            "Microsoft.KeyVault/managedHsm/keys/create",
            "Microsoft.KeyVault/managedHsm/keys/delete",
            "Microsoft.KeyVault/managedHsm/keys/import/action",
            "Microsoft.KeyVault/managedHsm/keys/release/action",
            "Microsoft.KeyVault/managedHsm/keys/backup/action",
            "Microsoft.KeyVault/managedHsm/keys/restore/action",
            "Microsoft.KeyVault/managedHsm/keys/encrypt/action",
            "Microsoft.KeyVault/managedHsm/keys/decrypt/action",
            "Microsoft.KeyVault/managedHsm/keys/wrap/action",
            "Microsoft.KeyVault/managedHsm/keys/unwrap/action",
            "Microsoft.KeyVault/managedHsm/keys/sign/action",
            "Microsoft.KeyVault/managedHsm/keys/verify/action",
            "Microsoft.KeyVault/managedHsm/roleAssignments/read/action",
            "Microsoft.KeyVault/managedHsm/roleDefinitions/read/action",
            "random.generate",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x4bd23610_cdcf_4971_bdee_bdc562cc28e4,
        name: "Managed HSM Policy Administrator",
        description: "Role definitions and role assignments",
        data_actions: &[
            "Microsoft.KeyVault/managedHsm/roleDefinitions/*",
            "Microsoft.KeyVault/managedHsm/roleAssignments/*",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x33413926_3206_4cdd_b39a_83574fe37a17,
        name: "Managed HSM Crypto Service Encryption User",
        description: "Wraps and unwraps with keys, and reads them",
        data_actions: &[
            "Microsoft.KeyVault/managedHsm/keys/read/action",
            "Microsoft.KeyVault/managedHsm/keys/wrap/action",
            "Microsoft.KeyVault/managedHsm/keys/unwrap/action",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x21dbd100_6940_42c2_9190_5d6cb909625c,
        name: "Managed HSM Crypto Service Release User",
        description: "Has keys released",
        data_actions: &["Microsoft.KeyVault/managedHsm/keys/release/action"],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x2c18b078_7c48_4d3a_af88_5a3a1b3f82b3,
        name: "Managed HSM Crypto Auditor",
        description: "Reads keys, role definitions and role assignments",
        data_actions: &[
            "Microsoft.KeyVault/managedHsm/keys/read/action",
            "Microsoft.KeyVault/managedHsm/roleAssignments/read/action",
            "Microsoft.KeyVault/managedHsm/roleDefinitions/read/action",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x7b127d3c_77bd_4e3e_bbe0_dbb8971fa7f8,
        name: "Managed HSM Backup",
        description: "Backs up",
        data_actions: &[
            "Microsoft.KeyVault/managedHsm/keys/backup/action",
            "Microsoft.KeyVault/managedHsm/backup/start/action",
            "Microsoft.KeyVault/managedHsm/backup/status/action",
        ],
        ..BuiltIn::NONE
    },
    BuiltIn {
        id: 0x6efe6056_5259_49d2_8b3d_d3d73544b20b,
        name: "Managed HSM Restore",
        description: "Restores",
        data_actions: &[
            "Microsoft.KeyVault/managedHsm/keys/restore/action",
            "Microsoft.KeyVault/managedHsm/restore/start/action",
            "Microsoft.KeyVault/managedHsm/restore/status/action",
        ],
        ..BuiltIn::NONE
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(name: &str) -> Rights {
        built_in_by_name(name).unwrap_or_else(|| panic!("{name}")).rights()
    }

    fn names(rights: Rights) -> String {
        rights.to_string()
    }

    fn patterns(data_actions: &[&str], not: &[&str]) -> RolePatterns {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a pattern")).collect();
        RolePatterns { data_actions: parse(data_actions), not_data_actions: parse(not), ..RolePatterns::default() }
    }

    #[test]
    fn the_table_is_sound() {
        let ids: HashSet<RoleId> = built_in().iter().map(|role| role.id).collect();
        let lower: HashSet<String> = built_in().iter().map(|role| role.name.to_lowercase()).collect();
        assert_eq!((ids.len(), lower.len()), (TABLE.len(), TABLE.len()));
        assert_eq!(built_in_by_id(ADMINISTRATOR).map(|role| role.name.as_str()), Some("administrator"));
        let at_console: Vec<RoleId> =
            built_in().iter().filter(|role| role.assignable_scopes.is_empty()).map(|role| role.id).collect();
        assert_eq!(at_console, [BREAK_GLASS]);
    }

    #[test]
    fn the_administrator_may_do_everything() {
        assert_eq!(of("administrator").iter().count(), Action::ALL.len());
        assert_eq!(of("break-glass administrator"), of("administrator"));
    }

    #[test]
    fn officers_administer_keys_and_users_use_them() {
        let officer = of("Key Vault Crypto Officer");
        assert!(officer.contains(of("Key Vault Crypto User")));
        for action in [
            Action::KeysCreate,
            Action::KeysImport,
            Action::KeysDelete,
            Action::KeysUndelete,
            Action::KeysRestore,
            Action::KeysMove,
        ] {
            assert!(officer.has(action) && !of("Key Vault Crypto User").has(action), "{}", action.name());
        }
        assert_eq!(
            names(of("Key Vault Crypto User")),
            "keys.read, keys.list, keys.update, keys.backup, keys.sign, keys.verify, keys.encrypt, keys.decrypt, keys.wrap, \
             keys.unwrap, dataKeys.generate, dataKeys.generateWrapped, random.generate"
        );
        assert_eq!(
            names(of("Key Vault Crypto Service Encryption User")),
            "keys.read, keys.list, keys.wrap, keys.unwrap, dataKeys.generate, dataKeys.generateWrapped"
        );
        // Managed HSM knows no right of its own to read a rotation policy.
        assert_eq!(
            of("Key Vault Crypto Service Encryption User").union(Rights::of(Action::RotationPoliciesRead)),
            of("Managed HSM Crypto Service Encryption User")
        );
    }

    #[test]
    fn a_data_key_in_the_clear_needs_wrap_and_unwrap() {
        let wrap = "Microsoft.KeyVault/vaults/keys/wrap/action";
        let unwrap = "Microsoft.KeyVault/vaults/keys/unwrap/action";
        assert_eq!(names(rights(&patterns(&[wrap], &[]))), "keys.wrap, dataKeys.generateWrapped");
        assert_eq!(names(rights(&patterns(&[unwrap], &[]))), "keys.unwrap");
        assert_eq!(
            names(rights(&patterns(&[wrap, unwrap], &[]))),
            "keys.wrap, keys.unwrap, dataKeys.generate, dataKeys.generateWrapped"
        );
        assert_eq!(
            names(rights(&patterns(&[wrap, unwrap], &["dataKeys.*"]))),
            "keys.wrap, keys.unwrap",
            "what is taken back by our name is taken back"
        );
        assert_eq!(
            names(rights(&patterns(&["keys.*wrap", "dataKeys.*"], &[unwrap]))),
            "keys.wrap, dataKeys.generateWrapped",
            "and by Azure's"
        );
    }

    #[test]
    fn data_actions_administer_nothing_unless_they_name_managed_hsm() {
        assert!(rights(&patterns(&["*"], &[])).intersection(Rights::CONTROL).is_empty());
        assert!(rights(&patterns(&["Microsoft.KeyVault/*"], &[])).intersection(Rights::CONTROL).is_empty());
        let hsm = rights(&patterns(&["microsoft.keyvault/managedhsm/*"], &[]));
        assert!(hsm.has(Action::RoleAssignmentsCreate) && !hsm.has(Action::VaultsCreate));
        let actions = RolePatterns { actions: patterns(&["*"], &[]).data_actions, ..RolePatterns::default() };
        assert_eq!(rights(&actions), Rights::CONTROL);
    }

    #[test]
    fn a_data_access_administrator_hands_out_what_administers_nothing() {
        let administrator = of("Key Vault Data Access Administrator");
        assert!(
            administrator.has(Action::RoleAssignmentsCreate) && !administrator.has(Action::RoleAssignmentsDelegate)
        );
        let mut harmless: Vec<&str> = built_in()
            .iter()
            .filter(|role| role.rights().intersection(Rights::ADMINISTRATIVE).is_empty())
            .map(|role| role.name.as_str())
            .collect();
        harmless.retain(|name| name.starts_with("Key Vault"));
        assert!(harmless.contains(&"Key Vault Administrator") && harmless.contains(&"Key Vault Crypto Officer"));
        for other in ["Key Vault Contributor", "Key Vault Data Access Administrator"] {
            assert!(!harmless.contains(&other), "{other}");
        }
    }

    #[test]
    fn a_contributor_makes_vaults_and_gives_nobody_access() {
        let contributor = of("Key Vault Contributor");
        assert!(contributor.has(Action::VaultsCreate) && contributor.has(Action::AccessPoliciesRead));
        let gives = [Action::AccessPoliciesUpdate, Action::AccessPoliciesDelete, Action::RoleAssignmentsCreate];
        assert!(gives.into_iter().all(|action| !contributor.has(action)));
        assert!(contributor.without(Rights::CONTROL).is_empty());
    }

    #[test]
    fn an_auditor_reads_what_was_done_and_changes_nothing() {
        assert_eq!(
            names(of("auditor")),
            "vaults.read, keys.read, keys.list, secrets.read, secrets.list, roleDefinitions.read, roleAssignments.read, \
             accessPolicies.read, events.read, webhooks.read, auditRecords.read"
        );
        assert!(of("auditor").intersection(Rights::ADMINISTRATIVE).is_empty());
        let azure = built_in().iter().filter(|role| role.name.contains("Key Vault") || role.name.contains("HSM"));
        let readers: Vec<&str> =
            azure.filter(|role| role.rights().has(Action::AuditRecordsRead)).map(|role| role.name.as_str()).collect();
        assert!(readers.is_empty(), "roles of Azure do not read our log: {readers:?}");
    }

    #[test]
    fn a_reader_reads() {
        assert_eq!(
            names(of("Key Vault Reader")),
            "vaults.read, keys.read, keys.list, rotationPolicies.read, secrets.read, secrets.list, roleDefinitions.read, \
             roleAssignments.read, accessPolicies.read"
        );
    }
}
