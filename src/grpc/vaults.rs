//! `strongroom.v1.Vaults`.

use std::sync::Arc;

use strongroom_proto::v1::{
    CreateVaultRequest, DeleteVaultRequest, GetVaultRequest, ListVaultsRequest, ListVaultsResponse, NetworkRules,
    PurgeVaultRequest, PurgeVaultResponse, RotateVaultKekRequest, UndeleteVaultRequest, UpdateVaultRequest, Vault,
    vaults_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    model::{self, MaxStaleness, NetworkPatch},
    service::{Caller, NewVault, Problem, Service, ServiceError, VaultPatch, vaults::invalid_network},
};

serve!(vaults_server::Vaults {
    create_vault(CreateVaultRequest) -> Vault;
    get_vault(GetVaultRequest) -> Vault;
    list_vaults(ListVaultsRequest) -> ListVaultsResponse;
    update_vault(UpdateVaultRequest) -> Vault;
    delete_vault(DeleteVaultRequest) -> Vault;
    undelete_vault(UndeleteVaultRequest) -> Vault;
    purge_vault(PurgeVaultRequest) -> PurgeVaultResponse;
    rotate_vault_kek(RotateVaultKekRequest) -> Vault;
});

/// What can be changed.
const MASK: [&str; 9] = [
    "tags",
    "purge_protection",
    "padding_decryption_allowed",
    "network",
    "network.public_access",
    "network.allowed_ranges",
    "network.local_access",
    "authorization",
    "max_staleness_seconds",
];
/// How long deleted things are kept when it is not said.
const RETENTION_DAYS_DEFAULT: u16 = 90;

async fn create_vault(
    service: &Arc<Service>,
    caller: &Caller,
    mut message: CreateVaultRequest,
) -> Result<Vault, ServiceError> {
    let name = message.vault_id.parse().map_err(|error| names::invalid("vault_id", &error))?;
    let tags = message.vault.as_mut().map(|vault| std::mem::take(&mut vault.tags)).unwrap_or_default();
    let options =
        decode::options("CreateVault", &message, Some(&tags), &message.request_id, "", message.validate_only)?;
    let vault = message.vault.unwrap_or_default();
    let network = decode::network(&vault.network.unwrap_or_default())?;
    let new = NewVault {
        name,
        tags: decode::tags("vault.tags", tags)?,
        retention_days: retention(vault.retention_days)?,
        purge_protection: vault.purge_protection,
        padding_decryption_allowed: vault.padding_decryption_allowed,
        network: network.apply(&model::NetworkRules::default()).map_err(|error| invalid_network(&error))?,
        authorization: decode::authorization(vault.authorization)?.unwrap_or_default(),
        max_staleness: max_staleness(vault.max_staleness_seconds)?,
        own_kek: vault.own_kek,
    };
    Ok(encode::vault(&*service.create_vault(caller, new, options).await?))
}

fn retention(days: i32) -> Result<u16, Problem> {
    match u16::try_from(days) {
        Ok(0) => Ok(RETENTION_DAYS_DEFAULT),
        Ok(days @ 7..=90) => Ok(days),
        _ => Err(Problem::Invalid { field: "vault.retention_days", why: format!("{days}; 7 to 90 are allowed") }),
    }
}

fn max_staleness(seconds: i32) -> Result<MaxStaleness, Problem> {
    let wrong = || Problem::Invalid {
        field: "vault.max_staleness_seconds",
        why: format!("{seconds}; 1 to {} are allowed", MaxStaleness::MAX.seconds()),
    };
    match u64::try_from(seconds) {
        Ok(0) => Ok(MaxStaleness::default()),
        Ok(seconds) => MaxStaleness::new(seconds).ok_or_else(wrong),
        Err(_) => Err(wrong()),
    }
}

async fn get_vault(service: &Arc<Service>, caller: &Caller, message: GetVaultRequest) -> Result<Vault, ServiceError> {
    let name = names::vault("name", &message.name)?;
    Ok(encode::vault(&*service.get_vault(caller, &name).await?))
}

async fn list_vaults(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListVaultsRequest,
) -> Result<ListVaultsResponse, ServiceError> {
    let list = List { kind: "vaults", parent: "", deleted: message.show_deleted };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.list_vaults(caller, page).await?;
    let next_page_token = list.next(found.more, found.items.last().map(|row| row.name.to_string()));
    Ok(ListVaultsResponse { vaults: found.items.iter().map(|row| encode::vault(row)).collect(), next_page_token })
}

