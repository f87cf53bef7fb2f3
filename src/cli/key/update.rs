//! `key update`.

use clap::{ArgGroup, Args};
use prost_types::FieldMask;
use strongroom_proto::v1::{self, KeyVersion, UpdateKeyVersionRequest};

use super::{VersionedNameArgs, changing};
use crate::cli::{
    change::{self, ChangeArgs, EtagArgs},
    connection::ConnectionArgs,
    output::{self, FormatArgs},
    parse::{self, TimeArg},
    view::VersionView,
};

/// What `key update` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("switch").args(["enable", "disable"]))]
pub(in crate::cli) struct UpdateArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// Let it be used
    #[arg(long)]
    enable: bool,
    /// Let it do nothing until it is enabled again
    #[arg(long)]
    disable: bool,
    /// Earlier it neither encrypts, signs nor wraps: RFC 3339, or a duration from now such as P7D
    #[arg(long, value_name = "TIME", value_parser = parse::time, conflicts_with = "clear_not_before")]
    not_before: Option<TimeArg>,
    /// Take the time away before which it may not be used
    #[arg(long)]
    clear_not_before: bool,
    /// From then on it neither encrypts, signs nor wraps: RFC 3339, or a duration from now such as P1Y
    #[arg(long, value_name = "TIME", value_parser = parse::time, conflicts_with = "clear_expires")]
    expires: Option<TimeArg>,
    /// Let it never expire
    #[arg(long)]
    clear_expires: bool,
    /// What it may be used for, comma-separated; replaces what it has
    #[arg(long, value_name = "OPS", value_delimiter = ',', value_parser = parse::operation())]
    ops: Vec<v1::KeyOperation>,
    /// A tag; once for each. They replace all tags that it has
    #[arg(long = "tag", value_name = "K=V", value_parser = parse::tag, conflicts_with = "clear_tags")]
    tags: Vec<(String, String)>,
    /// Take all tags away
    #[arg(long)]
    clear_tags: bool,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Changes a version.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &UpdateArgs) -> anyhow::Result<()> {
    let paths = args.paths();
    change::check_mask(
        &paths,
        "--enable, --disable, --not-before, --expires, --clear-not-before, --clear-expires, --ops, --tag, --clear-tags",
    )?;
    let key = args.key.key(connection)?;
    let request_id = args.change.request_id()?;
    let request = UpdateKeyVersionRequest {
        version: Some(args.version(key.to_string(), parse::now())?),
        update_mask: Some(FieldMask { paths }),
        request_id: request_id.clone(),
        validate_only: false,
    };
    let client = connection.connect().await?;
    let action = changing("change", &key, &request_id);
    let version = client.call(&action, client.api.update_key_version(request)).await?;
    output::show(args.format.format, &VersionView::from(&version))
}

impl UpdateArgs {
    fn paths(&self) -> Vec<String> {
        [
            (self.enable || self.disable, "enabled"),
            (self.not_before.is_some() || self.clear_not_before, "not_before_time"),
            (self.expires.is_some() || self.clear_expires, "expire_time"),
            (!self.ops.is_empty(), "key_operations"),
            (self.clear_tags || !self.tags.is_empty(), "tags"),
        ]
        .into_iter()
        .filter(|(named, _)| *named)
        .map(|(_, path)| path.to_owned())
        .collect()
    }

    fn version(&self, name: String, now: jiff::Timestamp) -> anyhow::Result<KeyVersion> {
        let time = |time: Option<TimeArg>| time.map(|time| time.resolve(now)).transpose();
        Ok(KeyVersion {
            name,
            enabled: Some(self.enable),
            not_before_time: time(self.not_before)?,
            expire_time: time(self.expires)?,
            key_operations: self.ops.iter().map(|operation| (*operation).into()).collect(),
            tags: parse::tags(&self.tags)?,
            etag: self.etag.value(),
            ..KeyVersion::default()
        })
    }
}
