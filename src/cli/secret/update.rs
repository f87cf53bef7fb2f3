//! `secret update`.

use clap::{ArgGroup, Args};
use prost_types::FieldMask;
use strongroom_proto::v1::{SecretVersion, UpdateSecretVersionRequest};

use super::{VersionedNameArgs, changing};
use crate::cli::{
    change::{self, ChangeArgs, EtagArgs},
    connection::ConnectionArgs,
    output::{self, FormatArgs},
    parse::{self, TimeArg},
    view::SecretVersionView,
};

/// What `secret update` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("switch").args(["enable", "disable"]))]
pub(in crate::cli) struct UpdateArgs {
    #[command(flatten)]
    secret: VersionedNameArgs,
    /// Let its value be read
    #[arg(long)]
    enable: bool,
    /// Let nobody read its value until it is enabled again
    #[arg(long)]
    disable: bool,
    /// What the value is, for whoever reads it; '' takes it away
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// From then on it is meant to be used: RFC 3339, or a duration from now such as P7D
    #[arg(long, value_name = "TIME", value_parser = parse::time, conflicts_with = "clear_not_before")]
    not_before: Option<TimeArg>,
    /// Take the time away from which on it is meant to be used
    #[arg(long)]
    clear_not_before: bool,
    /// Until then: RFC 3339, or a duration from now such as P90D
    #[arg(long, value_name = "TIME", value_parser = parse::time, conflicts_with = "clear_expires")]
    expires: Option<TimeArg>,
    /// Let it never expire
    #[arg(long)]
    clear_expires: bool,
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
        "--enable, --disable, --content-type, --not-before, --expires, --clear-not-before, --clear-expires, --tag, \
         --clear-tags",
    )?;
    let secret = args.secret.secret(connection)?;
    let request_id = args.change.request_id()?;
    let request = UpdateSecretVersionRequest {
        version: Some(args.version(secret.to_string(), parse::now())?),
        update_mask: Some(FieldMask { paths }),
        request_id: request_id.clone(),
        validate_only: false,
    };
    let client = connection.connect().await?;
    let action = changing("change", &secret, &request_id);
    let version = client.call(&action, client.api.update_secret_version(request)).await?;
    output::show(args.format.format, &SecretVersionView::from(&version))
}

impl UpdateArgs {
    fn paths(&self) -> Vec<String> {
        [
            (self.content_type.is_some(), "content_type"),
            (self.enable || self.disable, "enabled"),
            (self.not_before.is_some() || self.clear_not_before, "not_before_time"),
            (self.expires.is_some() || self.clear_expires, "expire_time"),
            (self.clear_tags || !self.tags.is_empty(), "tags"),
        ]
        .into_iter()
        .filter(|(named, _)| *named)
        .map(|(_, path)| path.to_owned())
        .collect()
    }

    fn version(&self, name: String, now: jiff::Timestamp) -> anyhow::Result<SecretVersion> {
        let time = |time: Option<TimeArg>| time.map(|time| time.resolve(now)).transpose();
        Ok(SecretVersion {
            name,
            content_type: self.content_type.clone().unwrap_or_default(),
            enabled: Some(self.enable),
            not_before_time: time(self.not_before)?,
            expire_time: time(self.expires)?,
            tags: parse::tags(&self.tags)?,
            etag: self.etag.value(),
            ..SecretVersion::default()
        })
    }
}
