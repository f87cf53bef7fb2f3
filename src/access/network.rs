//! Network rules of vaults, where decisions are made: who has every right is refused all the same when the vault lets
//! nobody in from where he comes. What a caller is told is what one without rights is told.
//!
//! They are about what is in a vault. The vault itself is administered from anywhere, or a wrong rule would shut out
//! the one who has to correct it; so who may change a vault may also look at it.

use super::{
    action::{Action, Rights},
    policy::{Policy, VaultAccess},
};
use crate::model::{Identity, MaxStaleness, NetworkRules, Origin, Scope, VaultAuthorization, VaultName, VaultRow};

impl VaultAccess {
    /// What a vault's row says.
    #[must_use]
    pub fn of(row: &VaultRow) -> Self {
        Self {
            network: row.network.clone(),
            authorization: row.authorization,
            max_staleness: row.max_staleness,
            ..Self::default()
        }
    }

    /// Whether it decides nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.network == NetworkRules::default()
            && self.authorization == VaultAuthorization::Roles
            && self.max_staleness == MaxStaleness::default()
            && self.policies.is_empty()
    }
}

impl Policy {
    /// The next policy: with what a vault's new row says; none when that is what it was.
    #[must_use]
    pub fn with_rules_of(&self, row: &VaultRow) -> Option<Self> {
        let old = self.vault(&row.name).cloned().unwrap_or_default();
        let new = VaultAccess::of(row);
        let same = old.network == new.network && old.authorization == new.authorization;
        if same && old.max_staleness == new.max_staleness {
            return None;
        }
        Some(self.with_vault(row.name.clone(), VaultAccess { policies: old.policies, ..new }))
    }

    /// How old what is known may be, of a vault or of all else.
    #[must_use]
    pub fn max_staleness(&self, vault: Option<&VaultName>) -> MaxStaleness {
        vault.and_then(|vault| self.vault(vault)).map(|access| access.max_staleness).unwrap_or_default()
    }

    /// The longest of any vault.
    #[must_use]
    pub fn longest_staleness(&self) -> MaxStaleness {
        self.vaults.values().map(|access| access.max_staleness).max().unwrap_or_default()
    }

    /// Whether the network rules of the vault, if it is one's, let it be done from there.
    #[must_use]
    pub fn admits(&self, identity: &Identity, origin: Origin, action: Action, scope: &Scope) -> bool {
        let Some(vault) = scope.vault() else { return true };
        self.vault(vault)
            .is_none_or(|access| access.network.admits(origin) || self.administers_by(identity, action, vault))
    }

