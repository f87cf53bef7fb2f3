//! `strongroom.v1.Vaults`.

use std::sync::Arc;

use strongroom_proto::v1::{
    CreateVaultRequest, DeleteVaultRequest, GetVaultRequest, ListVaultsRequest, ListVaultsResponse,
    UndeleteVaultRequest, UpdateVaultRequest, Vault, vaults_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::service::{Caller, NewVault, Problem, Service, ServiceError, VaultPatch};

serve!(vaults_server::Vaults {
    create_vault(CreateVaultRequest) -> Vault;
    get_vault(GetVaultRequest) -> Vault;
    list_vaults(ListVaultsRequest) -> ListVaultsResponse;
    update_vault(UpdateVaultRequest) -> Vault;
    delete_vault(DeleteVaultRequest) -> Vault;
    undelete_vault(UndeleteVaultRequest) -> Vault;
});

/// What can be changed.
const MASK: [&str; 3] = ["tags", "purge_protection", "padding_decryption_allowed"];
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
    let new = NewVault {
        name,
        tags: decode::tags("vault.tags", tags)?,
        retention_days: retention(vault.retention_days)?,
        purge_protection: vault.purge_protection,
        padding_decryption_allowed: vault.padding_decryption_allowed,
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
    let patch = VaultPatch {
        tags: if mask.contains(&"tags") { Some(decode::tags("vault.tags", tags)?) } else { None },
        purge_protection: mask.contains(&"purge_protection").then_some(vault.purge_protection),
        padding_decryption_allowed: mask
            .contains(&"padding_decryption_allowed")
            .then_some(vault.padding_decryption_allowed),
    };
    Ok(encode::vault(&*service.update_vault(caller, &name, patch, options).await?))
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
    fn retention_is_7_to_90_days() {
        assert!(matches!((retention(0), retention(7), retention(90)), (Ok(90), Ok(7), Ok(90))));
        for days in [1, 6, 91, -1, i32::MIN, i32::MAX] {
            assert!(retention(days).is_err(), "{days}");
        }
    }
}
