//! Keys: made, shown, changed, listed, deleted, brought back, and carried out and in as one piece.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    attributes::{Attributes, tags},
    bundle::{self, MARK, MARKED},
    call::{Answer, Bytes, Call, required},
    errors::of_service,
    fault::{Fault, Noun},
    page::Paging,
};
use crate::{
    grpc::pages::List,
    model::{KeyBackup, KeyName, KeyOps, KeySpec, Residency, Tags, base64},
    service::{ChangeOptions, KeyFilter, KeyView, NewKey, Page, ServiceError, VersionPatch, keys::Age},
};

/// How many keys are looked through for a page of deleted ones: they are few among many.
const LOOKED_THROUGH: u32 = 200;

/// What is said of a version, whichever way it is made.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct About {
    attributes: Option<Attributes>,
    tags: Option<BTreeMap<String, String>>,
    release_policy: Option<Value>,
}

#[derive(Deserialize)]
struct Create {
    kty: Option<String>,
    #[serde(default)]
    key_size: Option<i64>,
    #[serde(default)]
    public_exponent: Option<i64>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(flatten)]
    about: About,
}

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(flatten)]
    about: About,
}

#[derive(Deserialize)]
struct Restore {
    value: Option<Bytes>,
}

impl About {
    /// Refuses what only other services do with keys.
    fn check(&self) -> Result<(), Fault> {
        let asks = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null());
        if asks(&self.release_policy) || self.attributes.as_ref().is_some_and(|said| said.exportable == Some(true)) {
            return Err(Fault::bad("Keys do not leave the HSM: exportable and release_policy are not supported here."));
        }
        if self.attributes.as_ref().is_some_and(|said| asks(&said.external_key)) {
            return Err(Fault::bad("Keys of an external key manager are not supported here."));
        }
        Ok(())
    }

    fn tags(&mut self) -> Result<Option<Tags>, Fault> {
        if self.tags.as_ref().is_some_and(|tags| tags.contains_key(MARK)) {
            return Err(Fault::property("tags", &format!("{MARK} is a tag of the service's own")));
        }
        tags(self.tags.take())
    }

    /// A new version of that kind.
    pub(super) fn new_key(
        mut self,
        call: &Call<'_>,
        kty: &Kty<'_>,
        spec: KeySpec,
        ops: Option<KeyOps>,
    ) -> Result<NewKey, Fault> {
        self.check()?;
        let tags = self.tags()?.unwrap_or_default();
        let attributes = self.attributes.unwrap_or_default();
        Ok(NewKey {
            vault: call.vault.clone(),
            name: call.object_name()?,
            spec,
            ops,
            enabled: attributes.enabled.unwrap_or(true),
            not_before: attributes.not_before()?,
            expires: attributes.expires()?,
            tags: kty.mark(tags)?,
            residency: Residency::Wrapped,
            must_not_exist: false,
        })
    }
}

/// A `kty`, and whether it is one of an HSM.
pub(super) struct Kty<'a> {
    pub(super) plain: &'a str,
    is_of_hsm: bool,
}

