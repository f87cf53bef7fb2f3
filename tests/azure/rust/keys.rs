//! Keys with `azure_security_keyvault_keys`: made, used, rotated, changed, deleted, recovered, purged, listed.
//! AWS-LC checks what comes back: with the public key alone, or with a key made here and imported.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::{
    digest,
    encoding::AsBigEndian as _,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
    signature::{self, EcdsaKeyPair, KeyPair as _, RsaPublicKeyComponents, UnparsedPublicKey},
};
use azure_core::{
    http::{RequestContent, StatusCode},
    time::OffsetDateTime,
};
use azure_security_keyvault_keys::{
    KeyClient, KeyClientOptions, ResourceExt as _, ResourceId,
    models::{
        CreateKeyParameters, CurveName, DeletedKeyProperties, EncryptionAlgorithm, GetRandomBytesParameters,
        ImportKeyParameters, JsonWebKey, Key, KeyAttributes, KeyClientGetKeyOptions, KeyClientSignOptions,
        KeyClientUpdateKeyPropertiesOptions, KeyClientWrapKeyOptions, KeyOperation, KeyOperationParameters,
        KeyProperties, KeyRotationPolicy, KeyRotationPolicyAction, KeyRotationPolicyAttributes, KeyType,
        LifetimeAction, LifetimeActionTrigger, LifetimeActionType, RestoreKeyParameters, SignParameters,
        SignatureAlgorithm, UpdateKeyPropertiesParameters, VerifyParameters,
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::checks::{Checks, Static, Vault, eventually, pages, refused};

const TEXT: &[u8] = b"attack at dawn";

struct Keys<'a> {
    client: KeyClient,
    vault: &'a Vault,
}

pub(crate) async fn run(vault: &Vault, checks: &mut Checks) -> anyhow::Result<()> {
    let keys = Keys::new(vault, Arc::clone(&vault.credential))?;
    refusals(&keys, checks).await?;
    rsa(&keys, checks).await;
    ec(&keys, checks).await;
    if !vault.skipped("oct") {
        symmetric(&keys, checks).await;
    }
    attributes(&keys, checks).await;
    checks.check("keys: import an EC key made here", keys.imports()).await;
    life(&keys, checks).await;
    checks.check("keys: 27 keys come in pages of at most 25", keys.lists()).await;
    checks.check("keys: what was made is purged", keys.purge()).await;
    Ok(())
}

/// A public key, and its name and version there.
struct Made {
    id: ResourceId,
    jwk: JsonWebKey,
}

impl Made {
    fn new(key: Key) -> anyhow::Result<Self> {
        let id = key.resource_id()?;
        Ok(Self { id, jwk: key.key.context("no key")? })
    }

    fn version(&self) -> &str {
        self.id.version.as_deref().unwrap_or_default()
    }

    fn kid(&self) -> &str {
        self.jwk.kid.as_deref().unwrap_or_default()
    }

    fn components(&self) -> anyhow::Result<RsaPublicKeyComponents<&[u8]>> {
        let n = self.jwk.n.as_deref().context("no n")?;
        Ok(RsaPublicKeyComponents { n, e: self.jwk.e.as_deref().context("no e")? })
    }

    /// The point as X9.62 has it, uncompressed.
    fn point(&self) -> anyhow::Result<Vec<u8>> {
        let x = self.jwk.x.as_deref().context("no x")?;
        Ok([&[4], x, self.jwk.y.as_deref().context("no y")?].concat())
    }

    /// AWS-LC must believe a signature over the text, with nothing but the public key.
    fn verifies(&self, algorithm: &str, signature: &[u8]) -> anyhow::Result<()> {
        let rsa = |how| anyhow::Ok(self.components()?.verify(how, TEXT, signature).is_ok());
        let ec = |how| anyhow::Ok(UnparsedPublicKey::new(how, self.point()?).verify(TEXT, signature).is_ok());
        let believed = match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_2048_8192_SHA256)?,
            "RS384" => rsa(&signature::RSA_PKCS1_2048_8192_SHA384)?,
            "RS512" => rsa(&signature::RSA_PKCS1_2048_8192_SHA512)?,
            "PS256" => rsa(&signature::RSA_PSS_2048_8192_SHA256)?,
            "PS384" => rsa(&signature::RSA_PSS_2048_8192_SHA384)?,
            "PS512" => rsa(&signature::RSA_PSS_2048_8192_SHA512)?,
            "ES256" => ec(&signature::ECDSA_P256_SHA256_FIXED)?,
            "ES384" => ec(&signature::ECDSA_P384_SHA384_FIXED)?,
            "ES512" => ec(&signature::ECDSA_P521_SHA512_FIXED)?,
            other => bail!("{other} is unknown here"),
        };
        ensure!(believed, "{algorithm}: a false signature");
        Ok(())
    }
}

