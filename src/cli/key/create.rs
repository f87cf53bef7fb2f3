//! `key create`.

use clap::Args;
use strongroom_proto::v1::{self, CreateKeyRequest, KeyVersion};

use super::{NameArgs, changing};
use crate::cli::{
    change::ChangeArgs,
    connection::ConnectionArgs,
    failure::Failure,
    output::{self, FormatArgs},
    parse::{self, CurveArg, ResidencyArg, TimeArg, TypeArg},
    view::KeyView,
};

/// What `key create` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The type of key
    #[arg(long = "type", value_name = "TYPE", value_enum, ignore_case = true)]
    key_type: TypeArg,
    /// In bits. RSA: 2048 (default), 3072, 4096. oct: 128, 192, 256 (default); with --ops sign,verify (HMAC) 256
    /// (default), 384, 512
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    size: Option<i32>,
    /// EC: P-256 (default) and the other P-; OKP: Ed25519
    #[arg(long, value_name = "CURVE", value_enum, ignore_case = true)]
    curve: Option<CurveArg>,
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

/// What a version is to be, whatever its key: the same for a key that is made and one that is imported.
#[derive(Debug, Args)]
pub(super) struct AttributeArgs {
    /// What it may be used for, comma-separated [default: all that its type can]. An oct key that signs or
    /// verifies is an HMAC key and does nothing else
    #[arg(long, value_name = "OPS", value_delimiter = ',', value_parser = parse::operation())]
    ops: Vec<v1::KeyOperation>,
    /// Where it lives [default: wrapped]
    #[arg(long, value_name = "WHERE", value_enum)]
    residency: Option<ResidencyArg>,
    /// Earlier it neither encrypts, signs nor wraps: RFC 3339, or a duration from now such as P7D
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    not_before: Option<TimeArg>,
    /// From then on it neither encrypts, signs nor wraps: RFC 3339, or a duration from now such as P1Y
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    expires: Option<TimeArg>,
    /// A tag; once for each
    #[arg(long = "tag", value_name = "K=V", value_parser = parse::tag)]
    tags: Vec<(String, String)>,
    /// Make it disabled
    #[arg(long)]
    disabled: bool,
}

impl AttributeArgs {
    /// A version with these attributes, of no kind yet.
    pub(super) fn version(&self, now: jiff::Timestamp) -> anyhow::Result<KeyVersion> {
        let time = |time: Option<TimeArg>| time.map(|time| time.resolve(now)).transpose();
        Ok(KeyVersion {
            key_operations: self.ops.iter().map(|operation| (*operation).into()).collect(),
            enabled: Some(!self.disabled),
            not_before_time: time(self.not_before)?,
            expire_time: time(self.expires)?,
            tags: parse::tags(&self.tags)?,
            residency: self.residency.map_or(v1::Residency::Unspecified, v1::Residency::from).into(),
            ..KeyVersion::default()
        })
    }
}

/// Makes a key or a version.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &CreateArgs) -> anyhow::Result<()> {
    let version = args.version(parse::now())?;
    let key = args.name.key(connection)?;
    let request_id = args.change.request_id()?;
    let request = CreateKeyRequest {
        parent: key.parent(),
        key_id: key.key.to_string(),
        version: Some(version),
        must_not_exist: args.must_not_exist,
        request_id: request_id.clone(),
        validate_only: false,
    };
    let client = connection.connect().await?;
    let action = changing("create", &key, &request_id);
    let made = client.call(&action, client.api.create_key(request)).await?;
    output::show(args.format.format, &KeyView::from(&made))
}

impl CreateArgs {
    fn version(&self, now: jiff::Timestamp) -> anyhow::Result<KeyVersion> {
        let key_type = self.checked_type()?;
        Ok(KeyVersion {
            key_type: key_type.into(),
            key_size: self.size.unwrap_or_default(),
            curve: self.curve.map_or(v1::Curve::Unspecified, v1::Curve::from).into(),
            ..self.attributes.version(now)?
        })
    }

    fn checked_type(&self) -> Result<v1::KeyType, Failure> {
        let key_type = type_of(self.key_type);
        check_kind(key_type, self.size, self.curve)
    }
}

/// Whether size and curve go with a type.
pub(super) fn check_kind(
    key_type: v1::KeyType,
    size: Option<i32>,
    curve: Option<CurveArg>,
) -> Result<v1::KeyType, Failure> {
    match (key_type, size, curve) {
        (v1::KeyType::Ec | v1::KeyType::Okp, Some(_), _) => {
            Err(Failure::new("--size is for RSA and oct keys; the size of an EC or OKP key is that of its curve")
                .hint("pass --curve P-256, P-384, P-521 or P-256K, or for OKP nothing"))
        }
        (v1::KeyType::Rsa | v1::KeyType::Oct, _, Some(_)) => {
            Err(Failure::new("--curve is for EC and OKP keys").hint("pass --size, or --type EC"))
        }
        (v1::KeyType::Ec, _, Some(CurveArg::Ed25519)) => {
            Err(Failure::new("Ed25519 is no curve of EC keys").hint("pass --type OKP"))
        }
        (v1::KeyType::Okp, _, Some(curve)) if curve != CurveArg::Ed25519 => {
            Err(Failure::new("the curve of an OKP key is Ed25519").hint("leave out --curve, or pass --type EC"))
        }
        _ => Ok(key_type),
    }
}

/// The type that a flag names.
pub(super) const fn type_of(key_type: TypeArg) -> v1::KeyType {
    match key_type {
        TypeArg::Rsa => v1::KeyType::Rsa,
        TypeArg::Ec => v1::KeyType::Ec,
        TypeArg::Oct => v1::KeyType::Oct,
        TypeArg::Okp => v1::KeyType::Okp,
    }
}