impl<'a> Kty<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let plain = text.strip_suffix("-HSM");
        Self { plain: plain.unwrap_or(text), is_of_hsm: plain.is_some() }
    }

    /// The same, of an HSM where that is asked for beside it.
    pub(super) fn or_of_hsm(self, asked: Option<bool>) -> Self {
        Self { is_of_hsm: self.is_of_hsm || asked == Some(true), ..self }
    }

    /// The tags with what is to be remembered of it.
    fn mark(&self, tags: Tags) -> Result<Tags, Fault> {
        // An oct key is one of an HSM in any case.
        if !self.is_of_hsm || self.plain == "oct" {
            return Ok(tags);
        }
        let owned = tags.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Tags::new(owned.chain([(MARK.to_owned(), MARKED.to_owned())]))
            .map_err(|_| Fault::property("tags", "a key of type *-HSM has at most 14 tags here, one less than others"))
    }

    /// The kind of key that is meant.
    fn spec(&self, size: Option<i64>, curve: Option<&str>, ops: Option<KeyOps>) -> Result<KeySpec, Fault> {
        let wrong_size = |takes: &str| {
            let size = size.unwrap_or_default();
            Fault::bad(format!("Unsupported key size ({size}). Supported sizes are [{takes}]"))
        };
        match (self.plain, size) {
            ("RSA", None | Some(2048)) => Ok(KeySpec::Rsa2048),
            ("RSA", Some(3072)) => Ok(KeySpec::Rsa3072),
            ("RSA", Some(4096)) => Ok(KeySpec::Rsa4096),
            ("RSA", _) => Err(wrong_size("2048, 3072, 4096")),
            // Some clients send a key_size of RSA with it.
            ("EC", _) => spec_of_curve(curve.unwrap_or("P-256")),
            ("OKP", _) if matches!(curve, None | Some("Ed25519")) => Ok(KeySpec::Ed25519),
            ("OKP", _) => Err(Fault::property("crv", "OKP keys are on Ed25519")),
            ("oct", size) if makes_macs(ops)? => match size {
                None | Some(256) => Ok(KeySpec::Hmac256),
                Some(384) => Ok(KeySpec::Hmac384),
                Some(512) => Ok(KeySpec::Hmac512),
                Some(_) => Err(wrong_size("256, 384, 512")),
            },
            ("oct", Some(128)) => Ok(KeySpec::Aes128),
            ("oct", Some(192)) => Ok(KeySpec::Aes192),
            ("oct", None | Some(256)) => Ok(KeySpec::Aes256),
            ("oct", _) => Err(wrong_size("128, 192, 256")),
            _ => Err(Fault::property("kty", "RSA, RSA-HSM, EC, EC-HSM and oct-HSM are taken")),
        }
    }
}

/// The kind of key on a curve.
pub(super) fn spec_of_curve(curve: &str) -> Result<KeySpec, Fault> {
    match curve {
        "P-256" => Ok(KeySpec::P256),
        "P-384" => Ok(KeySpec::P384),
        "P-521" => Ok(KeySpec::P521),
        "P-256K" | "SECP256K1" | "secp256k1" => Ok(KeySpec::P256K),
        _ => Err(Fault::property("crv", "P-256, P-384, P-521 and P-256K are taken")),
    }
}

/// Whether an oct key with these operations is one for HMAC rather than for AES.
pub(super) fn makes_macs(ops: Option<KeyOps>) -> Result<bool, Fault> {
    const MACS: KeyOps = KeyOps::SIGN.union(KeyOps::VERIFY);
    let Some(ops) = ops else { return Ok(false) };
    match ops.intersection(MACS) {
        KeyOps::NONE => Ok(false),
        both if both == ops => Ok(true),
        _ => Err(Fault::property(
            "key_ops",
            "an oct key either signs and verifies, or encrypts, decrypts, wraps and unwraps",
        )),
    }
}

/// Operations by their names. None where none is named: a key that can do nothing is of no use, and there are clients that
/// send an empty list when they mean that nothing changes.
pub(super) fn ops(names: Option<&[String]>) -> Result<Option<KeyOps>, Fault> {
    let mut ops = KeyOps::NONE;
    for name in names.unwrap_or_default() {
        let found = KeyOps::from_name(name);
        let why = "encrypt, decrypt, sign, verify, wrapKey, unwrapKey and import are taken";
        ops = ops.union(found.ok_or_else(|| Fault::property("key_ops", why))?);
    }
    Ok(Some(ops).filter(|ops| *ops != KeyOps::NONE))
}

impl Call<'_> {
    /// What came of the service, or what is answered when it failed.
    pub(super) fn done<T>(&self, result: Result<T, ServiceError>) -> Result<T, Fault> {
        result.map_err(|error| of_service(&error, self.route.operation, &self.caller.request))
    }

    fn bundle(&self, result: Result<KeyView, ServiceError>) -> Result<Answer, Fault> {
        Ok(Answer::ok(&bundle::bundle(self, &self.done(result)?)))
    }

    /// A key that was made.
    pub(super) fn made(&self, result: Result<KeyView, ServiceError>) -> Result<Answer, Fault> {
        self.bundle(result)
    }
}

