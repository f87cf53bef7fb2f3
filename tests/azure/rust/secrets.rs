//! Secrets with `azure_security_keyvault_secrets`: set, read, versions, changed, deleted, recovered, purged, listed.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, ensure};
use azure_core::{http::StatusCode, time::OffsetDateTime};
use azure_security_keyvault_secrets::{
    ResourceExt as _, SecretClient, SecretClientOptions,
    models::{
        DeletedSecretProperties, RestoreSecretParameters, Secret, SecretAttributes, SecretClientGetSecretOptions,
        SecretProperties, SetSecretParameters, UpdateSecretPropertiesParameters,
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::checks::{Checks, Vault, eventually, pages, refused};

const GREETING: &str = "grüße, 世界\n";

struct Secrets<'a> {
    client: SecretClient,
    vault: &'a Vault,
}

pub(crate) async fn run(vault: &Vault, checks: &mut Checks) -> anyhow::Result<()> {
    let options = SecretClientOptions {
        client_options: vault.options(),
        verify_challenge_resource: Some(vault.verify_challenge_resource),
        ..SecretClientOptions::default()
    };
    let client = SecretClient::new(&vault.url, Arc::clone(&vault.credential), Some(options))?;
    let secrets = Secrets { client, vault };
    let unknown =
        async { refused(secrets.get(&vault.named("none"), None).await, StatusCode::NotFound, "SecretNotFound") };
    checks.check("secrets: an unknown secret: 404 SecretNotFound", unknown).await;
    values(&secrets, checks).await;
    life(&secrets, checks).await;
    checks.check("secrets: 27 secrets come in pages of at most 25", secrets.lists()).await;
    checks.check("secrets: what was made is purged", secrets.purge()).await;
    Ok(())
}

fn valued(value: &str) -> SetSecretParameters {
    SetSecretParameters { value: Some(value.to_owned()), ..SetSecretParameters::default() }
}

impl Secrets<'_> {
    async fn set(&self, name: &str, asked: SetSecretParameters) -> azure_core::Result<Secret> {
        self.client.set_secret(name, asked.try_into()?, None).await?.into_model()
    }

    async fn get(&self, name: &str, version: Option<String>) -> azure_core::Result<Secret> {
        let options = SecretClientGetSecretOptions { secret_version: version, ..Default::default() };
        self.client.get_secret(name, Some(options)).await?.into_model()
    }

    async fn has(&self, name: &str, version: Option<String>, value: &str) -> anyhow::Result<()> {
        ensure!(self.get(name, version).await?.value.as_deref() == Some(value), "another value");
        Ok(())
    }

    async fn update(&self, name: &str, asked: UpdateSecretPropertiesParameters) -> anyhow::Result<()> {
        self.client.update_secret_properties(name, asked.try_into()?, None).await?;
        Ok(())
    }

    async fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.client.delete_secret(name, None).await?;
        eventually(async || self.client.get_deleted_secret(name, None).await).await?;
        self.client.purge_deleted_secret(name, None).await?;
        Ok(())
    }

    async fn deleted(&self) -> anyhow::Result<Vec<DeletedSecretProperties>> {
        Ok(pages!(self.client.list_deleted_secret_properties(None)?).0)
    }

    async fn lists(&self) -> anyhow::Result<()> {
        let names: Vec<String> = (0..27).map(|number| self.vault.named(&format!("list{number}"))).collect();
        let made = futures_util::stream::iter(&names).map(|name| self.set(name, valued(name)));
        made.buffer_unordered(4).try_collect::<Vec<_>>().await?;
        let (items, count): (Vec<SecretProperties>, _) = pages!(self.client.list_secret_properties(None)?);
        ensure!(count >= 2, "{count} pages");
        for name in &names {
            let id = format!("{}/secrets/{name}", self.vault.url);
            ensure!(items.iter().any(|item| item.id.as_deref() == Some(&*id)), "{name} is not in the list");
        }
        Ok(())
    }

    async fn purge(&self) -> anyhow::Result<()> {
        let (items, _): (Vec<SecretProperties>, _) = pages!(self.client.list_secret_properties(None)?);
        let mut left = Vec::new();
        for item in &items {
            left.push(item.resource_id()?.name);
        }
        left.retain(|name| self.vault.is_ours(name));
        let removed = futures_util::stream::iter(&left).map(|name| self.remove(name));
        removed.buffer_unordered(4).try_collect::<Vec<_>>().await?;
        for item in self.deleted().await? {
            let name = item.resource_id()?.name;
            ensure!(!self.vault.is_ours(&name), "{name} is left");
        }
        Ok(())
    }
}

