//! A root in the place of another: what was under the one is the same key under the other, and nothing else moves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeySize, PrivateDecryptingKey},
};
use der::{Decode as _, EncodePem as _};
use serde_bytes::ByteBuf;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::{
    Algorithm, KeyOps, KeyRow, KeySpec, Material, Residency, SecretBytes,
    protocol::{
        Fault, Hierarchy, NewRoot, NewVersion, OtherKeys, Provision, RecoveryKeyFile, Renewed, Renewing, Request,
        Response, Role, ServiceKeys,
    },
};
use support::{Home, Worker, can, statement};

const ROOT: [u8; 16] = [0xf1; 16];

/// A token whose root is in escrow.
struct Escrowed {
    home: Home,
    hierarchy: Hierarchy,
    spki: Vec<u8>,
}

impl Escrowed {
    fn new() -> Self {
        let home = Home::empty();
        let (spki, fingerprint) = recovery_key(&home, "recovery.pem");
        assert_eq!(fingerprint.len(), 32);
        let mut provisioner = home.provisioner();
        provisioner.init_token(&home).unwrap();
        let hierarchy = provisioner.create_hierarchy(vec![ByteBuf::from(spki.clone())]).unwrap();
        Self { home, hierarchy, spki }
    }

    fn recovery(&self) -> RecoveryKeyFile {
        let of: [u8; 32] = Sha256::digest(&self.spki).into();
        RecoveryKeyFile {
            file: self.home.path("recovery.pem"),
            escrow: vec![([0; 32], ByteBuf::from(vec![1; 384])), (of, self.hierarchy.escrow[0].clone())],
        }
    }

    fn make_root(&self, id: [u8; 16], recovery: RecoveryKeyFile) -> Result<NewRoot, Fault> {
        let keys = self.hierarchy.service_keys.clone();
        let escrow_for = vec![ByteBuf::from(self.spki.clone())];
        match self.home.provisioner().provision(Provision::MakeRoot { id, keys, recovery, escrow_for })? {
            Response::Root(root) => Ok(root),
            other => panic!("{other:?}"),
        }
    }

    /// The keys while the first root stands and the new one is known.
    fn before(&self, new: &NewRoot) -> ServiceKeys {
        let other = OtherKeys { root: Some(new.root), sealing: new.sealing.clone() };
        ServiceKeys { other: Some(other), ..self.hierarchy.service_keys.clone() }
    }

    /// The keys while the new root stands and the first one is known.
    fn after(&self, new: &NewRoot) -> ServiceKeys {
        let old = &self.hierarchy.service_keys;
        ServiceKeys {
            root: Some(new.root),
            sealing: new.sealing.clone(),
            data: new.data.clone(),
            other: Some(OtherKeys { root: None, sealing: old.sealing.clone() }),
            ..old.clone()
        }
    }

    fn worker(&self, keys: ServiceKeys) -> Worker {
        self.home.worker(&Hierarchy { service_keys: keys, ..self.hierarchy.clone() })
    }

    fn renewer(&self, keys: ServiceKeys, recovery: RecoveryKeyFile) -> Result<Worker, Fault> {
        let mut worker = self.home.spawn();
        worker.hello(self.home.hello(Role::Renew(Renewing { keys, recovery })))?;
        Ok(worker)
    }

    fn destroy_root(&self, keys: ServiceKeys, root: Option<[u8; 16]>) -> Result<Response, Fault> {
        self.home.provisioner().provision(Provision::DestroyRoot { keys, root })
    }
}

/// Makes a recovery key in that file of a home; its public half and that half's digest.
fn recovery_key(home: &Home, name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let pkcs8: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let pem = pkcs8::PrivateKeyInfoRef::from_der(pkcs8.as_ref()).unwrap().to_pem(der::pem::LineEnding::LF).unwrap();
    write(&home.path(name), &pem);
    (spki.as_ref().to_vec(), Sha256::digest(spki.as_ref()).to_vec())
}