fn hash(algorithm: &str, data: &[u8]) -> Vec<u8> {
    let how = match &algorithm[2..] {
        "256" => &digest::SHA256,
        "384" => &digest::SHA384,
        _ => &digest::SHA512,
    };
    digest::digest(how, data).as_ref().to_vec()
}

fn p256() -> CreateKeyParameters {
    CreateKeyParameters { kty: Some(KeyType::Ec), curve: Some(CurveName::P256), ..CreateKeyParameters::default() }
}

fn asked(algorithm: &EncryptionAlgorithm, value: &[u8]) -> KeyOperationParameters {
    KeyOperationParameters {
        algorithm: Some(algorithm.clone()),
        value: Some(value.to_vec()),
        ..KeyOperationParameters::default()
    }
}

impl<'a> Keys<'a> {
    fn new(vault: &'a Vault, credential: Arc<dyn azure_core::credentials::TokenCredential>) -> anyhow::Result<Self> {
        let options = KeyClientOptions {
            client_options: vault.options(),
            verify_challenge_resource: Some(vault.verify_challenge_resource),
            ..KeyClientOptions::default()
        };
        Ok(Self { client: KeyClient::new(&vault.url, credential, Some(options))?, vault })
    }

    async fn create(&self, name: &str, asked: CreateKeyParameters) -> anyhow::Result<Made> {
        Made::new(self.client.create_key(name, asked.try_into()?, None).await?.into_model()?)
    }

    async fn get(&self, name: &str, version: Option<&str>) -> azure_core::Result<Key> {
        let options = KeyClientGetKeyOptions { key_version: version.map(str::to_owned), ..Default::default() };
        self.client.get_key(name, Some(options)).await?.into_model()
    }

    async fn sign(&self, key: &Made, algorithm: &str, digest: Vec<u8>) -> azure_core::Result<Vec<u8>> {
        let algorithm = algorithm.parse::<SignatureAlgorithm>().ok();
        let asked = RequestContent::try_from(SignParameters { algorithm, value: Some(digest) })?;
        let options = KeyClientSignOptions { key_version: key.id.version.clone(), ..Default::default() };
        let signed = self.client.sign(&key.id.name, asked, Some(options)).await?.into_model()?;
        Ok(signed.result.unwrap_or_default())
    }

    /// Signs there; AWS-LC verifies here, and the service there.
    async fn signs(&self, key: &Made, algorithm: &str) -> anyhow::Result<()> {
        let signature = self.sign(key, algorithm, hash(algorithm, TEXT)).await?;
        key.verifies(algorithm, &signature)?;
        for (text, wanted) in [(TEXT, true), (b"another text", false)] {
            let asked = VerifyParameters {
                algorithm: algorithm.parse().ok(),
                digest: Some(hash(algorithm, text)),
                signature: Some(signature.clone()),
            };
            let answer = self.client.verify(&key.id.name, key.version(), asked.try_into()?, None).await?;
            ensure!(answer.into_model()?.value == Some(wanted), "the service's own verification");
        }
        Ok(())
    }

    /// Encrypts here, with the public key, and decrypts there.
    async fn decrypts(&self, key: &Made) -> anyhow::Result<()> {
        let public: PublicEncryptingKey = key.components()?.try_into()?;
        let oaep = OaepPublicEncryptingKey::new(public)?;
        let mut sealed = vec![0; oaep.ciphertext_size()];
        oaep.encrypt(&OAEP_SHA256_MGF1SHA256, TEXT, &mut sealed, None)?;
        let opened = self.decrypt(key, asked(&EncryptionAlgorithm::RsaOaep256, &sealed)).await?;
        ensure!(opened == TEXT, "another text");
        Ok(())
    }

