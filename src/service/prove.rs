//! A drill's proof that keys and secrets of a restored copy work: each is loaded and used once, and the result is held against what
//! software says, where software can say it.
//!
//! It asks no role, for the copy is nobody's to ask: it lives in a scratch folder for as long as the drill takes, and what is
//! signed is a text of ours. A service that serves refuses.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Admission, Error, KeyRow, SecretBytes, Tenant,
    algorithms::{KeyType, Scheme},
    protocol::{Fault, Moment, Operation, Output},
};

use super::{
    Page, Service,
    catalog::Checked,
    error::{Problem, ServiceError},
    hands::decrypting,
    secrets::secret_version_name,
    version_name,
};
use crate::{
    bench::{case, verify},
    model::{Algorithm, KeyObjectRow, KeyOps, Residency, SecretRow, VaultRow, VersionRow},
};

/// How long one use may take.
const WITHIN: Duration = Duration::from_secs(30);
/// Rows that are read at once.
const PAGE: u32 = 500;

/// What came of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It works.
    Proved,
    /// It cannot be used here, and why.
    Unproved(&'static str),
    /// It, or what it is wrapped under, is not on the token: of a token that was made from an escrow that is expected, of one
    /// that was copied it is a loss.
    Absent(&'static str),
    /// It does not work.
    Failed(String),
}

/// A version and what came of it.
#[derive(Clone, Debug)]
pub struct ProvedVersion {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub proof: Proof,
}

/// Which versions are used: one of so many.
struct Walk {
    every: u64,
    seen: u64,
    proved: Vec<ProvedVersion>,
}

impl Walk {
    fn is_next(&mut self) -> bool {
        self.seen += 1;
        (self.seen - 1).is_multiple_of(self.every)
    }
}

struct Always;

impl Admission for Always {
    fn tenant(&self) -> Tenant {
        Tenant::SERVICE
    }

    fn still_holds(&self) -> bool {
        true
    }
}

impl Service {
    /// Uses versions once each: all, or about so many, spread over all. Says also how many there are.
    ///
    /// # Errors
    /// [`Problem::Precondition`] of a service that serves; when store or HSM fail as a whole.
    pub async fn prove_versions(&self, at_most: Option<u64>) -> Result<(u64, Vec<ProvedVersion>), ServiceError> {
        if self.address.get().is_some() {
            let why = "keys are proved in a scratch copy only, never in a service that serves".to_owned();
            return Err(Problem::Precondition { reason: "SERVING", why }.into());
        }
        let counts = self.store.counts().await?;
        let of_objects = |table: &str| ["versions", "secret_versions"].contains(&table);
        let all = counts.iter().filter(|(table, _)| of_objects(table)).map(|(_, rows)| *rows).sum::<u64>();
        let every = at_most.map_or(1, |most| all.div_ceil(most.max(1)).max(1));
        let mut walk = Walk { every, seen: 0, proved: Vec::new() };
        let mut page = Page { size: PAGE, after: None, deleted: true };
        loop {
            let vaults = self.catalog.vaults(&page, Moment::now().after(WITHIN)).await?;
            page.after = vaults.last().map(|vault| vault.row.name.clone());
            for vault in &vaults {
                self.walk_keys(&vault.row, &mut walk).await?;
                self.walk_secrets(&vault.row, &mut walk).await?;
            }
            if vaults.len() <= PAGE as usize {
                return Ok((all, walk.proved));
            }
        }
    }

    async fn walk_keys(&self, vault: &VaultRow, walk: &mut Walk) -> Result<(), ServiceError> {
        let mut page = Page { size: PAGE, after: None, deleted: true };
        loop {
            let keys = self.catalog.keys(vault, &page, Moment::now().after(WITHIN)).await?;
            page.after = keys.last().map(|key| key.row.name.clone());
            for key in &keys {
                self.walk_versions(vault, &key.row, walk).await?;
            }
            if keys.len() <= PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn walk_secrets(&self, vault: &VaultRow, walk: &mut Walk) -> Result<(), ServiceError> {
        let mut page = Page { size: PAGE, after: None, deleted: true };
        loop {
            let secrets = self.catalog.secrets(vault, &page, Moment::now().after(WITHIN)).await?;
            page.after = secrets.last().map(|secret| secret.row.name.clone());
            for secret in &secrets {
                self.walk_values(vault, secret, walk).await?;
            }
            if secrets.len() <= PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn walk_values(
        &self,
        vault: &VaultRow,
        secret: &Checked<SecretRow>,
        walk: &mut Walk,
    ) -> Result<(), ServiceError> {
        let key = Arc::new(KeyRow::new(secret.row.statement(), secret.seal));
        let mut page = Page { size: PAGE, after: None, deleted: true };
        loop {
            let deadline = Moment::now().after(WITHIN);
            let versions = self.catalog.secret_versions(vault, &secret.row, &page, deadline).await?;
            page.after = versions.last().map(|version| version.row.ordinal);
            for version in &versions {
                if !walk.is_next() {
                    continue;
                }
                let version = self.catalog.secret_version(vault, &secret.row, version.row.version, deadline).await?;
                let proof = match self.ask(&key, decrypting(&version.row)).await {
                    // Its tag says that it is the value that was set; nobody looks at it.
                    Ok(Output::Plaintext(_)) => Proof::Proved,
                    Ok(_) => strange(),
                    Err(error) => unusable(&error),
                };
                walk.proved.push(ProvedVersion { name: secret_version_name(&version.row), proof });
            }
            if versions.len() <= PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn walk_versions(&self, vault: &VaultRow, key: &KeyObjectRow, walk: &mut Walk) -> Result<(), ServiceError> {
        let mut page = Page { size: PAGE, after: None, deleted: true };
        loop {
            let versions = self.catalog.versions(vault, key, &page, Moment::now().after(WITHIN)).await?;
            page.after = versions.last().map(|version| version.row.ordinal);
            for version in &versions {
                if walk.is_next() {
                    let row = KeyRow::new(version.row.statement(), version.seal);
                    let proof = self.prove(&version.row, &Arc::new(row)).await;
                    walk.proved.push(ProvedVersion { name: version_name(&version.row), proof });
                }
            }
            if versions.len() <= PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn prove(&self, row: &VersionRow, key: &Arc<KeyRow>) -> Proof {
        if row.residency == Residency::Public {
            return Proof::Unproved("only its public half is kept");
        }
        if !row.enabled {
            return Proof::Unproved("disabled");
        }
        let result = if row.ops.contains(KeyOps::SIGN) {
            self.prove_signing(row, key).await
        } else if row.spec.key_type() == KeyType::Aes {
            self.prove_aes(row, key).await
        } else if row.ops.contains(KeyOps::DECRYPT) || row.ops.contains(KeyOps::UNWRAP_KEY) {
            self.prove_decrypting(row, key).await
        } else {
            Ok(Proof::Unproved("it may do nothing that its private half is needed for"))
        };
        result.unwrap_or_else(|error| unusable(&error))
    }

    async fn ask(&self, key: &Arc<KeyRow>, operation: Operation) -> Result<Output, Error> {
        self.pool.operate(key, operation, Arc::new(Always), Moment::now().after(WITHIN)).await
    }

    async fn prove_signing(&self, row: &VersionRow, key: &Arc<KeyRow>) -> Result<Proof, Error> {
        let Some(algorithm) = row.spec.algorithms().find(|algorithm| algorithm.signs()) else {
            return Ok(Proof::Unproved("no algorithm signs with it"));
        };
        let input = || SecretBytes::new(case::signed(algorithm));
        let signature = self.ask(key, Operation::Sign { algorithm, input: input() }).await?;
        let Output::Signature(signature) = signature else { return Ok(strange()) };
        Ok(match verify::signature(algorithm, row.spec, &row.public, &signature) {
            Some(true) => Proof::Proved,
            Some(false) => Proof::Failed("its public half does not verify its signature".to_owned()),
            None => {
                let again = self.ask(key, Operation::Sign { algorithm, input: input() }).await?;
                match again {
                    Output::Signature(again) if again == signature => Proof::Proved,
                    _ => Proof::Failed("it makes another MAC each time".to_owned()),
                }
            }
        })
    }

    async fn prove_aes(&self, row: &VersionRow, key: &Arc<KeyRow>) -> Result<Proof, Error> {
        let pairs =
            [(KeyOps::WRAP_KEY, KeyOps::UNWRAP_KEY, Scheme::AesKw), (KeyOps::ENCRYPT, KeyOps::DECRYPT, Scheme::AesGcm)];
        for (to, from, scheme) in pairs {
            let fits = |algorithm: &Algorithm| algorithm.scheme() == scheme;
            let Some(algorithm) = row.spec.algorithms().find(fits) else { continue };
            if !row.ops.contains(to) || !row.ops.contains(from) {
                continue;
            }
            let encrypt = Operation::Encrypt {
                algorithm,
                purpose: to,
                plaintext: SecretBytes::new(case::MESSAGE.to_vec()),
                iv: ByteBuf::new(),
                additional_data: ByteBuf::new(),
            };
            let Output::Ciphertext { ciphertext, iv, tag } = self.ask(key, encrypt).await? else {
                return Ok(strange());
            };
            let additional_data = ByteBuf::new();
            let decrypt = Operation::Decrypt { algorithm, purpose: from, ciphertext, iv, tag, additional_data };
            let opened = self.ask(key, decrypt).await?;
            return Ok(same(&opened));
        }
        Ok(Proof::Unproved("it may not both encrypt and decrypt"))
    }

    async fn prove_decrypting(&self, row: &VersionRow, key: &Arc<KeyRow>) -> Result<Proof, Error> {
        let purpose = if row.ops.contains(KeyOps::DECRYPT) { KeyOps::DECRYPT } else { KeyOps::UNWRAP_KEY };
        let sealed = || {
            let public = PublicEncryptingKey::from_der(&row.public).ok()?;
            let public = OaepPublicEncryptingKey::new(public).ok()?;
            let mut sealed = vec![0; public.ciphertext_size()];
            let length = public.encrypt(&OAEP_SHA256_MGF1SHA256, case::MESSAGE, &mut sealed, None).ok()?.len();
            sealed.truncate(length);
            Some(sealed)
        };
        let Some(ciphertext) = sealed() else { return Ok(Proof::Unproved("software cannot encrypt for it")) };
        let operation = Operation::Decrypt {
            algorithm: Algorithm::RsaOaep256,
            purpose,
            ciphertext: ciphertext.into(),
            iv: ByteBuf::new(),
            tag: ByteBuf::new(),
            additional_data: ByteBuf::new(),
        };
        let opened = self.ask(key, operation).await?;
        Ok(same(&opened))
    }
}

/// What it means that a key was not used.
fn unusable(error: &Error) -> Proof {
    match error {
        Error::Fault(Fault::KeyAbsent) => Proof::Absent("of token residency: in no escrow"),
        Error::Fault(Fault::KekAbsent) => Proof::Absent("under its vault's own KEK: in no escrow"),
        error => Proof::Failed(error.to_string()),
    }
}

fn same(found: &Output) -> Proof {
    if matches!(found, Output::Plaintext(found) if found.expose_secret() == case::MESSAGE) {
        Proof::Proved
    } else {
        Proof::Failed("it decrypts to something else".to_owned())
    }
}

fn strange() -> Proof {
    Proof::Failed("the HSM answered something else".to_owned())
}
