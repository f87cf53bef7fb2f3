//! `strongroom vault policy …`: access policies, for vaults that decide by them.

use clap::{Args, Subcommand};
use strongroom_proto::v1::{
    AccessPolicy, DeleteAccessPolicyRequest, ListAccessPoliciesRequest, SetAccessPolicyRequest,
    preview_access_request::Change,
};

use crate::{
    cli::{
        change::{ChangeArgs, DryRunArgs, EtagArgs},
        connection::ConnectionArgs,
        failure::{Action, Noun},
        output::{self, FormatArgs},
        review,
        view::{PolicyList, PolicyView},
    },
    model::{ObjectType, Permissions, Principal, VaultName},
};

/// `vault policy …`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// Set what somebody may do with what is in a vault, in place of what he had
    Set(SetArgs),
    /// List who may do what by access policies
    List(ListArgs),
    /// Take somebody's access policy away
    Delete(DeleteArgs),
}

/// What `vault policy set` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct SetArgs {
    /// The vault
    name: VaultName,
    /// Who: a principal or a group
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Principal,
    /// With keys, as get,list,sign or all
    #[arg(long, value_name = "PERMISSIONS", value_delimiter = ',', value_parser = key)]
    keys: Vec<String>,
    /// With secrets, as get,list
    #[arg(long, value_name = "PERMISSIONS", value_delimiter = ',', value_parser = secret)]
    secrets: Vec<String>,
    /// With certificates, as get,list
    #[arg(long, value_name = "PERMISSIONS", value_delimiter = ',', value_parser = certificate)]
    certificates: Vec<String>,
    #[command(flatten)]
    dry: DryRunArgs,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `vault policy list` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// The vault [default: the current one]
    name: Option<VaultName>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `vault policy delete` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteArgs {
    /// The vault
    name: VaultName,
    /// Whose
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Principal,
    #[command(flatten)]
    dry: DryRunArgs,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

fn known(kind: ObjectType, name: &str) -> Result<String, String> {
    match Permissions::default().add(kind, name) {
        Ok(()) => Ok(name.to_owned()),
        Err(_) => Err(format!("[possible values: {}]", Permissions::known(kind).join(", "))),
    }
}

fn key(name: &str) -> Result<String, String> {
    known(ObjectType::Keys, name)
}

fn secret(name: &str) -> Result<String, String> {
    known(ObjectType::Secrets, name)
}

fn certificate(name: &str) -> Result<String, String> {
    known(ObjectType::Certificates, name)
}

fn action(what: String, vault: &VaultName, request_id: Option<&str>) -> Action {
    let request_id = request_id.map(str::to_owned);
    Action { what, noun: Noun::Access, scope: format!("vaults/{vault}"), request_id }
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Set(args) => set(connection, &args).await,
        PolicyCommand::List(args) => list(connection, &args).await,
        PolicyCommand::Delete(args) => delete(connection, &args).await,
    }
}

async fn set(connection: &ConnectionArgs, args: &SetArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let what = format!("set the access policy of {} in vaults/{}", args.principal, args.name);
    let action = action(what, &args.name, Some(&request_id));
    let request = SetAccessPolicyRequest {
        access_policy: Some(AccessPolicy {
            parent: format!("vaults/{}", args.name),
            principal: args.principal.to_string(),
            keys: args.keys.clone(),
            secrets: args.secrets.clone(),
            certificates: args.certificates.clone(),
            etag: args.etag.value(),
            ..AccessPolicy::default()
        }),
        request_id,
        validate_only: args.dry.dry_run,
    };
    let client = connection.connect().await?;
    let policy = client.call(&action, client.api.set_access_policy(request.clone())).await?;
    if args.dry.dry_run {
        return review::preview(&client, Change::SetAccessPolicy(request), args.format.format).await;
    }
    output::show(args.format.format, &PolicyView::from(&policy))
}

async fn list(connection: &ConnectionArgs, args: &ListArgs) -> anyhow::Result<()> {
    let vault = args.name.clone().map_or_else(|| connection.vault(), Ok)?;
    let action = action(format!("list access policies of vaults/{vault}"), &vault, None);
    let request =
        ListAccessPoliciesRequest { parent: format!("vaults/{vault}"), page_size: 1000, ..Default::default() };
    let client = connection.connect().await?;
    let policies = client.call(&action, client.api.list_access_policies(request)).await?;
    output::show(args.format.format, &PolicyList(policies.iter().map(PolicyView::from).collect()))
}

async fn delete(connection: &ConnectionArgs, args: &DeleteArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let what = format!("delete the access policy of {} in vaults/{}", args.principal, args.name);
    let action = action(what, &args.name, Some(&request_id));
    let request = DeleteAccessPolicyRequest {
        parent: format!("vaults/{}", args.name),
        principal: args.principal.to_string(),
        etag: args.etag.value(),
        request_id,
        validate_only: args.dry.dry_run,
    };
    let client = connection.connect().await?;
    let policy = client.call(&action, client.api.delete_access_policy(request.clone())).await?;
    if args.dry.dry_run {
        return review::preview(&client, Change::DeleteAccessPolicy(request), args.format.format).await;
    }
    output::show(args.format.format, &PolicyView::from(&policy))
}
