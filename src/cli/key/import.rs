//! `key import`: a key from outside.

use std::path::{Path, PathBuf};

use clap::Args;
use der::{Document, pem::PemLabel as _};
use spki::SubjectPublicKeyInfoRef;
use strongroom_client::Material;
use strongroom_proto::v1::{self, ImportKeyRequest, KeyVersion};
use zeroize::Zeroizing;

use super::{
    NameArgs, changing,
    create::{AttributeArgs, check_kind, type_of},
};
use crate::{
    cli::{
        change::ChangeArgs,
        connection::ConnectionArgs,
        failure::Failure,
        files::{self, Limit},
        names::KeyRef,
        output::{self, FormatArgs},
        parse::{self, CurveArg, TypeArg},
        view::KeyView,
    },
    model::{ByokFile, PrivateKey},
};

/// An RSA-4096 public key in PEM has 800 bytes.
const PUBLIC_KEY: Limit = Limit { bytes_max: 16 * 1024, hint: "pass one public key, as PEM or DER" };
const OCT: Limit = Limit { bytes_max: 64, hint: "pass the bytes of the key and nothing else" };

/// An RSA-4096 private key in PEM has 3,300 bytes, as a JWK as many.
const PRIVATE_KEY: Limit = Limit { bytes_max: 64 * 1024, hint: "pass one private key, as PEM, DER or JWK" };

/// RSA-4096 wrapped for RSA-4096, in base64.
const WRAPPED: Limit = Limit { bytes_max: 64 * 1024, hint: "pass one wrapped key" };

/// What `key import` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    material: MaterialArgs,
    /// With --byok: which key it is wrapped for, of this vault [default: the one that the file names]
    #[arg(long, value_name = "NAME", requires = "byok")]
    kek: Option<String>,
    /// With --byok: the type of the key inside
    #[arg(long = "type", value_name = "TYPE", value_enum, ignore_case = true, requires = "byok")]
    key_type: Option<TypeArg>,
    /// With --byok: its size in bits. RSA: 2048 (default), 3072, 4096; oct: 128, 192, 256 (default)
    #[arg(long, value_name = "N", requires = "byok", value_parser = clap::value_parser!(i32).range(1..))]
    size: Option<i32>,
    /// With --byok: its curve: P-256 (default) and the other P-
    #[arg(long, value_name = "CURVE", value_enum, ignore_case = true, requires = "byok")]
    curve: Option<CurveArg>,
    /// Only say whether it could be imported, and if not which part of it is wrong; with --byok the HSM unwraps it and throws it
    /// away
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    attributes: AttributeArgs,
    /// Fail when the key exists, rather than add a version to it
    #[arg(long)]
    must_not_exist: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// The key itself.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct MaterialArgs {
    /// A public key (PEM or DER), to verify what its private half signs and to encrypt for whoever has it
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// The raw bytes of a secret key. AES: 16, 24 or 32; with --ops sign,verify (HMAC) 1 to 64
    #[arg(long, value_name = "FILE")]
    oct: Option<PathBuf>,
    /// A private key in the clear: PEM, DER (PKCS#8, PKCS#1, SEC1) or a JWK, which may also be an oct key. Better made here
    /// (`key create`), or carried in wrapped: whoever has had the file has the key
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// A key that another HSM, or `key make-byok`, has wrapped for a key here whose only operation is import: a .byok file, or
    /// with --kek the bytes of CKM_RSA_AES_KEY_WRAP (RSA-OAEP with SHA-1, AES-KWP)
    #[arg(long, value_name = "FILE", requires = "key_type")]
    byok: Option<PathBuf>,
}

/// What is read from the file.
enum Outside {
    PublicKey(Vec<u8>),
    Oct(Zeroizing<Vec<u8>>),
    Pkcs8(Zeroizing<Vec<u8>>),
    Wrapped { kek: String, ciphertext: Vec<u8> },
}

impl MaterialArgs {
    fn read(&self) -> anyhow::Result<Outside> {
        if let Some(path) = &self.public_key {
            return Ok(Outside::PublicKey(public_key(path)?));
        }
        if let Some(path) = &self.oct {
            return Ok(Outside::Oct(files::read(path, OCT)?));
        }
        let path = self.private_key.as_ref();
        let path = path.ok_or_else(|| {
            Failure::new("no key was named").hint("pass --private-key, --oct, --public-key or --byok")
        })?;
        Ok(match read_private(path)? {
            PrivateKey::Pkcs8(der) => Outside::Pkcs8(der),
            PrivateKey::Oct(bytes) => Outside::Oct(bytes),
        })
    }
}

impl Outside {
    fn material(&self) -> Material<'_> {
        match self {
            Self::PublicKey(der) => Material::PublicKey(der),
            Self::Oct(bytes) => Material::Oct(bytes),
            Self::Pkcs8(der) => Material::Pkcs8(der),
            Self::Wrapped { kek, ciphertext } => Material::Wrapped { kek, ciphertext },
        }
    }
}

