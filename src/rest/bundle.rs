//! Keys as Azure shows them: bundles, items of lists, and what deletion adds.
//!
//! `kty` says `RSA-HSM` of a key that was asked for so, and `RSA` of others, as clients expect; the key itself is in the HSM
//! either way. What was asked for is kept in a tag ([`MARK`]) that this face hides. A Managed HSM says `-HSM` of every
//! key, and so does every oct key.
//!
//! An oct key has no `key_ops`: there are clients that take one with `key_ops` for a local key, invent its bytes, and encrypt
//! under what nobody has.

use serde_json::{Map, Value, json};
use strongroom_hsm::algorithms::KeyType;

use super::{address::Flavour, attributes::Known, call::Call};
use crate::{
    model::{Jwk, KeyName, State, Tags, VaultRow, VersionRow},
    service::{KeyView, VersionView},
};

/// The tag that says that a key was asked for as one of an HSM.
pub(super) const MARK: &str = "strongroom-azure-kty";
/// What it says.
pub(super) const MARKED: &str = "HSM";
/// For how long deleted keys are kept, in what clients read of an instant.
const DAY_S: i64 = 86_400;

/// A key with one of its versions.
pub(super) fn bundle(call: &Call<'_>, view: &KeyView) -> Value {
    let KeyView { vault, key, version } = view;
    let mut bundle = json!({
        "key": jwk(call, &key.name, version),
        "attributes": attributes(vault, version),
        "tags": tags(&version.tags),
    });
    deletion(call, vault, key.state, &format!("deletedkeys/{}", key.name), &mut bundle);
    bundle
}

/// A key in a list: without its version.
pub(super) fn item(call: &Call<'_>, view: &KeyView) -> Value {
    let KeyView { vault, key, version } = view;
    let mut item = json!({
        "kid": call.url(&format!("keys/{}", key.name)),
        "attributes": attributes(vault, version),
        "tags": tags(&version.tags),
    });
    deletion(call, vault, key.state, &format!("deletedkeys/{}", key.name), &mut item);
    item
}

/// A version in a list.
pub(super) fn version_item(call: &Call<'_>, view: &VersionView) -> Value {
    json!({
        "kid": kid(call, &view.key.name, &view.version),
        "attributes": attributes(&view.vault, &view.version),
        "tags": tags(&view.version.tags),
    })
}

/// The full name of a version: a URL of the host that was called.
pub(super) fn kid(call: &Call<'_>, name: &KeyName, version: &VersionRow) -> String {
    call.url(&format!("keys/{name}/{}", version.version))
}

/// `recoveryId` and the dates, of what is deleted.
pub(super) fn deletion(call: &Call<'_>, vault: &VaultRow, state: State, path: &str, shown: &mut Value) {
    if let State::Deleted { since, purge_at } = state {
        shown["recoveryId"] = call.url(path).into();
        shown["deletedDate"] = since.0.into();
        // Whatever trusted time says, clients are to read a date that lies behind the deletion.
        let promised = since.0.saturating_add(i64::from(vault.retention_days).saturating_mul(DAY_S));
        shown["scheduledPurgeDate"] = purge_at.0.max(promised).into();
    }
}

fn attributes(vault: &VaultRow, version: &VersionRow) -> Value {
    let known = Known {
        enabled: version.enabled,
        created: version.created,
        updated: version.updated,
        not_before: version.not_before,
        expires: version.expires,
    };
    let mut shown = known.shown(vault);
    shown.insert("exportable".to_owned(), false.into());
    Value::Object(shown)
}

fn tags(tags: &Tags) -> Map<String, Value> {
    let shown = tags.iter().filter(|(name, _)| *name != MARK);
    shown.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn jwk(call: &Call<'_>, name: &KeyName, version: &VersionRow) -> Value {
    let kid = kid(call, name, version);
    let kty = kty(call.flavour, version);
    let Some(public) = Jwk::public(&kid, version.ops, &version.public) else {
        return json!({ "kid": kid, "kty": kty });
    };
    let ops: Vec<&str> = version.ops.iter().map(|(_, name)| name).collect();
    let mut jwk = json!({ "kid": kid, "kty": kty, "key_ops": ops });
    for (member, text) in public.members() {
        // RFC 8812 calls it secp256k1; Azure does not.
        jwk[member] = if (member, text) == ("crv", "secp256k1") { "P-256K".into() } else { text.into() };
    }
    jwk
}

fn kty(flavour: Flavour, version: &VersionRow) -> String {
    let plain = match version.spec.key_type() {
        KeyType::Rsa => "RSA",
        KeyType::Ec => "EC",
        KeyType::Okp => "OKP",
        KeyType::Aes | KeyType::Hmac => "oct",
    };
    let is_marked = version.tags.iter().any(|tag| tag == (MARK, MARKED));
    let is_secret = version.spec.key_type().is_secret();
    let of_hsm = is_marked || is_secret || flavour == Flavour::ManagedHsm;
    if of_hsm { format!("{plain}-HSM") } else { plain.to_owned() }
}
