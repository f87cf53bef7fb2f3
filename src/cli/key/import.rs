//! `key import`: a key from outside.

use std::path::{Path, PathBuf};

use clap::Args;
use der::{Document, pem::PemLabel as _};
use spki::SubjectPublicKeyInfoRef;
use strongroom_client::Material;
use strongroom_proto::v1::{ImportKeyRequest, KeyVersion};
use zeroize::Zeroizing;

use super::{NameArgs, changing, create::AttributeArgs};
use crate::cli::{
    change::ChangeArgs,
    connection::ConnectionArgs,
    failure::Failure,
    files::{self, Limit},
    output::{self, FormatArgs},
    parse,
    view::KeyView,
};

/// An RSA-4096 public key in PEM has 800 bytes.
const PUBLIC_KEY: Limit = Limit { bytes_max: 16 * 1024, hint: "pass one public key, as PEM or DER" };
const OCT: Limit = Limit { bytes_max: 64, hint: "pass the bytes of the key and nothing else" };

/// What `key import` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    material: MaterialArgs,
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
}

/// What is read from the file.
enum Outside {
    PublicKey(Vec<u8>),
    Oct(Zeroizing<Vec<u8>>),
}

impl MaterialArgs {
    fn read(&self) -> anyhow::Result<Outside> {
        match (&self.public_key, &self.oct) {
            (Some(path), _) => Ok(Outside::PublicKey(public_key(path)?)),
            (None, Some(path)) => Ok(Outside::Oct(files::read(path, OCT)?)),
            (None, None) => Err(Failure::new("no key was named").hint("pass --public-key or --oct").into()),
        }
    }
}

impl Outside {
    fn material(&self) -> Material<'_> {
        match self {
            Self::PublicKey(der) => Material::PublicKey(der),
            Self::Oct(bytes) => Material::Oct(bytes),
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

/// Imports a key.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &ImportArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let version: KeyVersion = args.attributes.version(parse::now())?;
    let outside = args.material.read()?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("import", &key, &request_id);
    let request = ImportKeyRequest {
        parent: key.parent(),
        key_id: key.key.to_string(),
        version: Some(version),
        must_not_exist: args.must_not_exist,
        request_id,
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