    async fn decrypt(&self, key: &Made, asked: KeyOperationParameters) -> azure_core::Result<Vec<u8>> {
        let opened = self.client.decrypt(&key.id.name, key.version(), asked.try_into()?, None).await?;
        Ok(opened.into_model()?.result.unwrap_or_default())
    }

    async fn encrypts(&self, key: &Made, algorithm: EncryptionAlgorithm) -> anyhow::Result<()> {
        let sealed =
            self.client.encrypt(&key.id.name, asked(&algorithm, TEXT).try_into()?, None).await?.into_model()?;
        ensure!(sealed.kid.as_deref() == Some(key.kid()), "encrypted with {:?}", sealed.kid);
        let opened = self.decrypt(key, asked(&algorithm, &sealed.result.context("no value")?)).await?;
        ensure!(opened == TEXT, "another text");
        Ok(())
    }

    async fn wraps(&self, key: &Made, algorithm: EncryptionAlgorithm) -> anyhow::Result<()> {
        let mut data = [0; 32];
        aws_lc_rs::rand::fill(&mut data)?;
        let options = KeyClientWrapKeyOptions { key_version: key.id.version.clone(), ..Default::default() };
        let wrapped = self.client.wrap_key(&key.id.name, asked(&algorithm, &data).try_into()?, Some(options)).await?;
        let wrapped = asked(&algorithm, &wrapped.into_model()?.result.context("no value")?);
        let opened = self.client.unwrap_key(&key.id.name, key.version(), wrapped.try_into()?, None).await?;
        ensure!(opened.into_model()?.result.as_deref() == Some(&data[..]), "another key came back");
        Ok(())
    }

    async fn update(&self, key: &Made, asked: UpdateKeyPropertiesParameters) -> anyhow::Result<Key> {
        let options = KeyClientUpdateKeyPropertiesOptions { key_version: key.id.version.clone(), ..Default::default() };
        Ok(self.client.update_key_properties(&key.id.name, asked.try_into()?, Some(options)).await?.into_model()?)
    }