pub(super) async fn create(call: &Call<'_>) -> Result<Answer, Fault> {
    let Create { kty, key_size, public_exponent, key_ops, crv, about } = call.json()?;
    let kty = required("kty", kty)?;
    let kty = Kty::new(&kty);
    if public_exponent.is_some_and(|exponent| exponent != 0 && exponent != 65_537) {
        return Err(Fault::property("public_exponent", "65537 is taken"));
    }
    let ops = ops(key_ops.as_deref())?;
    let spec = kty.spec(key_size, crv.as_deref(), ops)?;
    let new = about.new_key(call, &kty, spec, ops)?;
    call.bundle(call.service.create_key(call.caller, new, ChangeOptions::default()).await)
}

pub(super) async fn rotate(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_key()?;
    call.bundle(call.service.rotate_key(call.caller, &name, ChangeOptions::default()).await)
}

/// A key that is not deleted.
async fn live(call: &Call<'_>) -> Result<KeyView, Fault> {
    let view = call.done(call.service.get_key(call.caller, &call.key()?).await)?;
    if !view.key.state.is_active() || !view.version.state.is_active() {
        let version = call.route.version.as_ref().map(|version| format!("/{version}")).unwrap_or_default();
        return Err(Fault::not_found(Noun::Key, &format!("{}{version}", view.key.name)));
    }
    Ok(view)
}

pub(super) async fn get(call: &Call<'_>) -> Result<Answer, Fault> {
    Ok(Answer::ok(&bundle::bundle(call, &live(call).await?)))
}

pub(super) async fn update(call: &Call<'_>) -> Result<Answer, Fault> {
    let Update { key_ops, mut about } = call.json()?;
    about.check()?;
    let tags = about.tags()?;
    let attributes = about.attributes.unwrap_or_default();
    let patch = VersionPatch {
        enabled: attributes.enabled,
        not_before: attributes.not_before()?.map(Some),
        expires: attributes.expires()?.map(Some),
        ops: ops(key_ops.as_deref())?,
        tags,
        tag_kept: Some(MARK),
    };
    call.bundle(call.service.update_version(call.caller, &call.key()?, patch, ChangeOptions::default()).await)
}

pub(super) async fn list(call: &Call<'_>) -> Result<Answer, Fault> {
    let parent = call.vault.to_string();
    let paging = Paging::of(call, List { kind: "keys", parent: &parent, deleted: false })?;
    let page = paging.page(|last| last.parse().ok())?;
    let (found, last) =
        call.done(call.service.list_keys(call.caller, &call.vault, &KeyFilter::default(), page).await)?;
    let items = found.iter().map(|view| bundle::item(call, view)).collect();
    Ok(paging.answer(items, last.map(|name| name.to_string())))
}

pub(super) async fn list_deleted(call: &Call<'_>) -> Result<Answer, Fault> {
    let parent = call.vault.to_string();
    let paging = Paging::of(call, List { kind: "keys", parent: &parent, deleted: true })?;
    let page: Page<KeyName> = paging.page(|last| last.parse().ok())?;
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let page = Page { size: LOOKED_THROUGH, ..page };
    let filter = KeyFilter { deleted: Some(true), ..KeyFilter::default() };
    let (mut found, mut last) = call.done(call.service.list_keys(call.caller, &call.vault, &filter, page).await)?;
    if found.len() > size {
        found.truncate(size);
        last = found.last().map(|view| view.key.name.clone());
    }
    let items = found.iter().map(|view| bundle::item(call, view)).collect();
    Ok(paging.answer(items, last.map(|name| name.to_string())))
}

pub(super) async fn list_versions(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_key()?;
    let parent = name.to_string();
    let paging = Paging::of(call, List { kind: "versions", parent: &parent, deleted: false })?;
    let page = paging.page(|last| last.parse().ok())?;
    let (found, last) = call.done(call.service.list_versions(call.caller, &name, page).await)?;
    if found.iter().any(|view| !view.key.state.is_active()) {
        return Err(Fault::not_found(Noun::Key, name.key.as_str()));
    }
    let items = found.iter().map(|view| bundle::version_item(call, view)).collect();
    Ok(paging.answer(items, last.map(|ordinal| ordinal.to_string())))
}

pub(super) async fn delete(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_key()?;
    call.bundle(call.service.delete_key(call.caller, &name, ChangeOptions::default()).await)
}