/// The DER of a public key: as it is, or out of its PEM.
fn public_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = files::read(path, PUBLIC_KEY)?;
    if !bytes.starts_with(b"-----") {
        return Ok(bytes.to_vec());
    }
    let shown = files::shown(path, "standard input");
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    match Document::from_pem(text) {
        Ok((SubjectPublicKeyInfoRef::PEM_LABEL, der)) => Ok(der.as_bytes().to_vec()),
        Ok((label, _)) => Err(Failure::new(format!("{shown} holds a {label}, not a PUBLIC KEY"))
            .hint("openssl pkey -pubout makes one of a private key, openssl x509 -pubkey of a certificate")
            .into()),
        Err(_) => Err(Failure::new(format!("{shown} is not PEM that can be read"))
            .hint("pass one public key as PEM (RFC 7468) or DER")
            .into()),
    }
}

/// A private key, or the secret of a JWK.
pub(super) fn read_private(path: &Path) -> anyhow::Result<PrivateKey> {
    let bytes = files::read(path, PRIVATE_KEY)?;
    PrivateKey::from_file(&bytes).map_err(|why| {
        Failure::new(format!("{} {why}", files::shown(path, "standard input")))
            .hint("pass one private key as PEM, DER or JWK")
            .into()
    })
}

impl ImportArgs {
    fn version(&self) -> anyhow::Result<KeyVersion> {
        let version = self.attributes.version(parse::now())?;
        let Some(key_type) = self.key_type else { return Ok(version) };
        let key_type = check_kind(type_of(key_type), self.size, self.curve)?;
        let curve = self.curve.map_or(v1::Curve::Unspecified, v1::Curve::from);
        Ok(KeyVersion {
            key_type: key_type.into(),
            key_size: self.size.unwrap_or_default(),
            curve: curve.into(),
            ..version
        })
    }

    /// A wrapped key, and what it is wrapped for: by the flag, or by the file, which names a key of this vault or, as Azure
    /// has it, of some URL.
    fn wrapped(&self, connection: &ConnectionArgs, path: &Path, target: &KeyRef) -> anyhow::Result<Outside> {
        let bytes = files::read(path, WRAPPED)?;
        let named = self.kek.as_ref().map(|kek| KeyRef::resolve(connection, kek, None)).transpose()?;
        let (ciphertext, kid) = if ByokFile::is_like(&bytes) || named.is_none() {
            let file = ByokFile::from_json(&bytes).map_err(|why| {
                Failure::new(format!("{} {why}", files::shown(path, "standard input")))
                    .hint("pass a .byok file, or with --kek the wrapped bytes alone")
            })?;
            (file.ciphertext.clone(), Some(file))
        } else {
            (bytes.to_vec(), None)
        };
        let kek = match (named, kid.as_ref().and_then(ByokFile::key)) {
            (Some(named), _) => named.to_string(),
            (None, Some((key, None))) => format!("vaults/{}/keys/{key}", target.vault),
            (None, Some((key, Some(version)))) => format!("vaults/{}/keys/{key}/versions/{version}", target.vault),
            (None, None) => {
                return Err(Failure::new("the file does not say which key it is wrapped for")
                    .hint("pass --kek")
                    .into());
            }
        };
        Ok(Outside::Wrapped { kek, ciphertext })
    }
}

/// Imports a key.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &ImportArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let version = args.version()?;
    let outside = match &args.material.byok {
        Some(path) => args.wrapped(connection, path, &key)?,
        None => args.material.read()?,
    };
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("import", &key, &request_id);
    let request = ImportKeyRequest {
        parent: key.parent(),
        key_id: key.key.to_string(),
        version: Some(version),
        must_not_exist: args.must_not_exist,
        request_id,
        validate_only: args.check,
        ..Default::default()
    };
    let made = client.call(&action, client.api.import_key(request, outside.material())).await?;
    output::show(args.format.format, &KeyView::from(&made))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    fn read(content: &[u8]) -> anyhow::Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        public_key(file.path())
    }

    #[test]
    fn a_public_key_is_read_from_pem_and_der() {
        let der = read(PEM.as_bytes()).expect("PEM");
        assert_eq!(der.len(), 44);
        assert_eq!(read(&der).expect("DER"), der);
    }

    #[test]
    fn another_pem_is_named() {
        let private = PEM.replace("PUBLIC KEY", "PRIVATE KEY");
        let error = read(private.as_bytes()).expect_err("private").to_string();
        assert!(error.contains("holds a PRIVATE KEY"), "{error}");
        let error = read(b"-----BEGIN NONSENSE").expect_err("cut").to_string();
        assert!(error.contains("is not PEM"), "{error}");
    }
}