    async fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.client.delete_key(name, None).await?;
        eventually(async || self.client.get_deleted_key(name, None).await).await?;
        self.client.purge_deleted_key(name, None).await?;
        Ok(())
    }

    async fn deleted(&self) -> anyhow::Result<Vec<DeletedKeyProperties>> {
        Ok(pages!(self.client.list_deleted_key_properties(None)?).0)
    }

    async fn imports(&self) -> anyhow::Result<()> {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let point = pair.public_key().as_ref();
        let jwk = JsonWebKey {
            kty: Some(KeyType::Ec),
            crv: Some(CurveName::P256),
            x: Some(point[1..33].to_vec()),
            y: Some(point[33..].to_vec()),
            d: Some(pair.private_key().as_be_bytes()?.as_ref().to_vec()),
            ..JsonWebKey::default()
        };
        let asked = ImportKeyParameters { key: Some(jwk), ..ImportKeyParameters::default() };
        let name = self.vault.named("imported");
        let key = Made::new(self.client.import_key(&name, asked.try_into()?, None).await?.into_model()?)?;
        ensure!(key.jwk.d.is_none(), "the private part came back");
        ensure!(key.point()? == point, "another key");
        self.signs(&key, "ES256").await
    }

    async fn lists(&self) -> anyhow::Result<()> {
        let names: Vec<String> = (0..27).map(|number| self.vault.named(&format!("list{number}"))).collect();
        let made = futures_util::stream::iter(&names).map(|name| self.create(name, p256()));
        made.buffer_unordered(4).try_collect::<Vec<_>>().await?;
        let (items, count): (Vec<KeyProperties>, _) = pages!(self.client.list_key_properties(None)?);
        ensure!(count >= 2, "{count} pages");
        for name in &names {
            let id = format!("{}/keys/{name}", self.vault.url);
            ensure!(items.iter().any(|item| item.kid.as_deref() == Some(&*id)), "{name} is not in the list");
        }
        Ok(())
    }

    async fn purge(&self) -> anyhow::Result<()> {
        let (items, _): (Vec<KeyProperties>, _) = pages!(self.client.list_key_properties(None)?);
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

async fn refusals(keys: &Keys<'_>, checks: &mut Checks) -> anyhow::Result<()> {
    let none = keys.vault.named("none");
    let unknown = async { refused(keys.get(&none, None).await, StatusCode::NotFound, "KeyNotFound") };
    checks.check("keys: an unknown key: 404 KeyNotFound", unknown).await;
    let stranger = Keys::new(keys.vault, Arc::new(Static("false".to_owned())))?;
    let believed = async { refused(stranger.get(&none, None).await, StatusCode::Unauthorized, "") };
    checks.check("keys: a false token: 401", believed).await;
    let long = async {
        let key = keys.create(&keys.vault.named("digest"), p256()).await?;
        refused(keys.sign(&key, "ES256", hash("ES512", TEXT)).await, StatusCode::BadRequest, "BadParameter")
    };
    checks.check("keys: a digest of the wrong length: 400", long).await;
    Ok(())
}

async fn rsa(keys: &Keys<'_>, checks: &mut Checks) {
    let name = keys.vault.named("rsa");
    let create = async {
        let asked = CreateKeyParameters {
            kty: Some(KeyType::Rsa),
            key_size: Some(2048),
            tags: Some(HashMap::from([("team".to_owned(), "blue".to_owned())])),
            ..CreateKeyParameters::default()
        };
        let key = keys.create(&name, asked).await?;
        ensure!(key.jwk.kty == Some(KeyType::Rsa), "{:?}", key.jwk.kty);
        ensure!(key.kid().starts_with(&format!("{}/keys/{name}/", keys.vault.url)), "{}", key.kid());
        for version in [None, Some(key.version())] {
            let got = keys.get(&name, version).await?;
            ensure!(got.resource_id()? == key.id, "another version");
            ensure!(got.tags.is_some_and(|tags| tags["team"] == "blue"), "other tags");
        }
        Ok(key)
    };
    let Some(key) = checks.check("keys: create RSA 2048, and get it", create).await else { return };
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        checks.check(&format!("keys: {algorithm}, verified here and there"), keys.signs(&key, algorithm)).await;
    }
    checks.check("keys: RSA-OAEP-256, encrypted here, decrypted there", keys.decrypts(&key)).await;
    for algorithm in [EncryptionAlgorithm::RsaOaep256, EncryptionAlgorithm::RsaOaep, EncryptionAlgorithm::Rsa1_5] {
        let what = format!("keys: {algorithm}, encrypted and decrypted, without a version");
        checks.check(&what, keys.encrypts(&key, algorithm)).await;
    }
    let wraps = keys.wraps(&key, EncryptionAlgorithm::RsaOaep256);
    checks.check("keys: RSA-OAEP-256 wraps and unwraps a key", wraps).await;
    checks.check("keys: a rotation policy is kept", policy(keys, &name)).await;
    let rotate = async {
        let next = Made::new(keys.client.rotate_key(&name, None).await?.into_model()?)?;
        ensure!(next.id != key.id, "the same version");
        keys.decrypts(&key).await?;
        keys.decrypts(&next).await?;
        let (versions, _): (Vec<KeyProperties>, _) = pages!(keys.client.list_key_properties_versions(&name, None)?);
        let ids: Vec<_> = versions.iter().filter_map(|version| version.kid.as_deref()).collect();
        ensure!(ids.len() == 2 && ids.contains(&key.kid()) && ids.contains(&next.kid()), "{ids:?}");
        Ok(())
    };
    checks.check("keys: rotate; the old version still decrypts", rotate).await;
}

