//! `key make-byok`: wraps a key from a file for import, as an HSM does for another (Azure's BYOK).

use std::path::PathBuf;

use aws_lc_rs::{
    key_wrap::{AES_256, AesKek, KeyWrapPadded as _},
    rand,
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use clap::Args;
use strongroom_proto::v1::KeyOperation;
use zeroize::Zeroizing;

use super::{VersionedNameArgs, import::read_private, report, using};
use crate::{
    cli::{
        connection::ConnectionArgs,
        failure::Failure,
        files::{Content, Out, is_standard},
        output::FormatArgs,
        view::UseView,
    },
    model::{ByokFile, PrivateKey, byok},
};

/// AES-KWP makes a key longer by at most so much (RFC 5649 section 4.1).
const KWP_EXTRA_BYTES: usize = 16;

/// What `key make-byok` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct MakeByokArgs {
    /// Which key it is to be wrapped for: one whose only operation is import (`key create KEK --type RSA --ops import`)
    #[command(flatten)]
    kek: VersionedNameArgs,
    /// The private key, or the oct key of a JWK: PEM, DER or JWK
    #[arg(long, value_name = "FILE")]
    private_key: PathBuf,
    /// Where the .byok file goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    format: FormatArgs,
}

/// Wraps it, here: the server sees it wrapped only, and so does whoever carries the file.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &MakeByokArgs) -> anyhow::Result<()> {
    let kek = args.kek.key(connection)?;
    let key = match read_private(&args.private_key)? {
        PrivateKey::Pkcs8(der) => der,
        PrivateKey::Oct(bytes) => bytes,
    };
    let client = connection.connect().await?;
    let name = kek.to_string();
    let found = client.call(&using("show", &kek), client.api.get_key(&name)).await?;
    let version = found.version.unwrap_or_default();
    if !version.key_operations().eq([KeyOperation::Import]) {
        return Err(Failure::new(format!("{name} is not a key that brings others in"))
            .hint("make one: strongroom key create KEK --type RSA --size 4096 --ops import")
            .into());
    }
    let ciphertext = wrap(&version.public_key, &key)?;
    let generator = concat!("strongroom ", env!("CARGO_PKG_VERSION")).to_owned();
    let file = ByokFile { kid: version.name, ciphertext, generator };
    Out::prepare(&args.out, Content::Public)?.commit(file.to_json().as_bytes())?;
    let used = UseView { name: file.kid, algorithm: byok::ENC, valid: None };
    report(args.format, is_standard(&args.out), &used)
}

/// CKM_RSA_AES_KEY_WRAP under an AES-256 key that is thrown away.
fn wrap(kek: &[u8], key: &[u8]) -> anyhow::Result<Vec<u8>> {
    let failed = |_| Failure::new("the key could not be wrapped under that key-encryption key");
    let mut aes = Zeroizing::new([0; 32]);
    rand::fill(&mut *aes).map_err(failed)?;
    let kek = PublicEncryptingKey::from_der(kek).map_err(|_| Failure::new("that key-encryption key is no RSA key"))?;
    let kek = OaepPublicEncryptingKey::new(kek).map_err(failed)?;
    let mut blob = vec![0; kek.ciphertext_size()];
    kek.encrypt(&OAEP_SHA1_MGF1SHA1, &*aes, &mut blob, None).map_err(failed)?;
    let mut wrapped = vec![0; key.len() + KWP_EXTRA_BYTES];
    let by_kwp = AesKek::new(&AES_256, &*aes).map_err(failed)?;
    let wrapped = by_kwp.wrap_with_padding(key, &mut wrapped).map_err(failed)?;
    blob.extend_from_slice(wrapped);
    Ok(blob)
}
