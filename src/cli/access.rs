//! `strongroom access …`: role assignments, and questions about access.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use strongroom_proto::v1::{
    CreateRoleAssignmentRequest, DeleteRoleAssignmentRequest, ListRoleAssignmentsRequest, RoleAssignment,
    preview_access_request::Change,
};

use super::{
    break_glass::{self, BreakGlassArgs},
    change::{ChangeArgs, DryRunArgs},
    connection::ConnectionArgs,
    failure::{Action, Failure, Noun},
    output::{self, FormatArgs},
    review,
    view::{AssignmentList, AssignmentView},
};
use crate::model::{AssignmentId, Principal, Scope};

mod roles;

/// `access …`.
#[derive(Debug, Subcommand)]
pub(super) enum AccessCommand {
    /// Give a principal a role
    Grant(GrantArgs),
    /// List who has which role where
    List(ListArgs),
    /// Take a role away, in force at once
    Revoke(RevokeArgs),
    /// Say why somebody may do something, or may not
    Explain(review::ExplainArgs),
    /// List who may do something
    WhoCan(review::WhoCanArgs),
    /// Make somebody administrator without one: at the console, with the HSM's PIN, while no server runs
    #[command(after_help = break_glass::AFTER_HELP)]
    BreakGlass(BreakGlassArgs),
    /// Show the roles there are, and make others
    #[command(subcommand)]
    Roles(roles::RolesCommand),
}

/// What `access grant` takes.
#[derive(Debug, Args)]
pub(super) struct GrantArgs {
    /// Who: spiffe://… or another URI in the client certificate, else x509:sha256:DIGEST of the certificate; or a group
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Principal,
    /// What: a role's name, as "Key Vault Crypto User", or its id
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// Where, and within it: /, vaults/VAULT, vaults/VAULT/keys or vaults/VAULT/keys/KEY [default: the current vault]
    #[arg(long, value_name = "SCOPE")]
    scope: Option<Scope>,
    #[command(flatten)]
    dry: DryRunArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `access list` takes.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only what this principal or group itself has
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<Principal>,
    /// Only what is held at this scope or within it
    #[arg(long, value_name = "SCOPE")]
    scope: Option<Scope>,
    /// Only this role: its name or id
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `access revoke` takes.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Which assignment, as `access list` shows it
    id: String,
    #[command(flatten)]
    dry: DryRunArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: AccessCommand) -> anyhow::Result<ExitCode> {
    match command {
        AccessCommand::Grant(args) => grant(connection, &args).await,
        AccessCommand::List(args) => list(connection, &args).await,
        AccessCommand::Revoke(args) => revoke(connection, &args).await,
        AccessCommand::Explain(args) => review::explain(connection, &args).await,
        AccessCommand::WhoCan(args) => review::who_can(connection, &args).await,
        AccessCommand::BreakGlass(args) => break_glass::run(args).await,
        AccessCommand::Roles(command) => roles::run(connection, command).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

fn action(what: String, request_id: Option<&str>) -> Action {
    Action { what, noun: Noun::Access, scope: "/".into(), request_id: request_id.map(str::to_owned) }
}

async fn grant(connection: &ConnectionArgs, args: &GrantArgs) -> anyhow::Result<()> {
    let scope = args.scope.clone().map_or_else(|| connection.vault().map(Scope::Vault), Ok)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let request = CreateRoleAssignmentRequest {
        role_assignment: Some(RoleAssignment {
            principal: args.principal.to_string(),
            role: roles::resolve(&client, &args.role).await?,
            scope: scope.to_string(),
            ..RoleAssignment::default()
        }),
        request_id: request_id.clone(),
        validate_only: args.dry.dry_run,
    };
    let action = action(format!("give {} a role at {scope}", args.principal), Some(&request_id));
    let assignment = client.call(&action, client.api.create_role_assignment(request.clone())).await?;
    if args.dry.dry_run {
        return review::preview(&client, Change::CreateRoleAssignment(request), args.format.format).await;
    }
    output::show(args.format.format, &AssignmentView::from(&assignment))
}

async fn list(connection: &ConnectionArgs, args: &ListArgs) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    let action = action("list role assignments".into(), None);
    let role = match &args.role {
        Some(role) => roles::resolve(&client, role).await?,
        None => String::new(),
    };
    let request = ListRoleAssignmentsRequest {
        page_size: 1000,
        principal: args.principal.as_ref().map(ToString::to_string).unwrap_or_default(),
        scope: args.scope.as_ref().map(ToString::to_string).unwrap_or_default(),
        role,
        ..Default::default()
    };
    let assignments = client.call(&action, client.api.list_role_assignments(request)).await?;
    output::show(args.format.format, &AssignmentList(assignments.iter().map(AssignmentView::from).collect()))
}

async fn revoke(connection: &ConnectionArgs, args: &RevokeArgs) -> anyhow::Result<()> {
    let id: AssignmentId = args.id.strip_prefix("roleAssignments/").unwrap_or(&args.id).parse().map_err(|_| {
        Failure::new(format!("{:?} is not the id of a role assignment: 32 lower-case hexadecimal digits", args.id))
            .hint("list them: strongroom access list")
    })?;
    let name = format!("roleAssignments/{id}");
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = action(format!("revoke {name}"), Some(&request_id));
    let request = DeleteRoleAssignmentRequest { name, request_id, validate_only: args.dry.dry_run };
    let assignment = client.call(&action, client.api.delete_role_assignment(request.clone())).await?;
    if args.dry.dry_run {
        return review::preview(&client, Change::DeleteRoleAssignment(request), args.format.format).await;
    }
    output::show(args.format.format, &AssignmentView::from(&assignment))
}
