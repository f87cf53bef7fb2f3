//! `strongroom vault …`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use serde::Serialize;
use strongroom_proto::v1::{
    CreateVaultRequest, DeleteVaultRequest, ListVaultsRequest, NetworkRules, PurgeVaultRequest, RotateVaultKekRequest,
    UndeleteVaultRequest, UpdateVaultRequest, Vault, VaultAuthorization, preview_access_request::Change,
};

use super::{
    change::{self, ChangeArgs, DryRunArgs, EtagArgs},
    connection::ConnectionArgs,
    failure::{Action, Noun},
    output::{self, FormatArgs, Rows},
    parse::{self, AuthorizationArg},
    review,
    view::{VaultList, VaultView},
};
use crate::model::{AddressRange, VaultName};

mod policy;

/// `vault …`.
#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Make a vault
    Create(CreateArgs),
    /// Show a vault
    Show(ShowArgs),
    /// List the vaults you may read
    List(ListArgs),
    /// Change a vault
    Update(UpdateArgs),
    /// Delete a vault softly: it and its keys stop working and can be brought back
    Delete(DeleteArgs),
    /// Bring a deleted vault back, with everything in it
    Recover(DeleteArgs),
    /// Destroy a deleted vault with everything in it, for ever
    Purge(DeleteArgs),
    /// Make a new key-encryption key for what will be made in a vault that has one of its own
    #[command(after_help = KEK_HELP)]
    RotateKek(DeleteArgs),
    /// Say who may do what with what is in a vault that decides by access policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
}

const KEK_HELP: &str = "\
Versions that are there stay under the key they were wrapped under and go on working; it is destroyed when none is left: \
rotate the vault's keys, then delete and purge their old versions. A vault has 32 such keys at most.";

/// What `vault create` takes.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The vault: 3 to 24 of a-z, 0-9 and -, beginning with a letter
    name: VaultName,
    /// For how many days what is deleted in it can be brought back: 7 to 90; fixed for ever
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(i32).range(7..=90))]
    retention_days: i32,
    /// Nothing in it can be purged before its date; cannot be switched off again
    #[arg(long)]
    purge_protection: bool,
    /// Its keys are under a key-encryption key of its own on the token, which is destroyed when the vault is purged: then no
    /// backup gives them back. Nor does anything when the token is lost: recovery keys do not cover it. Fixed for ever
    #[arg(long)]
    own_kek: bool,
    #[command(flatten)]
    padding: PaddingArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    authorization: AuthorizationArgs,
    #[command(flatten)]
    staleness: StalenessArgs,
    /// A tag; once for each
    #[arg(long = "tag", value_name = "K=V", value_parser = parse::tag)]
    tags: Vec<(String, String)>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What concerns padding oracles.
#[derive(Debug, Args)]
struct PaddingArgs {
    /// Whether RSA1_5 and A*CBCPAD may decrypt and unwrap with its keys [default when made: false]. Whoever can have
    /// many ciphertexts tried can decrypt any of them: only where old data needs it
    #[arg(long = "allow-padding-decryption", value_name = "true|false")]
    allowed: Option<bool>,
}

/// What concerns replicas.
#[derive(Debug, Args)]
struct StalenessArgs {
    /// How old what a replica knows of it may be when it serves: 1 to 60 [default when made: 1]. More than 1 is for vaults
    /// that are to go on working while the database fails over; a disabled key then may be used for so long
    #[arg(long = "max-staleness", value_name = "SECONDS", value_parser = clap::value_parser!(i32).range(1..=60))]
    max: Option<i32>,
}

/// From where it may be used. Whoever may change the vault itself can do so from anywhere.
#[derive(Debug, Args)]
struct NetworkArgs {
    /// Whether any address may come; else those of --allow-range only [default when made: true]
    #[arg(long, value_name = "true|false")]
    public_access: Option<bool>,
    /// An address, or a range like 10.0.0.0/8, that may come without public access; once for each, and they replace
    /// all that it has
    #[arg(long = "allow-range", value_name = "CIDR")]
    allowed_ranges: Vec<AddressRange>,
    /// Whether callers at a Unix socket of the server's machine may come [default when made: true]
    #[arg(long, value_name = "true|false")]
    local_access: Option<bool>,
}

impl NetworkArgs {
    fn rules(&self) -> NetworkRules {
        NetworkRules {
            public_access: self.public_access,
            allowed_ranges: self.allowed_ranges.iter().map(ToString::to_string).collect(),
            local_access: self.local_access,
        }
    }