async fn update_vault(
    service: &Arc<Service>,
    caller: &Caller,
    mut message: UpdateVaultRequest,
) -> Result<Vault, ServiceError> {
    let tags = message.vault.as_mut().map(|vault| std::mem::take(&mut vault.tags)).unwrap_or_default();
    let etag = message.vault.as_ref().map(|vault| vault.etag.clone()).unwrap_or_default();
    let options =
        decode::options("UpdateVault", &message, Some(&tags), &message.request_id, &etag, message.validate_only)?;
    let vault = decode::required("vault", message.vault)?;
    let name = names::vault("vault.name", &vault.name)?;
    let mask = decode::mask(message.update_mask.as_ref(), &MASK)?;
    let authorization = mask.contains(&"authorization").then(|| decode::authorization(vault.authorization));
    let staleness = mask.contains(&"max_staleness_seconds").then(|| max_staleness(vault.max_staleness_seconds));
    let patch = VaultPatch {
        tags: if mask.contains(&"tags") { Some(decode::tags("vault.tags", tags)?) } else { None },
        purge_protection: mask.contains(&"purge_protection").then_some(vault.purge_protection),
        padding_decryption_allowed: mask
            .contains(&"padding_decryption_allowed")
            .then_some(vault.padding_decryption_allowed),
        network: network_patch(&mask, &vault.network.unwrap_or_default())?,
        authorization: authorization.transpose()?.map(Option::unwrap_or_default),
        max_staleness: staleness.transpose()?,
    };
    Ok(encode::vault(&*service.update_vault(caller, &name, patch, options).await?))
}

/// The network rules that a mask names; those it names and a message does not are as in a new vault.
fn network_patch(mask: &[&str], rules: &NetworkRules) -> Result<NetworkPatch, Problem> {
    let named = |field| mask.contains(&"network") || mask.contains(&field);
    let NetworkPatch { public_access, local_access, ranges } = decode::network(rules)?;
    Ok(NetworkPatch {
        public_access: public_access.filter(|_| named("network.public_access")),
        local_access: local_access.filter(|_| named("network.local_access")),
        ranges: ranges.filter(|_| named("network.allowed_ranges")),
    })
}

async fn delete_vault(
    service: &Arc<Service>,
    caller: &Caller,
    message: DeleteVaultRequest,
) -> Result<Vault, ServiceError> {
    let name = names::vault("name", &message.name)?;
    let options =
        decode::options("DeleteVault", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    Ok(encode::vault(&*service.delete_vault(caller, &name, options).await?))
}

async fn rotate_vault_kek(
    service: &Arc<Service>,
    caller: &Caller,
    message: RotateVaultKekRequest,
) -> Result<Vault, ServiceError> {
    let name = names::vault("name", &message.name)?;
    let (id, etag) = (&message.request_id, &message.etag);
    let options = decode::options("RotateVaultKek", &message, None, id, etag, message.validate_only)?;
    Ok(encode::vault(&*service.rotate_vault_kek(caller, &name, options).await?))
}

async fn purge_vault(
    service: &Arc<Service>,
    caller: &Caller,
    message: PurgeVaultRequest,
) -> Result<PurgeVaultResponse, ServiceError> {
    let name = names::vault("name", &message.name)?;
    let options =
        decode::options("PurgeVault", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    Ok(PurgeVaultResponse { done: service.purge_vault(caller, &name, options).await? })
}

async fn undelete_vault(
    service: &Arc<Service>,
    caller: &Caller,
    message: UndeleteVaultRequest,
) -> Result<Vault, ServiceError> {
    let name = names::vault("name", &message.name)?;
    let options =
        decode::options("UndeleteVault", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    Ok(encode::vault(&*service.undelete_vault(caller, &name, options).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_names_all_rules_or_one() {
        let rules = NetworkRules {
            public_access: Some(false),
            allowed_ranges: vec!["10.0.0.0/8".to_owned()],
            local_access: None,
        };
        let patch = |mask: &[&str]| network_patch(mask, &rules).expect("right").to_string();
        assert_eq!(patch(&["network"]), "public_access=false local_access=true allowed_ranges=10.0.0.0/8");
        assert_eq!(patch(&["tags", "network.allowed_ranges"]), "allowed_ranges=10.0.0.0/8");
        assert_eq!(patch(&["network.public_access"]), "public_access=false");
        assert_eq!(patch(&["network.local_access"]), "local_access=true");
        assert_eq!(patch(&["tags"]), "");
        let wrong = NetworkRules { allowed_ranges: vec!["10.0.0.1/8".to_owned()], ..NetworkRules::default() };
        assert!(matches!(network_patch(&["network"], &wrong), Err(Problem::Invalid { .. })));
    }

    #[test]
    fn retention_is_7_to_90_days() {
        assert!(matches!((retention(0), retention(7), retention(90)), (Ok(90), Ok(7), Ok(90))));
        for days in [1, 6, 91, -1, i32::MIN, i32::MAX] {
            assert!(retention(days).is_err(), "{days}");
        }
    }
}
