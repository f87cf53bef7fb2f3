//! `key rotate`, `key delete` and `key recover`.

use clap::Args;
use strongroom_proto::v1::{DeleteKeyRequest, RotateKeyRequest, UndeleteKeyRequest};

use super::{NameArgs, changing};
use crate::cli::{
    change::{ChangeArgs, EtagArgs},
    connection::ConnectionArgs,
    output::{self, FormatArgs},
    view::KeyView,
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

/// Makes the next version.
pub(in crate::cli) async fn rotate(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("rotate", &key, &request_id);
    let (name, etag) = (key.to_string(), args.etag.value());
    let request = RotateKeyRequest { name, etag, request_id, validate_only: false };
    let rotated = client.call(&action, client.api.rotate_key(request)).await?;
    output::show(args.format.format, &KeyView::from(&rotated))
}

/// Deletes a key softly.
pub(in crate::cli) async fn delete(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("delete", &key, &request_id);
    let (name, etag) = (key.to_string(), args.etag.value());
    let request = DeleteKeyRequest { name, etag, request_id, validate_only: false };
    let deleted = client.call(&action, client.api.delete_key(request)).await?;
    output::show(args.format.format, &KeyView::from(&deleted))
}

/// Brings a key back.
pub(in crate::cli) async fn recover(connection: &ConnectionArgs, args: &LifecycleArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("bring back", &key, &request_id);
    let (name, etag) = (key.to_string(), args.etag.value());
    let request = UndeleteKeyRequest { name, etag, request_id, validate_only: false };
    let back = client.call(&action, client.api.undelete_key(request)).await?;
    output::show(args.format.format, &KeyView::from(&back))
}
