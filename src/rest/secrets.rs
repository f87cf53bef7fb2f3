//! Secrets: set, read, shown without their value, changed, deleted, brought back, carried out and in.
//!
//! Azure's values are text of at most 25 KB; so are those that are set here. One that was set over gRPC and is no text has
//! none here. A value goes from the JSON that came into memory that is wiped, and from such memory into the JSON that
//! goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strongroom_hsm::SecretBytes;
use zeroize::Zeroizing;

use super::{
    attributes::{Attributes, Known, tags},
    bundle::deletion,
    call::{Answer, Bytes, Call, required},
    fault::{Fault, Noun},
    page::Paging,
};
use crate::{
    grpc::pages::List,
    model::{SecretBackup, SecretName, base64},
    service::{
        ChangeOptions, Page, ServiceError,
        keys::Age,
        secrets::{NewSecret, SecretFilter, SecretPatch, SecretRef, SecretView},
    },
};

/// The longest value that is set here, as Azure's.
const VALUE_BYTES_MAX: usize = 25 * 1024;
/// How many secrets are looked through for a page of deleted ones.
const LOOKED_THROUGH: u32 = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Set {
    value: Option<Zeroizing<String>>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    attributes: Option<Attributes>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    attributes: Option<Attributes>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Restore {
    value: Option<Bytes>,
}

/// A secret with its value.
#[derive(Serialize)]
struct WithValue<'a> {
    value: &'a str,
    #[serde(flatten)]
    rest: Value,
}

impl Call<'_> {
    /// The secret of the path, with its version, if one is named.
    fn secret(&self) -> Result<SecretRef, Fault> {
        Ok(SecretRef { version: self.version()?, ..self.whole_secret()? })
    }

    fn whole_secret(&self) -> Result<SecretRef, Fault> {
        Ok(SecretRef { vault: self.vault.clone(), secret: self.object_name()?, version: None })
    }

    fn secret_bundle(&self, result: Result<SecretView, ServiceError>) -> Result<Answer, Fault> {
        Ok(Answer::ok(&bundle(self, &self.done(result)?)))
    }

    fn secret_with_value(&self, view: &SecretView, value: &str) -> Result<Answer, Fault> {
        let shown = WithValue { value, rest: bundle(self, view) };
        // JSON makes six letters of one at most.
        Answer::secret(&shown, 6 * value.len())
    }
}

fn known(view: &SecretView) -> Value {
    let version = &view.version;
    let known = Known {
        enabled: version.enabled,
        created: version.created,
        updated: version.updated,
        not_before: version.not_before,
        expires: version.expires,
    };
    Value::Object(known.shown(&view.vault))
}

/// A version, as all lists and bundles show it.
fn shown(call: &Call<'_>, view: &SecretView, id: &str) -> Value {
    let tags: BTreeMap<&str, &str> = view.version.tags.iter().collect();
    let mut shown = json!({ "id": call.url(id), "attributes": known(view), "tags": tags });
    if !view.version.content_type.is_empty() {
        shown["contentType"] = view.version.content_type.as_str().into();
    }
    shown
}

/// A secret with one of its versions, without its value.
fn bundle(call: &Call<'_>, view: &SecretView) -> Value {
    let mut bundle = version_item(call, view);
    deletion(call, &view.vault, view.secret.state, &format!("deletedsecrets/{}", view.secret.name), &mut bundle);
    bundle
}

fn version_item(call: &Call<'_>, view: &SecretView) -> Value {
    shown(call, view, &format!("secrets/{}/{}", view.secret.name, view.version.version))
}

/// A secret in a list: without its version.
fn item(call: &Call<'_>, view: &SecretView) -> Value {
    let mut item = shown(call, view, &format!("secrets/{}", view.secret.name));
    deletion(call, &view.vault, view.secret.state, &format!("deletedsecrets/{}", view.secret.name), &mut item);
    item
}

pub(super) async fn set(call: &Call<'_>) -> Result<Answer, Fault> {
    let Set { value, content_type, attributes, tags: said } = call.json()?;
    let value = required("value", value)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Fault::property("value", "it is longer than 25 KB"));
    }
    let attributes = attributes.unwrap_or_default();
    let new = NewSecret {
        vault: call.vault.clone(),
        name: call.object_name()?,
        value: SecretBytes::new(value.as_bytes().to_vec()),
        content_type: content_type.unwrap_or_default(),
        enabled: attributes.enabled.unwrap_or(true),
        not_before: attributes.not_before()?,
        expires: attributes.expires()?,
        tags: tags(said)?.unwrap_or_default(),
        must_not_exist: false,
    };
    let made = call.done(call.service.set_secret(call.caller, new, ChangeOptions::default()).await)?;
    call.secret_with_value(&made, &value)
}

