//! `secret show`, `secret list`, `secret versions`: all of a secret but its value.

use clap::Args;
use strongroom_proto::v1::{ListSecretVersionsRequest, ListSecretsRequest, SecretFilter};

use super::{NameArgs, VersionedNameArgs, reading};
use crate::cli::{
    connection::ConnectionArgs,
    failure::{Action, Noun},
    output::{self, FormatArgs},
    parse::{self, TimeArg},
    view::{SecretList, SecretVersionList, SecretVersionView, SecretView},
};

/// What `secret show` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    secret: VersionedNameArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `secret list` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Also show deleted secrets
    #[arg(long)]
    deleted: bool,
    /// Only secrets whose newest version is enabled, or is not
    #[arg(long, value_name = "true|false")]
    enabled: Option<bool>,
    /// Only secrets whose newest version expires before then, or has: RFC 3339, or a duration from now such as P30D
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    expires_before: Option<TimeArg>,
    /// Only secrets whose newest version expires then or later
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    expires_from: Option<TimeArg>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `secret versions` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct VersionsArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Shows a secret.
pub(in crate::cli) async fn show(connection: &ConnectionArgs, args: &ShowArgs) -> anyhow::Result<()> {
    let name = args.secret.secret(connection)?;
    let client = connection.connect().await?;
    let secret = client.call(&reading("show", &name), client.api.get_secret(&name.to_string())).await?;
    output::show(args.format.format, &SecretView::from(&secret))
}

impl ListArgs {
    fn filter(&self) -> anyhow::Result<SecretFilter> {
        let time = |time: &Option<TimeArg>| time.as_ref().map(|time| time.resolve(parse::now())).transpose();
        Ok(SecretFilter {
            enabled: self.enabled,
            expire_before_time: time(&self.expires_before)?,
            expire_from_time: time(&self.expires_from)?,
            ..SecretFilter::default()
        })
    }
}

/// Lists the secrets of the current vault.
pub(in crate::cli) async fn list(connection: &ConnectionArgs, args: &ListArgs) -> anyhow::Result<()> {
    let vault = connection.vault()?;
    let client = connection.connect().await?;
    let parent = format!("vaults/{vault}");
    let action = Action {
        what: format!("list the secrets of {parent}"),
        noun: Noun::Secret,
        scope: parent.clone(),
        request_id: None,
    };
    let filter = Some(args.filter()?).filter(|filter| *filter != SecretFilter::default());
    let show_deleted = args.deleted;
    let request = ListSecretsRequest { parent, page_size: 1000, show_deleted, filter, ..Default::default() };
    let secrets = client.call(&action, client.api.list_secrets(request)).await?;
    output::show(args.format.format, &SecretList(secrets.iter().map(SecretView::from).collect()))
}

/// Lists the versions of a secret.
pub(in crate::cli) async fn versions(connection: &ConnectionArgs, args: &VersionsArgs) -> anyhow::Result<()> {
    let secret = args.name.secret(connection)?;
    let client = connection.connect().await?;
    let request = ListSecretVersionsRequest { parent: secret.to_string(), page_size: 1000, ..Default::default() };
    let action = reading("list the versions of", &secret);
    let versions = client.call(&action, client.api.list_secret_versions(request)).await?;
    output::show(args.format.format, &SecretVersionList(versions.iter().map(SecretVersionView::from).collect()))
}
