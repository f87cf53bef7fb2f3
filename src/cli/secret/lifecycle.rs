//! `secret delete`, `secret recover` and `secret purge`.

use clap::Args;
use serde::Serialize;
use strongroom_proto::v1::{DeleteSecretRequest, PurgeSecretRequest, UndeleteSecretRequest};

use super::{NameArgs, changing};
use crate::cli::{
    change::{ChangeArgs, EtagArgs},
    connection::ConnectionArgs,
    output::{self, FormatArgs, Rows},
    view::SecretView,
};

/// What they take.
#[derive(Debug, Args)]
pub(in crate::cli) struct LifecycleArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Deletes a secret softly.
pub(in crate::cli) async fn delete(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let secret = args.name.secret(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("delete", &secret, &request_id);
    let (name, etag) = (secret.to_string(), args.etag.value());
    let request = DeleteSecretRequest { name, etag, request_id, validate_only: false };
    let deleted = client.call(&action, client.api.delete_secret(request)).await?;
    output::show(args.format.format, &SecretView::from(&deleted))
}

/// Brings a secret back.
pub(in crate::cli) async fn recover(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let secret = args.name.secret(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("bring back", &secret, &request_id);
    let (name, etag) = (secret.to_string(), args.etag.value());
    let request = UndeleteSecretRequest { name, etag, request_id, validate_only: false };
    let back = client.call(&action, client.api.undelete_secret(request)).await?;
    output::show(args.format.format, &SecretView::from(&back))
}

/// Destroys a deleted secret.
pub(in crate::cli) async fn purge(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let secret = args.name.secret(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("purge", &secret, &request_id);
    let (name, etag) = (secret.to_string(), args.etag.value());
    let request = PurgeSecretRequest { name: name.clone(), etag, request_id, validate_only: false };
    let versions = client.call(&action, client.api.purge_secret(request)).await?.versions;
    output::show(args.format.format, &PurgedSecretView { name, versions: versions.to_string() })
}

/// What was destroyed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct PurgedSecretView {
    /// The secret.
    pub(in crate::cli) name: String,
    /// How many versions.
    pub(in crate::cli) versions: String,
}

impl Rows for PurgedSecretView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
        vec![row("destroyed", &self.name), row("versions", &self.versions)]
    }
}