pub(super) async fn get(call: &Call<'_>) -> Result<Answer, Fault> {
    if call.target.parameter("outcontenttype").is_some_and(|wanted| !wanted.is_empty()) {
        return Err(Fault::property("outContentType", "it is for the secrets of certificates"));
    }
    let (view, value) = call.done(call.service.get_secret_value(call.caller, &call.secret()?).await)?;
    let text = std::str::from_utf8(value.expose_secret());
    let text = text.map_err(|_| Fault::bad("The value is not text: it was set over gRPC, and is read there."))?;
    call.secret_with_value(&view, text)
}

pub(super) async fn update(call: &Call<'_>) -> Result<Answer, Fault> {
    let Update { content_type, attributes, tags: said } = call.json()?;
    let attributes = attributes.unwrap_or_default();
    let patch = SecretPatch {
        content_type,
        enabled: attributes.enabled,
        not_before: attributes.not_before()?.map(Some),
        expires: attributes.expires()?.map(Some),
        tags: tags(said)?,
    };
    let name = call.secret()?;
    call.secret_bundle(call.service.update_secret_version(call.caller, &name, patch, ChangeOptions::default()).await)
}

pub(super) async fn list(call: &Call<'_>) -> Result<Answer, Fault> {
    let parent = call.vault.to_string();
    let paging = Paging::of(call, List { kind: "secrets", parent: &parent, deleted: false })?;
    let page = paging.page(|last| last.parse().ok())?;
    let found = call.service.list_secrets(call.caller, &call.vault, &SecretFilter::default(), page).await;
    let (found, last) = call.done(found)?;
    let items = found.iter().map(|view| item(call, view)).collect();
    Ok(paging.answer(items, last.map(|name| name.to_string())))
}

pub(super) async fn list_deleted(call: &Call<'_>) -> Result<Answer, Fault> {
    let parent = call.vault.to_string();
    let paging = Paging::of(call, List { kind: "secrets", parent: &parent, deleted: true })?;
    let page: Page<SecretName> = paging.page(|last| last.parse().ok())?;
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let page = Page { size: LOOKED_THROUGH, ..page };
    let filter = SecretFilter { deleted: Some(true), ..SecretFilter::default() };
    let (mut found, mut last) = call.done(call.service.list_secrets(call.caller, &call.vault, &filter, page).await)?;
    if found.len() > size {
        found.truncate(size);
        last = found.last().map(|view| view.secret.name.clone());
    }
    let items = found.iter().map(|view| item(call, view)).collect();
    Ok(paging.answer(items, last.map(|name| name.to_string())))
}

pub(super) async fn list_versions(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_secret()?;
    let parent = name.to_string();
    let paging = Paging::of(call, List { kind: "versions", parent: &parent, deleted: false })?;
    let page = paging.page(|last| last.parse().ok())?;
    let (found, last) = call.done(call.service.list_secret_versions(call.caller, &name, page).await)?;
    if found.iter().any(|view| !view.secret.state.is_active()) {
        return Err(Fault::not_found(Noun::Secret, name.secret.as_str()));
    }
    let items = found.iter().map(|view| version_item(call, view)).collect();
    Ok(paging.answer(items, last.map(|ordinal| ordinal.to_string())))
}

pub(super) async fn delete(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_secret()?;
    call.secret_bundle(call.service.delete_secret(call.caller, &name, ChangeOptions::default()).await)
}

pub(super) async fn get_deleted(call: &Call<'_>) -> Result<Answer, Fault> {
    let view = call.done(call.service.get_secret(call.caller, &call.whole_secret()?).await)?;
    if view.secret.state.is_active() {
        return Err(Fault::not_found(Noun::Secret, view.secret.name.as_str()));
    }
    Ok(Answer::ok(&bundle(call, &view)))
}

pub(super) async fn recover(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_secret()?;
    call.secret_bundle(call.service.undelete_secret(call.caller, &name, ChangeOptions::default()).await)
}

pub(super) async fn purge(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_secret()?;
    call.done(call.service.purge_secret(call.caller, &name, ChangeOptions::default()).await)?;
    Ok(Answer::nothing())
}

pub(super) async fn backup(call: &Call<'_>) -> Result<Answer, Fault> {
    let made = call.done(call.service.backup_secret(call.caller, &call.whole_secret()?).await)?;
    Ok(Answer::ok(&json!({ "value": base64::encode(&made.bytes) })))
}

/// See [`super::keys::restore`].
pub(super) async fn restore(call: &Call<'_>) -> Result<Answer, Fault> {
    let Restore { value } = call.json()?;
    let backup = SecretBackup::read(&required("value", value)?.public());
    let backup = backup.map_err(|why| Fault::property("value", &why.to_string()))?;
    if backup.backup.secret.vault != call.vault {
        return Err(Fault::property("value", "it is a backup of another vault's secret"));
    }
    let brought = call.service.restore_secret(call.caller, backup, Age::Older, ChangeOptions::default()).await;
    call.secret_bundle(brought)
}
