//! `key show`, `key list`, `key versions`.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;
use strongroom_proto::v1::{GetPublicKeysRequest, Key, KeyFilter, KeyVersion, ListKeyVersionsRequest, ListKeysRequest};

use super::{Format, FormatArgs, KeyRef, NameArgs, VersionedNameArgs, using};
use crate::cli::{
    client::Client,
    connection::ConnectionArgs,
    failure::{Action, Failure, Noun},
    jwk, output,
    parse::{self, TimeArg},
    view::{KeyList, KeyView, VersionList, VersionView},
};

/// How a key is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum KeyFormat {
    /// For people
    #[default]
    Table,
    /// For programs: strongroom.v1.Key
    Json,
    /// The public key: SubjectPublicKeyInfo, as OpenSSL reads it
    Pem,
    /// The public key as a JSON Web Key; its kid is the version's full name
    Jwk,
    /// The public keys of all enabled versions as a JSON Web Key Set, newest first
    Jwks,
}

/// What `key show` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// How to show the key
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t)]
    format: KeyFormat,
}

/// What `key list` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Also show deleted keys
    #[arg(long)]
    deleted: bool,
    /// Only keys whose newest version is enabled, or is not
    #[arg(long, value_name = "true|false")]
    enabled: Option<bool>,
    /// Only keys whose newest version expires before then, or has: RFC 3339, or a duration from now such as P30D
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    expires_before: Option<TimeArg>,
    /// Only keys whose newest version expires then or later
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    expires_from: Option<TimeArg>,
    /// Only keys that can be used with that algorithm, such as PS256 or A256GCM
    #[arg(long, value_name = "A")]
    algorithm: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `key versions` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct VersionsArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Also show deleted versions
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Shows a key.
pub(in crate::cli) async fn show(connection: &ConnectionArgs, args: &ShowArgs) -> anyhow::Result<()> {
    let name = args.key.key(connection)?;
    let client = connection.connect().await?;
    if args.format == KeyFormat::Jwks {
        return jwks(&client, &name).await;
    }
    let key = client.call(&using("show", &name), client.api.get_key(&name.to_string())).await?;
    match args.format {
        KeyFormat::Table => output::show(Format::Table, &KeyView::from(&key)),
        KeyFormat::Json => output::json(&KeyView::from(&key)),
        KeyFormat::Pem => output::line(jwk::pem(version(&key)?)?.trim_end()),
        KeyFormat::Jwk | KeyFormat::Jwks => output::json(&jwk::of(version(&key)?)?),
    }
}

/// A JWK Set (RFC 7517 section 5).
#[derive(Debug, Serialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

async fn jwks(client: &Client, key: &KeyRef) -> anyhow::Result<()> {
    if key.version.is_some() {
        return Err(Failure::new("a JWK Set is of all versions of a key")
            .hint("leave out --version, or pass -o jwk")
            .into());
    }
    let request = GetPublicKeysRequest { name: key.to_string(), page_size: 1000, ..Default::default() };
    let mut keys = Vec::new();
    for public in client.call(&using("show", key), client.api.get_public_keys(request)).await? {
        let jwk = serde_json::from_str(&public.jwk);
        keys.push(jwk.with_context(|| format!("the server sent no JSON as the JWK of {}", public.name))?);
    }
    if keys.is_empty() {
        return Err(Failure::new(format!("{key} has no enabled version with a public half"))
            .hint("strongroom key versions says what it has")
            .into());
    }
    output::json(&JwkSet { keys })
}

fn version(key: &Key) -> Result<&KeyVersion, Failure> {
    key.version.as_ref().ok_or_else(|| Failure::new(format!("the server sent no version of {}", key.name)))
}

impl ListArgs {
    fn filter(&self) -> anyhow::Result<KeyFilter> {
        let time = |time: &Option<TimeArg>| time.as_ref().map(|time| time.resolve(parse::now())).transpose();
        Ok(KeyFilter {
            enabled: self.enabled,
            expire_before_time: time(&self.expires_before)?,
            expire_from_time: time(&self.expires_from)?,
            algorithm: self.algorithm.clone().unwrap_or_default(),
            ..KeyFilter::default()
        })
    }
}

/// Lists the keys of the current vault.
pub(in crate::cli) async fn list(connection: &ConnectionArgs, args: &ListArgs) -> anyhow::Result<()> {
    let vault = connection.vault()?;
    let client = connection.connect().await?;
    let parent = format!("vaults/{vault}");
    // The noun of what may be missing: a vault.
    let action = Action {
        what: format!("list the keys of {parent}"),
        noun: Noun::Vault,
        scope: parent.clone(),
        request_id: None,
    };
    let filter = Some(args.filter()?).filter(|filter| *filter != KeyFilter::default());
    let request = ListKeysRequest { parent, page_size: 1000, show_deleted: args.deleted, filter, ..Default::default() };
    let keys = client.call(&action, client.api.list_keys(request)).await?;
    output::show(args.format.format, &KeyList(keys.iter().map(KeyView::from).collect()))
}

/// Lists the versions of a key.
pub(in crate::cli) async fn versions(connection: &ConnectionArgs, args: &VersionsArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let client = connection.connect().await?;
    let (parent, show_deleted) = (key.to_string(), args.deleted);
    let request = ListKeyVersionsRequest { parent, page_size: 1000, show_deleted, ..Default::default() };
    let action = using("list the versions of", &key);
    let versions = client.call(&action, client.api.list_key_versions(request)).await?;
    output::show(args.format.format, &VersionList(versions.iter().map(VersionView::from).collect()))
}