async fn values(secrets: &Secrets<'_>, checks: &mut Checks) {
    let name = secrets.vault.named("secret");
    let set = async {
        let asked = SetSecretParameters {
            content_type: Some("text/plain".to_owned()),
            tags: Some(HashMap::from([("team".to_owned(), "blue".to_owned())])),
            ..valued(GREETING)
        };
        let made = secrets.set(&name, asked).await?;
        let id = made.id.as_deref().context("no id")?;
        ensure!(id.starts_with(&format!("{}/secrets/{name}/", secrets.vault.url)), "{id}");
        let read = secrets.get(&name, None).await?;
        ensure!(read.value.as_deref() == Some(GREETING), "another value");
        ensure!(read.content_type.as_deref() == Some("text/plain"), "{:?}", read.content_type);
        ensure!(read.tags.is_some_and(|tags| tags["team"] == "blue"), "other tags");
        Ok(made.resource_id()?.version)
    };
    let Some(first) = checks.check("secrets: set and get", set).await else { return };
    let again = async {
        secrets.set(&name, valued("two")).await?;
        secrets.has(&name, None, "two").await?;
        secrets.has(&name, first, GREETING).await?;
        let (versions, _): (Vec<SecretProperties>, _) =
            pages!(secrets.client.list_secret_properties_versions(&name, None)?);
        ensure!(versions.len() == 2, "{} versions", versions.len());
        Ok(())
    };
    checks.check("secrets: a second value is a new version; the first stays", again).await;
    let change = async {
        let expires = Some(OffsetDateTime::from_unix_timestamp(2_209_086_245)?);
        let asked = UpdateSecretPropertiesParameters {
            content_type: Some("x/y".to_owned()),
            secret_attributes: Some(SecretAttributes { expires, ..SecretAttributes::default() }),
            tags: Some(HashMap::from([("b".to_owned(), "2".to_owned())])),
        };
        secrets.update(&name, asked).await?;
        let read = secrets.get(&name, None).await?;
        ensure!(read.value.as_deref() == Some("two"), "another value");
        ensure!(read.content_type.as_deref() == Some("x/y"), "{:?}", read.content_type);
        ensure!(read.attributes.is_some_and(|attributes| attributes.expires == expires), "another date");
        ensure!(read.tags.is_some_and(|tags| tags["b"] == "2"), "other tags");
        Ok(())
    };
    checks.check("secrets: attributes change, the value does not", change).await;
    let enabled = |enabled| UpdateSecretPropertiesParameters {
        secret_attributes: Some(SecretAttributes { enabled: Some(enabled), ..SecretAttributes::default() }),
        ..UpdateSecretPropertiesParameters::default()
    };
    let disabled = async {
        secrets.update(&name, enabled(false)).await?;
        refused(secrets.get(&name, None).await, StatusCode::Forbidden, "Forbidden")?;
        secrets.update(&name, enabled(true)).await?;
        secrets.has(&name, None, "two").await
    };
    checks.check("secrets: a disabled secret is not read: 403", disabled).await;
    let long = async {
        let (name, value) = (secrets.vault.named("long"), "0123456789".repeat(2500));
        secrets.set(&name, valued(&value)).await?;
        secrets.has(&name, None, &value).await
    };
    checks.check("secrets: 25,000 characters", long).await;
}

async fn life(secrets: &Secrets<'_>, checks: &mut Checks) {
    let name = secrets.vault.named("life");
    let delete = async {
        secrets.set(&name, valued("kept")).await?;
        let secret_backup = secrets.client.backup_secret(&name, None).await?.into_model()?.value;
        let deleted = secrets.client.delete_secret(&name, None).await?.into_model()?;
        let recovery = deleted.recovery_id.unwrap_or_default();
        ensure!(recovery == format!("{}/deletedsecrets/{name}", secrets.vault.url), "{recovery}");
        eventually(async || secrets.client.get_deleted_secret(&name, None).await).await?;
        refused(secrets.get(&name, None).await, StatusCode::NotFound, "SecretNotFound")?;
        refused(secrets.set(&name, valued("other")).await, StatusCode::Conflict, "Conflict")?;
        let mut named = secrets.deleted().await?.into_iter().filter_map(|item| item.resource_id().ok());
        ensure!(named.any(|id| id.name == name), "not in the list of deleted secrets");
        Ok(RestoreSecretParameters { secret_backup })
    };
    let what = "secrets: delete; the name is taken and the value is gone";
    let Some(saved) = checks.check(what, delete).await else { return };
    let recover = async {
        secrets.client.recover_deleted_secret(&name, None).await?;
        eventually(async || secrets.get(&name, None).await).await?;
        secrets.has(&name, None, "kept").await
    };
    checks.check("secrets: recover; the value is back", recover).await;
    let restore = async {
        secrets.remove(&name).await?;
        refused(secrets.client.get_deleted_secret(&name, None).await, StatusCode::NotFound, "")?;
        secrets.client.restore_secret(saved.try_into()?, None).await?;
        secrets.has(&name, None, "kept").await
    };
    checks.check("secrets: purge; restore from the backup", restore).await;
}