fn write(path: &PathBuf, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn imported(worker: &mut Worker, wanted: NewVersion, material: Material) -> KeyRow {
    let imported = match worker.call(Request::Import { wanted, material }).unwrap() {
        Response::Generated(imported) => imported,
        other => panic!("{other:?}"),
    };
    let mut statement = statement(wanted.spec, wanted.residency, wanted.version);
    statement.blob = imported.blob.into_vec();
    statement.check_value = imported.check_value.into_vec();
    worker.sealed(statement)
}

fn renew(renewer: &mut Worker, row: &KeyRow) -> Result<Renewed, Fault> {
    let (seal, row) = (ByteBuf::from(row.seal), ByteBuf::from(row.canonical.to_vec()));
    match renewer.call(Request::Renew { seal, row })? {
        Response::Renewed(renewed) => Ok(renewed),
        other => panic!("{other:?}"),
    }
}

/// The row with what was renewed in it, sealed by that worker.
fn renewed_row(worker: &mut Worker, row: &KeyRow, renewed: Renewed, root: Option<[u8; 16]>) -> KeyRow {
    let mut statement = row.statement.clone();
    statement.blob = renewed.blob.into_vec();
    statement.check_value = renewed.check_value.into_vec();
    statement.kek = root;
    worker.sealed(statement)
}

/// Signs or makes a MAC, and encrypts where that is all the key can: whatever shows which key it is.
fn proof(worker: &mut Worker, row: &KeyRow) -> Result<Vec<u8>, Fault> {
    let message = [7; 32];
    match row.statement.spec {
        KeySpec::Rsa2048 => worker.sign(row, Algorithm::Rs256, &message),
        KeySpec::Hmac256 => worker.sign(row, Algorithm::Hs256, &message),
        KeySpec::P256 => {
            let signature = worker.sign(row, Algorithm::Es256, &message)?;
            assert_eq!(worker.verify(row, Algorithm::Es256, &message, &signature), Ok(true));
            Ok(row.statement.public.clone())
        }
        // AES-KW of the same bytes is the same.
        _ => Ok(worker.encrypt(row, Algorithm::A256Kw, KeyOps::WRAP_KEY, &message, &[])?.ciphertext),
    }
}

#[test]
fn every_key_is_the_same_under_the_new_root() {
    let site = Escrowed::new();
    let mut old = site.worker(site.hierarchy.service_keys.clone());
    let mut rows: Vec<KeyRow> = [KeySpec::Rsa2048, KeySpec::P256, KeySpec::Aes256, KeySpec::Hmac256]
        .into_iter()
        .enumerate()
        .map(|(n, spec)| old.key(spec, Residency::Wrapped, [u8::try_from(n).unwrap() + 1; 16]))
        .collect();
    let secret = Material::Secret(SecretBytes::new(vec![9; 32]));
    rows.push(imported(&mut old, NewVersion::new(KeySpec::Aes256, Residency::Wrapped, [9; 16]), secret));
    let proofs: Vec<Vec<u8>> = rows.iter().map(|row| proof(&mut old, row).unwrap()).collect();

    let new = site.make_root(ROOT, site.recovery()).unwrap();
    assert_eq!(new.unwrap_template, can("unwrap template"));
    // Who has both makes what is under the first still, and takes what the second has sealed.
    let (mut before, mut after) = (site.worker(site.before(&new)), site.worker(site.after(&new)));
    let of_old = before.key(KeySpec::P256, Residency::Wrapped, [20; 16]);
    let under_new = NewVersion { kek: Some(new.root), ..NewVersion::new(KeySpec::P256, Residency::Wrapped, [21; 16]) };
    let of_new = after.key_as(under_new);
    for worker in [&mut before, &mut after] {
        for row in [&of_old, &of_new] {
            proof(worker, row).unwrap();
        }
    }
    assert_eq!(proof(&mut old, &of_new).unwrap_err(), Fault::SealBroken, "one that has not heard of it");

    let mut renewer = site.renewer(site.after(&new), site.recovery()).unwrap();
    let rows: Vec<KeyRow> = rows
        .iter()
        .map(|row| {
            let renewed = renew(&mut renewer, row).unwrap();
            assert_ne!(*renewed.blob, row.statement.blob);
            renewed_row(&mut after, row, renewed, Some(ROOT))
        })
        .collect();
    // Once more changes nothing: it is under the new root already.
    assert_eq!(*renew(&mut renewer, &rows[0]).unwrap().blob, rows[0].statement.blob);
    drop((old, before, after, renewer));

    let alone = ServiceKeys { other: None, ..site.after(&new) };
    assert_eq!(site.destroy_root(alone.clone(), Some(ROOT)).unwrap_err(), Fault::Protocol, "what it stands on");
    for _ in 0..2 {
        assert!(matches!(site.destroy_root(alone.clone(), None), Ok(Response::Done)));
    }
    let mut worker = site.worker(alone);
    for (row, before) in rows.iter().zip(&proofs) {
        assert_eq!(proof(&mut worker, row).as_ref(), Ok(before));
    }
    assert_eq!(proof(&mut worker, &of_old).unwrap_err(), Fault::SealBroken, "sealed by the key that is gone");
    let mut resealed = of_old.statement.clone();
    let unrenewed = worker.sealed(resealed.clone());
    assert_eq!(proof(&mut worker, &unrenewed).unwrap_err(), Fault::KekAbsent);
    resealed.kek = Some(ROOT);
    let moved = worker.sealed(resealed);
    assert_eq!(proof(&mut worker, &moved).unwrap_err(), Fault::BlobBroken);
}

#[test]
fn it_takes_a_recovery_key_of_this_root() {
    let site = Escrowed::new();
    let good = site.recovery();
    let with = |file: &str| RecoveryKeyFile { file: site.home.path(file), ..good.clone() };
    recovery_key(&site.home, "another.pem");
    write(&site.home.path("no-key.pem"), "nothing");
    let pem = fs::read_to_string(site.home.path("recovery.pem")).unwrap();
    write(&site.home.path("cut.pem"), &pem[..pem.len() / 2]);
    write(&site.home.path("open.pem"), &pem);
    fs::set_permissions(site.home.path("open.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    for (file, why) in [
        ("missing.pem", "is not there"),
        ("another.pem", "none that the root was wrapped for"),
        ("no-key.pem", "is not an RSA key"),
        ("cut.pem", "is not an RSA key"),
        ("open.pem", "may be read by others"),
    ] {
        let refused = site.make_root(ROOT, with(file)).unwrap_err();
        assert!(matches!(&refused, Fault::Setup(found) if found.contains(why)), "{file}: {refused:?}");
    }
    let foreign = RecoveryKeyFile { escrow: vec![(good.escrow[1].0, ByteBuf::from(vec![1; 384]))], ..good.clone() };
    assert!(matches!(site.make_root(ROOT, foreign).unwrap_err(), Fault::Setup(_)));
    // None of these left anything behind.
    let new = site.make_root(ROOT, good.clone()).unwrap();
    assert!(matches!(site.make_root(ROOT, good.clone()).unwrap_err(), Fault::Protocol), "it is there");
    assert!(matches!(site.renewer(site.after(&new), with("another.pem")), Err(Fault::Setup(_))));
}

#[test]
fn nobody_else_carries_keys_over() {
    let site = Escrowed::new();
    let mut worker = site.worker(site.hierarchy.service_keys.clone());
    let row = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    assert_eq!(renew(&mut worker, &row).unwrap_err(), Fault::Protocol);
    let new = site.make_root(ROOT, site.recovery()).unwrap();
    let mut renewer = site.renewer(site.after(&new), site.recovery()).unwrap();
    let mut changed = row.clone();
    changed.seal[0] ^= 1;
    assert_eq!(renew(&mut renewer, &changed).unwrap_err(), Fault::SealBroken);
    let mut broken = row.statement.clone();
    broken.blob[0] ^= 1;
    let broken = worker.sealed(broken);
    assert_eq!(renew(&mut renewer, &broken).unwrap_err(), Fault::BlobBroken);
    // A blob in another's row: what comes out is not what the row describes.
    let other = worker.key(KeySpec::P256, Residency::Wrapped, [2; 16]);
    let mut swapped = row.statement.clone();
    swapped.blob.clone_from(&other.statement.blob);
    let swapped = worker.sealed(swapped);
    assert_eq!(renew(&mut renewer, &swapped).unwrap_err(), Fault::KeyMismatch);
    let mut disabled = row.statement.clone();
    disabled.enabled = false;
    let disabled = worker.sealed(disabled);
    renew(&mut renewer, &disabled).unwrap();
}

#[test]
fn a_token_comes_back_with_both_roots() {
    let site = Escrowed::new();
    let mut old = site.worker(site.hierarchy.service_keys.clone());
    let row = old.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    let new = site.make_root(ROOT, site.recovery()).unwrap();
    let mut after = site.worker(site.after(&new));
    let under_new = NewVersion { kek: Some(new.root), ..NewVersion::new(KeySpec::P256, Residency::Wrapped, [2; 16]) };
    let of_new = after.key_as(under_new);
    drop((old, after));
    let pem = fs::read_to_string(site.home.path("recovery.pem")).unwrap();
    let (_, private) = pkcs8::SecretDocument::from_pem(&pem).unwrap();
    let away = Home::empty();
    let mut provisioner = away.provisioner();
    provisioner.init_token(&away).unwrap();
    let recovered = provisioner.provision(Provision::Recover {
        private: SecretBytes::new(private.as_bytes().to_vec()),
        escrow: new.escrow[0].clone(),
        service_keys: site.after(&new),
        other: Some(site.hierarchy.escrow[0].clone()),
    });
    let Ok(Response::Hierarchy(back)) = recovered else { panic!("{recovered:?}") };
    drop(provisioner);
    let mut worker = away.worker(&back);
    for row in [&row, &of_new] {
        proof(&mut worker, row).unwrap();
    }
    let more = NewVersion { kek: Some(new.root), ..NewVersion::new(KeySpec::P256, Residency::Wrapped, [3; 16]) };
    worker.key_as(more);
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(support::Subject::NssSoftokn);
}