async fn policy(keys: &Keys<'_>, name: &str) -> anyhow::Result<()> {
    let trigger = LifetimeActionTrigger { time_after_create: Some("P30D".to_owned()), ..Default::default() };
    let action = LifetimeActionType { type_prop: Some(KeyRotationPolicyAction::Rotate) };
    let asked = KeyRotationPolicy {
        attributes: Some(KeyRotationPolicyAttributes { expiry_time: Some("P90D".to_owned()), ..Default::default() }),
        lifetime_actions: Some(vec![LifetimeAction { action: Some(action), trigger: Some(trigger.clone()) }]),
        ..KeyRotationPolicy::default()
    };
    keys.client.update_key_rotation_policy(name, asked.try_into()?, None).await?;
    let kept = keys.client.get_key_rotation_policy(name, None).await?.into_model()?;
    let expiry = kept.attributes.and_then(|attributes| attributes.expiry_time);
    ensure!(expiry.as_deref() == Some("P90D"), "expires in {expiry:?}");
    let rotates = |action: &LifetimeAction| {
        let rotate = action.action.as_ref().is_some_and(|of| of.type_prop == Some(KeyRotationPolicyAction::Rotate));
        rotate && action.trigger.as_ref().is_some_and(|at| at.time_after_create == trigger.time_after_create)
    };
    ensure!(kept.lifetime_actions.unwrap_or_default().iter().any(rotates), "no such action");
    Ok(())
}

async fn ec(keys: &Keys<'_>, checks: &mut Checks) {
    for (curve, algorithm) in [(CurveName::P256, "ES256"), (CurveName::P384, "ES384"), (CurveName::P521, "ES512")] {
        let what = format!("keys: EC {curve}; {algorithm}, verified here and there");
        let body = async {
            let asked = CreateKeyParameters { curve: Some(curve.clone()), ..p256() };
            let key = keys.create(&keys.vault.named(algorithm), asked).await?;
            ensure!(key.jwk.kty == Some(KeyType::Ec) && key.jwk.crv == Some(curve.clone()), "another kind of key");
            keys.signs(&key, algorithm).await
        };
        checks.check(&what, body).await;
    }
}

async fn symmetric(keys: &Keys<'_>, checks: &mut Checks) {
    let create = async {
        use KeyOperation::{Decrypt, Encrypt, UnwrapKey, WrapKey};
        let asked = CreateKeyParameters {
            kty: Some(KeyType::OctHsm),
            key_size: Some(256),
            key_ops: Some(vec![Encrypt, Decrypt, WrapKey, UnwrapKey]),
            ..CreateKeyParameters::default()
        };
        let key = keys.create(&keys.vault.named("oct"), asked).await?;
        ensure!(key.jwk.kty == Some(KeyType::OctHsm) && key.jwk.k.is_none(), "another kind of key");
        Ok(key)
    };
    let Some(key) = checks.check("oct: create 256 bits", create).await else { return };
    let gcm = async {
        let mut ask = asked(&EncryptionAlgorithm::A256Gcm, TEXT);
        ask.additional_authenticated_data = Some(b"row 7".to_vec());
        let sealed = keys.client.encrypt(&key.id.name, ask.try_into()?, None).await?.into_model()?;
        ensure!(sealed.iv.as_ref().is_some_and(|iv| iv.len() == 12), "an IV of another length");
        let mut ask = asked(&EncryptionAlgorithm::A256Gcm, &sealed.result.context("no value")?);
        (ask.iv, ask.authentication_tag) = (sealed.iv, sealed.authentication_tag);
        ask.additional_authenticated_data = Some(b"row 7".to_vec());
        ensure!(keys.decrypt(&key, ask.clone()).await? == TEXT, "another text");
        ask.additional_authenticated_data = Some(b"row 8".to_vec());
        refused(keys.decrypt(&key, ask).await, StatusCode::BadRequest, "")
    };
    checks.check("oct: A256GCM, encrypted and decrypted with additional data", gcm).await;
    checks.check("oct: A256KW wraps and unwraps a key", keys.wraps(&key, EncryptionAlgorithm::A256Kw)).await;
    let random = async {
        let asked = GetRandomBytesParameters { count: Some(24) };
        let answer = keys.client.get_random_bytes(asked.try_into()?, None).await?.into_model()?;
        ensure!(answer.value.is_some_and(|bytes| bytes.len() == 24), "another number of bytes");
        Ok(())
    };
    checks.check("oct: random bytes", random).await;
}

