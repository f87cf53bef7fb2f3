//! `key rotate`, `key delete`, `key recover` and `key purge`.

use clap::Args;
use serde::Serialize;
use strongroom_proto::v1::{
    DeleteKeyRequest, DeleteKeyVersionRequest, PurgeKeyRequest, Residency, RotateKeyRequest, UndeleteKeyRequest,
    UndeleteKeyVersionRequest,
};

use super::{NameArgs, changing};
use crate::cli::{
    change::{ChangeArgs, EtagArgs},
    connection::ConnectionArgs,
    output::{self, FormatArgs, Rows},
    parse::ResidencyArg,
    view::{KeyView, VersionView},
};

/// What `rotate` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct RotateArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Where the new version lives, and those after it; the versions before it stay where they are [default: as the newest]
    #[arg(long, value_name = "WHERE", value_enum)]
    residency: Option<ResidencyArg>,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `delete`, `recover` and `purge` take.
#[derive(Debug, Args)]
pub(in crate::cli) struct LifecycleArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Only that version, which is not the newest: 32 hexadecimal digits, or its full name [default: the whole key]
    #[arg(long, value_name = "V")]
    version: Option<String>,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl LifecycleArgs {
    fn key(&self, connection: &ConnectionArgs) -> anyhow::Result<super::KeyRef> {
        super::KeyRef::resolve(connection, &self.name.name, self.version.as_deref())
    }
}

/// Makes the next version.
pub(in crate::cli) async fn rotate(connection: &ConnectionArgs, args: &RotateArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("rotate", &key, &request_id);
    let (name, etag) = (key.to_string(), args.etag.value());
    let residency = args.residency.map_or(Residency::Unspecified, Residency::from).into();
    let request = RotateKeyRequest { name, etag, request_id, validate_only: false, residency };
    let rotated = client.call(&action, client.api.rotate_key(request)).await?;
    output::show(args.format.format, &KeyView::from(&rotated))
}

/// Deletes a key, or a version, softly.
pub(in crate::cli) async fn delete(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let key = args.key(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("delete", &key, &request_id);
    let (name, etag, validate_only) = (key.to_string(), args.etag.value(), false);
    if key.version.is_some() {
        let request = DeleteKeyVersionRequest { name, etag, request_id, validate_only };
        let deleted = client.call(&action, client.api.delete_key_version(request)).await?;
        return output::show(args.format.format, &VersionView::from(&deleted));
    }
    let request = DeleteKeyRequest { name, etag, request_id, validate_only };
    let deleted = client.call(&action, client.api.delete_key(request)).await?;
    output::show(args.format.format, &KeyView::from(&deleted))
}

/// Brings a key, or a version, back.
pub(in crate::cli) async fn recover(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let key = args.key(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("bring back", &key, &request_id);
    let (name, etag, validate_only) = (key.to_string(), args.etag.value(), false);
    if key.version.is_some() {
        let request = UndeleteKeyVersionRequest { name, etag, request_id, validate_only };
        let back = client.call(&action, client.api.undelete_key_version(request)).await?;
        return output::show(args.format.format, &VersionView::from(&back));
    }
    let request = UndeleteKeyRequest { name, etag, request_id, validate_only };
    let back = client.call(&action, client.api.undelete_key(request)).await?;
    output::show(args.format.format, &KeyView::from(&back))
}

/// Destroys a deleted key, or version.
pub(in crate::cli) async fn purge(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let key = args.key(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("purge", &key, &request_id);
    let (name, etag) = (key.to_string(), args.etag.value());
    let request = PurgeKeyRequest { name: name.clone(), etag, request_id, validate_only: false };
    let versions = client.call(&action, client.api.purge_key(request)).await?.versions;
    output::show(args.format.format, &PurgedKeyView { name, versions: versions.to_string() })
}

/// What was destroyed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct PurgedKeyView {
    /// The key, or version.
    pub(in crate::cli) name: String,
    /// How many versions.
    pub(in crate::cli) versions: String,
}

impl Rows for PurgedKeyView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
        vec![row("destroyed", &self.name), row("versions", &self.versions)]
    }
}