    /// The fields that are said, as a mask names them.
    fn paths(&self) -> impl Iterator<Item = String> {
        let said = [
            self.public_access.map(|_| "network.public_access"),
            (!self.allowed_ranges.is_empty()).then_some("network.allowed_ranges"),
            self.local_access.map(|_| "network.local_access"),
        ];
        said.into_iter().flatten().map(str::to_owned)
    }
}

/// What decides who may use what is in it.
#[derive(Debug, Args)]
struct AuthorizationArgs {
    /// What decides who may do what with the things in it: roles, or its own access policies and no role
    /// [default when made: roles]
    #[arg(long, value_name = "MODE")]
    authorization: Option<AuthorizationArg>,
}

impl AuthorizationArgs {
    fn value(&self) -> i32 {
        self.authorization.map_or(VaultAuthorization::Unspecified, VaultAuthorization::from).into()
    }
}

/// What `vault show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The vault [default: the current one]
    name: Option<VaultName>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `vault list` takes.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Also show deleted vaults
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `vault update` takes.
#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// The vault
    name: VaultName,
    /// Switch purge protection on; cannot be switched off again
    #[arg(long)]
    purge_protection: bool,
    #[command(flatten)]
    padding: PaddingArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Take all ranges away: without public access no address may come
    #[arg(long, conflicts_with = "allowed_ranges")]
    clear_ranges: bool,
    #[command(flatten)]
    authorization: AuthorizationArgs,
    #[command(flatten)]
    staleness: StalenessArgs,
    /// A tag; once for each. They replace all tags that it has
    #[arg(long = "tag", value_name = "K=V", value_parser = parse::tag, conflicts_with = "clear_tags")]
    tags: Vec<(String, String)>,
    /// Take all tags away
    #[arg(long)]
    clear_tags: bool,
    #[command(flatten)]
    dry: DryRunArgs,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `vault delete`, `vault recover`, `vault purge` and `vault rotate-kek` take.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The vault
    name: VaultName,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: VaultCommand) -> anyhow::Result<ExitCode> {
    match command {
        VaultCommand::Create(args) => create(connection, &args).await,
        VaultCommand::Show(args) => show(connection, &args).await,
        VaultCommand::List(args) => list(connection, &args).await,
        VaultCommand::Update(args) => update(connection, &args).await,
        VaultCommand::Delete(args) => delete(connection, &args).await,
        VaultCommand::Recover(args) => recover(connection, &args).await,
        VaultCommand::Purge(args) => purge(connection, &args).await,
        VaultCommand::RotateKek(args) => rotate_kek(connection, &args).await,
        VaultCommand::Policy(command) => policy::run(connection, command).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// A change of a vault.
fn change(verb: &str, vault: &VaultName, request_id: &str) -> Action {
    Action {
        what: format!("{verb} vaults/{vault}"),
        noun: Noun::Vault,
        scope: "/".into(),
        request_id: Some(request_id.to_owned()),
    }
}

fn reading(what: String, scope: String) -> Action {
    Action { what, noun: Noun::Vault, scope, request_id: None }
}

fn shown(args: FormatArgs, vault: &Vault) -> anyhow::Result<()> {
    output::show(args.format, &VaultView::from(vault))
}

async fn create(connection: &ConnectionArgs, args: &CreateArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let request = CreateVaultRequest {
        vault_id: args.name.to_string(),
        vault: Some(Vault {
            tags: parse::tags(&args.tags)?,
            retention_days: args.retention_days,
            purge_protection: args.purge_protection,
            padding_decryption_allowed: args.padding.allowed.unwrap_or(false),
            network: Some(args.network.rules()),
            authorization: args.authorization.value(),
            max_staleness_seconds: args.staleness.max.unwrap_or_default(),
            own_kek: args.own_kek,
            ..Vault::default()
        }),
        request_id: request_id.clone(),
        validate_only: false,
    };
    let client = connection.connect().await?;
    let action = change("create", &args.name, &request_id);
    shown(args.format, &client.call(&action, client.api.create_vault(request)).await?)
}

async fn show(connection: &ConnectionArgs, args: &ShowArgs) -> anyhow::Result<()> {
    let vault = args.name.clone().map_or_else(|| connection.vault(), Ok)?;
    let name = format!("vaults/{vault}");
    let client = connection.connect().await?;
    let action = reading(format!("show {name}"), name.clone());
    shown(args.format, &client.call(&action, client.api.get_vault(&name)).await?)
}

async fn list(connection: &ConnectionArgs, args: &ListArgs) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    let action = reading("list vaults".into(), "/".into());
    let request = ListVaultsRequest { page_size: 1000, show_deleted: args.deleted, ..Default::default() };
    let vaults = client.call(&action, client.api.list_vaults(request)).await?;
    output::show(args.format.format, &VaultList(vaults.iter().map(VaultView::from).collect()))
}

async fn update(connection: &ConnectionArgs, args: &UpdateArgs) -> anyhow::Result<()> {
    let mut paths = Vec::new();
    if args.purge_protection {
        paths.push("purge_protection".to_owned());
    }
    if args.padding.allowed.is_some() {
        paths.push("padding_decryption_allowed".to_owned());
    }
    paths.extend(args.network.paths());
    if args.clear_ranges {
        paths.push("network.allowed_ranges".to_owned());
    }
    if args.authorization.authorization.is_some() {
        paths.push("authorization".to_owned());
    }
    if args.staleness.max.is_some() {
        paths.push("max_staleness_seconds".to_owned());
    }
    if args.clear_tags || !args.tags.is_empty() {
        paths.push("tags".to_owned());
    }
    change::check_mask(
        &paths,
        "--purge-protection, --allow-padding-decryption, --public-access, --allow-range, --clear-ranges, \
         --local-access, --authorization, --max-staleness, --tag, --clear-tags",
    )?;
    let request_id = args.change.request_id()?;
    let request = UpdateVaultRequest {
        vault: Some(Vault {
            name: format!("vaults/{}", args.name),
            tags: parse::tags(&args.tags)?,
            purge_protection: args.purge_protection,
            padding_decryption_allowed: args.padding.allowed.unwrap_or(false),
            network: Some(args.network.rules()),
            authorization: args.authorization.value(),
            max_staleness_seconds: args.staleness.max.unwrap_or_default(),
            etag: args.etag.value(),
            ..Vault::default()
        }),
        update_mask: Some(FieldMask { paths }),
        request_id: request_id.clone(),
        validate_only: args.dry.dry_run,
    };
    let client = connection.connect().await?;
    let action = change("change", &args.name, &request_id);
    let vault = client.call(&action, client.api.update_vault(request.clone())).await?;
    if args.dry.dry_run && args.authorization.authorization.is_some() {
        return review::preview(&client, Change::UpdateVault(request), args.format.format).await;
    }
    shown(args.format, &vault)
}

async fn delete(connection: &ConnectionArgs, args: &DeleteArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = change("delete", &args.name, &request_id);
    let request = DeleteVaultRequest {
        name: format!("vaults/{}", args.name),
        etag: args.etag.value(),
        request_id,
        validate_only: false,
    };
    shown(args.format, &client.call(&action, client.api.delete_vault(request)).await?)
}

async fn recover(connection: &ConnectionArgs, args: &DeleteArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = change("bring back", &args.name, &request_id);
    let request = UndeleteVaultRequest {
        name: format!("vaults/{}", args.name),
        etag: args.etag.value(),
        request_id,
        validate_only: false,
    };
    shown(args.format, &client.call(&action, client.api.undelete_vault(request)).await?)
}

async fn rotate_kek(connection: &ConnectionArgs, args: &DeleteArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = Action { noun: Noun::OwnKeys, ..change("rotate the key-encryption key of", &args.name, &request_id) };
    let request = RotateVaultKekRequest {
        name: format!("vaults/{}", args.name),
        etag: args.etag.value(),
        request_id,
        validate_only: false,
    };
    shown(args.format, &client.call(&action, client.api.rotate_vault_kek(request)).await?)
}

async fn purge(connection: &ConnectionArgs, args: &DeleteArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = change("purge", &args.name, &request_id);
    let name = format!("vaults/{}", args.name);
    let request = PurgeVaultRequest { name: name.clone(), etag: args.etag.value(), request_id, validate_only: false };
    let done = client.call(&action, client.api.purge_vault(request)).await?;
    output::show(args.format.format, &PurgedVaultView { name, done })
}

/// How far the destruction of a vault is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PurgedVaultView {
    /// The vault.
    pub(super) name: String,
    /// All is gone.
    pub(super) done: bool,
}

impl Rows for PurgedVaultView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let state = if self.done { "destroyed" } else { "being destroyed: it goes on by itself" };
        vec![vec!["name".to_owned(), self.name.clone()], vec!["state".to_owned(), state.to_owned()]]
    }
}