    /// Whether it is about the vault and not about what is in it. Looking at it counts for that with those who may
    /// change it.
    fn administers_by(&self, identity: &Identity, action: Action, vault: &VaultName) -> bool {
        match action {
            Action::VaultsRead => self.allows(identity, Action::VaultsUpdate, &Scope::Vault(vault.clone())),
            _ => Rights::CONTROL.has(action),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        access::{Barrier, Denied, PolicyCell, Where, fixtures::*, ops},
        store::contract::fixtures::vault,
    };

    const USER: (&str, &str, &str) = ("a:user", "Key Vault Crypto User", "vaults/dev");
    const READER: (&str, &str, &str) = ("a:user", "Key Vault Reader", "vaults/dev");
    const ADMIN: (&str, &str, &str) = ("a:admin", "administrator", "/");

    fn from(address: &str) -> Origin {
        Origin::Address(address.parse().expect("an address"))
    }

    fn only(ranges: &[&str]) -> VaultAccess {
        let ranges = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        VaultAccess { network: NetworkRules::new(false, false, ranges).expect("right"), ..VaultAccess::default() }
    }

    fn cell(access: VaultAccess) -> Arc<PolicyCell> {
        let rules = policy(&[USER, READER, ADMIN]).with_vault("dev".parse().expect("a vault"), access);
        Arc::new(PolicyCell::new(rules))
    }

    fn sign(cell: &Arc<PolicyCell>, name: &str, origin: Origin) -> Result<(), Denied> {
        let scope = at("vaults/dev/keys/k");
        cell.permit::<ops::KeysSign>(&Arc::new(who(name)), origin, scope).map(drop)
    }

    #[test]
    fn who_comes_from_elsewhere_is_refused_as_without_rights_and_the_record_knows_why() {
        let cell = cell(only(&["10.0.0.0/8"]));
        assert!(
            sign(&cell, "a:user", from("10.1.2.3")).is_ok() && sign(&cell, "a:user", from("::ffff:10.1.2.3")).is_ok()
        );
        for origin in [from("192.0.2.1"), from("127.0.0.1"), Origin::Local] {
            let refused = sign(&cell, "a:user", origin).expect_err("from elsewhere");
            let stranger = sign(&cell, "a:nobody", origin).expect_err("without rights");
            assert_eq!((refused.by, stranger.by), (Barrier::Network, Barrier::Rights));
            assert_eq!(refused.to_string().replace("a:user", "a:nobody"), stranger.to_string());
        }
        assert_eq!(sign(&cell, "a:nobody", from("10.1.2.3")).expect_err("without rights").by, Barrier::Rights);
    }

    #[test]
    fn the_vault_itself_is_administered_from_anywhere() {
        let (cell, dev) = (cell(only(&[])), at("vaults/dev"));
        let origin = from("192.0.2.1");
        let admin = Arc::new(who("a:admin"));
        assert!(cell.permit::<ops::VaultsUpdate>(&admin, origin, dev.clone()).is_ok());
        assert!(cell.permit::<ops::VaultsRead>(&admin, origin, dev.clone()).is_ok());
        assert!(cell.permit::<ops::KeysSign>(&admin, origin, at("vaults/dev/keys/k")).is_err());
        let user = Arc::new(who("a:user"));
        assert!(cell.permit::<ops::VaultsRead>(&user, origin, dev).is_err(), "it is not there for him");
        assert!(cell.permit::<ops::RandomGenerate>(&user, origin, Where::Anywhere).is_ok(), "is of no vault");
    }

    #[test]
    fn rules_that_change_end_what_was_permitted_before() {
        let cell = cell(VaultAccess::default());
        let (user, scope) = (Arc::new(who("a:user")), at("vaults/dev/keys/k"));
        let permit = cell.permit::<ops::KeysSign>(&user, from("192.0.2.1"), scope).expect("permitted");
        let change = |access| cell.set(cell.now().with_vault("dev".parse().expect("a vault"), access));
        change(only(&["192.0.2.0/24"]));
        assert!(permit.still_holds());
        change(only(&["10.0.0.0/8"]));
        assert!(!permit.still_holds());
        assert_eq!(permit.denied().by, Barrier::Network);
        change(VaultAccess::default());
        assert!(permit.still_holds());
    }

    #[test]
    fn only_rules_that_change_make_another_policy() {
        let rules = policy(&[USER]);
        let row = vault(1, "dev");
        assert!(rules.with_rules_of(&row).is_none(), "it has what a vault has that nothing was said of");
        let shut = VaultRow { network: only(&[]).network, ..row.clone() };
        let next = rules.with_rules_of(&shut).expect("another");
        assert!(next.epoch() > rules.epoch() && next.with_rules_of(&shut).is_none());
        assert!(next.with_rules_of(&row).expect("open again").vault(&row.name).expect("is known").is_idle());
    }

    #[test]
    fn other_vaults_are_not_concerned() {
        let rules = policy(&[("a:user", "Key Vault Crypto User", "vaults/prod")]);
        let rules = rules.with_vault("dev".parse().expect("a vault"), only(&[]));
        let cell = Arc::new(PolicyCell::new(rules));
        let user = Arc::new(who("a:user"));
        assert!(cell.permit::<ops::KeysSign>(&user, from("192.0.2.1"), at("vaults/prod/keys/k")).is_ok());
    }
}