async fn attributes(keys: &Keys<'_>, checks: &mut Checks) {
    let enabled = |enabled| UpdateKeyPropertiesParameters {
        key_attributes: Some(KeyAttributes { enabled: Some(enabled), ..KeyAttributes::default() }),
        ..UpdateKeyPropertiesParameters::default()
    };
    let change = async {
        let key = keys.create(&keys.vault.named("attributes"), p256()).await?;
        let expires = OffsetDateTime::from_unix_timestamp(2_209_086_245)?;
        let asked = UpdateKeyPropertiesParameters {
            key_attributes: Some(KeyAttributes { expires: Some(expires), ..KeyAttributes::default() }),
            tags: Some(HashMap::from([("b".to_owned(), "2".to_owned())])),
            ..UpdateKeyPropertiesParameters::default()
        };
        let changed = keys.update(&key, asked).await?;
        let attributes = changed.attributes.clone().context("no attributes")?;
        ensure!(attributes.expires == Some(expires), "expires {:?}", attributes.expires);
        ensure!(attributes.enabled == Some(true), "not enabled");
        ensure!(changed.tags.as_ref().is_some_and(|tags| tags["b"] == "2"), "other tags");
        ensure!(Made::new(changed)?.point()? == key.point()?, "another key");
        Ok(key)
    };
    let Some(key) = checks.check("keys: attributes change, and the others stay", change).await else { return };
    let disabled = async {
        keys.update(&key, enabled(false)).await?;
        refused(keys.sign(&key, "ES256", hash("ES256", TEXT)).await, StatusCode::Forbidden, "Forbidden")?;
        keys.update(&key, enabled(true)).await?;
        keys.signs(&key, "ES256").await
    };
    checks.check("keys: a disabled key does not sign: 403", disabled).await;
    let operations = async {
        let key_ops = Some(vec![KeyOperation::Verify]);
        keys.update(&key, UpdateKeyPropertiesParameters { key_ops, ..Default::default() }).await?;
        refused(keys.sign(&key, "ES256", hash("ES256", TEXT)).await, StatusCode::Forbidden, "Forbidden")
    };
    checks.check("keys: what key_ops leaves out is refused: 403", operations).await;
}

async fn life(keys: &Keys<'_>, checks: &mut Checks) {
    let name = keys.vault.named("life");
    let delete = async {
        let key = keys.create(&name, p256()).await?;
        let key_backup = keys.client.backup_key(&name, None).await?.into_model()?.value;
        let deleted = keys.client.delete_key(&name, None).await?.into_model()?;
        let recovery = deleted.recovery_id.unwrap_or_default();
        ensure!(recovery == format!("{}/deletedkeys/{name}", keys.vault.url), "{recovery}");
        ensure!(deleted.scheduled_purge_date > deleted.deleted_date, "purged before it is deleted");
        eventually(async || keys.client.get_deleted_key(&name, None).await).await?;
        refused(keys.get(&name, None).await, StatusCode::NotFound, "KeyNotFound")?;
        let again = keys.client.create_key(&name, p256().try_into()?, None).await;
        refused(again, StatusCode::Conflict, "Conflict")?;
        let mut named = keys.deleted().await?.into_iter().filter_map(|item| item.resource_id().ok());
        ensure!(named.any(|id| id.name == name), "not in the list of deleted keys");
        Ok((key, RestoreKeyParameters { key_backup }))
    };
    let what = "keys: delete; the name is taken and the key is gone";
    let Some((key, saved)) = checks.check(what, delete).await else { return };
    let recover = async {
        keys.client.recover_deleted_key(&name, None).await?;
        eventually(async || keys.get(&name, None).await).await?;
        keys.signs(&key, "ES256").await
    };
    checks.check("keys: recover; it signs as before", recover).await;
    let restore = async {
        keys.remove(&name).await?;
        refused(keys.client.get_deleted_key(&name, None).await, StatusCode::NotFound, "")?;
        let restored = Made::new(keys.client.restore_key(saved.try_into()?, None).await?.into_model()?)?;
        ensure!(restored.id == key.id, "another version");
        keys.signs(&restored, "ES256").await
    };
    checks.check("keys: purge; restore from the backup", restore).await;
}