pub(super) async fn get_deleted(call: &Call<'_>) -> Result<Answer, Fault> {
    let view = call.done(call.service.get_key(call.caller, &call.whole_key()?).await)?;
    if view.key.state.is_active() {
        return Err(Fault::not_found(Noun::Key, view.key.name.as_str()));
    }
    Ok(Answer::ok(&bundle::bundle(call, &view)))
}

pub(super) async fn recover(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_key()?;
    call.bundle(call.service.undelete_key(call.caller, &name, ChangeOptions::default()).await)
}

pub(super) async fn purge(call: &Call<'_>) -> Result<Answer, Fault> {
    let name = call.whole_key()?;
    call.done(call.service.purge_key(call.caller, &name, ChangeOptions::default()).await)?;
    Ok(Answer::nothing())
}

pub(super) async fn backup(call: &Call<'_>) -> Result<Answer, Fault> {
    let made = call.done(call.service.backup_key(call.caller, &call.whole_key()?).await)?;
    Ok(Answer::ok(&json!({ "value": base64::encode(&made.bytes) })))
}

/// Whoever restores in Azure means this backup, however old; what is older than what is known is recorded as such.
pub(super) async fn restore(call: &Call<'_>) -> Result<Answer, Fault> {
    let Restore { value } = call.json()?;
    let backup = KeyBackup::read(&required("value", value)?.public());
    let backup = backup.map_err(|why| Fault::property("value", &why.to_string()))?;
    // It says itself which vault it is of, and that must be the one that was called.
    if backup.backup.key.vault != call.vault {
        return Err(Fault::property("value", "it is a backup of another vault's key"));
    }
    call.bundle(call.service.restore_key(call.caller, backup, Age::Older, ChangeOptions::default()).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kty: &str, size: Option<i64>, curve: Option<&str>, ops: Option<KeyOps>) -> Option<KeySpec> {
        Kty::new(kty).spec(size, curve, ops).ok()
    }

    #[test]
    fn a_kind_of_key_has_its_defaults_and_bounds() {
        for (kty, size, curve, expected) in [
            ("RSA", None, None, Some(KeySpec::Rsa2048)),
            ("RSA-HSM", Some(4096), None, Some(KeySpec::Rsa4096)),
            ("RSA", Some(1000), None, None),
            ("EC", Some(2048), None, Some(KeySpec::P256)),
            ("EC-HSM", None, Some("P-256K"), Some(KeySpec::P256K)),
            ("EC", None, Some("P-111"), None),
            ("oct-HSM", Some(192), None, Some(KeySpec::Aes192)),
            ("oct", None, None, Some(KeySpec::Aes256)),
            ("oct", Some(-1), None, None),
            ("DSA", None, None, None),
            ("", None, None, None),
        ] {
            assert_eq!(spec(kty, size, curve, None), expected, "{kty}");
        }
        let macs = KeyOps::SIGN.union(KeyOps::VERIFY);
        assert_eq!(spec("oct-HSM", Some(512), None, Some(macs)), Some(KeySpec::Hmac512));
        assert_eq!(spec("oct-HSM", None, None, Some(macs.union(KeyOps::ENCRYPT))), None);
    }

    #[test]
    fn operations_are_named_and_an_empty_list_says_nothing() {
        let named = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            ops(Some(&names))
        };
        assert_eq!(named(&["sign", "wrapKey"]).expect("right"), Some(KeyOps::SIGN.union(KeyOps::WRAP_KEY)));
        assert_eq!(named(&[]).expect("right"), None);
        assert!(named(&["export"]).is_err() && named(&["Sign"]).is_err());
    }

    #[test]
    fn a_key_of_an_hsm_is_remembered_as_one() {
        let tags = |count: usize| Tags::new((0..count).map(|n| (format!("t{n}"), String::new()))).expect("tags");
        let marked = Kty::new("RSA-HSM").mark(tags(14)).expect("fits");
        assert!(marked.iter().any(|tag| tag == (MARK, MARKED)));
        assert!(Kty::new("RSA-HSM").mark(tags(15)).is_err());
        assert_eq!(Kty::new("RSA").mark(tags(15)).expect("fits"), tags(15));
        assert!(Kty::new("EC").or_of_hsm(Some(true)).mark(tags(0)).expect("fits").iter().next().is_some());
    }
}
