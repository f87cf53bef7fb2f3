//! `strongroom access roles …`: roles, and how `--role` names one.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use serde::Deserialize;
use strongroom_proto::v1::{
    CreateRoleDefinitionRequest, DeleteRoleDefinitionRequest, ListRoleDefinitionsRequest, RoleDefinition,
    UpdateRoleDefinitionRequest, preview_access_request::Change,
};

use super::action;
use crate::{
    access::roles,
    cli::{
        change::{self, ChangeArgs, DryRunArgs, EtagArgs},
        client::Client,
        connection::ConnectionArgs,
        failure::Failure,
        files::{self, Limit},
        output::{self, FormatArgs},
        review,
        view::{RoleList, RoleView},
    },
    model::{ActionPattern, RoleId, Scope},
};

/// `access roles …`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RolesCommand {
    /// List the roles, built-in and others
    List(FormatArgs),
    /// Show a role: its patterns, and what they come to
    Show(ShowArgs),
    /// Make a role
    Create(CreateArgs),
    /// Change a role, in force at once for who has it; what is named is replaced
    Update(UpdateArgs),
    /// Delete a role that nobody has
    Delete(DeleteArgs),
}

/// What `access roles show` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Its name or id
    role: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// What a role permits, and where.
#[derive(Debug, Args)]
struct PatternArgs {
    /// The role as Azure writes it (JSON): Name, Description, Actions, NotActions, DataActions, NotDataActions,
    /// AssignableScopes; flags beside it go before it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A pattern of actions that administer, as roleAssignments.read; once for each
    #[arg(long = "action", value_name = "PATTERN")]
    actions: Vec<ActionPattern>,
    /// One that is taken back
    #[arg(long = "not-action", value_name = "PATTERN")]
    not_actions: Vec<ActionPattern>,
    /// A pattern of actions that use what is in a vault, as keys.sign; once for each
    #[arg(long = "data-action", value_name = "PATTERN")]
    data_actions: Vec<ActionPattern>,
    /// One that is taken back
    #[arg(long = "not-data-action", value_name = "PATTERN")]
    not_data_actions: Vec<ActionPattern>,
    /// Where it can be assigned, and within it; once for each [default when made: /]
    #[arg(long = "assignable-scope", value_name = "SCOPE")]
    assignable_scopes: Vec<Scope>,
}

/// What `access roles create` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// Its name [default: the file's]
    name: Option<String>,
    /// Its id: a GUID, as Azure writes it or without dashes [default: a new one]
    #[arg(long, value_name = "GUID", value_parser = role_id)]
    id: Option<RoleId>,
    #[command(flatten)]
    patterns: PatternArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `access roles update` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct UpdateArgs {
    /// Its name or id
    role: String,
    /// Its new name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    patterns: PatternArgs,
    #[command(flatten)]
    dry: DryRunArgs,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `access roles delete` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteArgs {
    /// Its name or id
    role: String,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// A role in Azure's form. What it says beside these is refused, so that nothing is lost in silence.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct RoleFile {
    #[serde(alias = "RoleName", alias = "roleName", alias = "name")]
    name: Option<String>,
    #[serde(alias = "description")]
    description: Option<String>,
    #[serde(alias = "actions")]
    actions: Option<Vec<String>>,
    #[serde(alias = "notActions")]
    not_actions: Option<Vec<String>>,
    #[serde(alias = "dataActions")]
    data_actions: Option<Vec<String>>,
    #[serde(alias = "notDataActions")]
    not_data_actions: Option<Vec<String>>,
    #[serde(alias = "assignableScopes")]
    assignable_scopes: Option<Vec<String>>,
    /// Says nothing that is not known.
    #[serde(alias = "isCustom")]
    is_custom: Option<bool>,
}

impl RoleFile {
    fn read(args: &PatternArgs) -> anyhow::Result<Self> {
        let Some(path) = &args.file else { return Ok(Self::default()) };
        let bytes = files::read(path, Limit { bytes_max: 256 * 1024, hint: "a role is a few lines of JSON" })?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(format!("{} is not a role in Azure's form: {error}", path.display()))
                .hint("a role looks like {\"Name\": \"signer\", \"DataActions\": [\"keys.sign\"]}")
                .into()
        })
    }

    /// With what flags say in place of what the file says.
    fn or_flags(mut self, name: Option<&String>, args: &PatternArgs) -> Self {
        fn put<T: ToString>(place: &mut Option<Vec<String>>, given: &[T]) {
            if !given.is_empty() {
                *place = Some(given.iter().map(ToString::to_string).collect());
            }
        }
        self.name = name.cloned().or(self.name);
        self.description = args.description.clone().or(self.description);
        put(&mut self.actions, &args.actions);
        put(&mut self.not_actions, &args.not_actions);
        put(&mut self.data_actions, &args.data_actions);
        put(&mut self.not_data_actions, &args.not_data_actions);
        put(&mut self.assignable_scopes, &args.assignable_scopes);
        self
    }

    /// The paths of what is said.
    fn mask(&self) -> Vec<String> {
        let said = [
            ("role_name", self.name.is_some()),
            ("description", self.description.is_some()),
            ("actions", self.actions.is_some()),
            ("not_actions", self.not_actions.is_some()),
            ("data_actions", self.data_actions.is_some()),
            ("not_data_actions", self.not_data_actions.is_some()),
            ("assignable_scopes", self.assignable_scopes.is_some()),
        ];
        said.into_iter().filter(|(_, said)| *said).map(|(path, _)| path.to_owned()).collect()
    }

    fn definition(self) -> RoleDefinition {
        RoleDefinition {
            role_name: self.name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            actions: self.actions.unwrap_or_default(),
            not_actions: self.not_actions.unwrap_or_default(),
            data_actions: self.data_actions.unwrap_or_default(),
            not_data_actions: self.not_data_actions.unwrap_or_default(),
            assignable_scopes: self.assignable_scopes.unwrap_or_default(),
            ..RoleDefinition::default()
        }
    }
}

/// An id as it is shown here, or as Azure writes it.
fn role_id(text: &str) -> Result<RoleId, String> {
    let id = text.strip_prefix("roleDefinitions/").unwrap_or(text).replace('-', "").to_lowercase();
    id.parse().map_err(|_| "is not a GUID: 32 hexadecimal digits".to_owned())
}

/// The resource name of the role that a name or an id means.
pub(super) async fn resolve(client: &Client, text: &str) -> anyhow::Result<String> {
    if let Some(role) = roles::built_in_by_name(text) {
        return Ok(format!("roleDefinitions/{}", role.id));
    }
    if let Ok(id) = role_id(text) {
        return Ok(format!("roleDefinitions/{id}"));
    }
    let known = all(client).await?;
    let found = known.iter().find(|role| role.role_name.to_lowercase() == text.to_lowercase());
    match found {
        Some(role) => Ok(role.name.clone()),
        None => Err(Failure::new(format!("there is no role {text:?}"))
            .hint("list them: strongroom access roles list")
            .into()),
    }
}

async fn all(client: &Client) -> anyhow::Result<Vec<RoleDefinition>> {
    let request = ListRoleDefinitionsRequest { page_size: 1000, ..Default::default() };
    Ok(client.call(&action("list roles".into(), None), client.api.list_role_definitions(request)).await?)
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: RolesCommand) -> anyhow::Result<()> {
    match command {
        RolesCommand::List(args) => list(connection, args).await,
        RolesCommand::Show(args) => show(connection, &args).await,
        RolesCommand::Create(args) => create(connection, &args).await,
        RolesCommand::Update(args) => update(connection, &args).await,
        RolesCommand::Delete(args) => delete(connection, &args).await,
    }
}

async fn list(connection: &ConnectionArgs, args: FormatArgs) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    output::show(args.format, &RoleList(all(&client).await?.iter().map(RoleView::from).collect()))
}

async fn show(connection: &ConnectionArgs, args: &ShowArgs) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    let name = resolve(&client, &args.role).await?;
    let action = action(format!("show {name}"), None);
    let role = client.call(&action, client.api.get_role_definition(&name)).await?;
    output::show(args.format.format, &RoleView::from(&role))
}

async fn create(connection: &ConnectionArgs, args: &CreateArgs) -> anyhow::Result<()> {
    let role = RoleFile::read(&args.patterns)?.or_flags(args.name.as_ref(), &args.patterns);
    if role.name.is_none() {
        return Err(Failure::new("the role has no name").hint("strongroom access roles create NAME …").into());
    }
    let request_id = args.change.request_id()?;
    let action = action("make a role".into(), Some(&request_id));
    let request = CreateRoleDefinitionRequest {
        role_definition: Some(role.definition()),
        role_definition_id: args.id.map(|id| id.to_string()).unwrap_or_default(),
        request_id,
        validate_only: false,
    };
    let client = connection.connect().await?;
    let role = client.call(&action, client.api.create_role_definition(request)).await?;
    output::show(args.format.format, &RoleView::from(&role))
}

async fn update(connection: &ConnectionArgs, args: &UpdateArgs) -> anyhow::Result<()> {
    let role = RoleFile::read(&args.patterns)?.or_flags(args.name.as_ref(), &args.patterns);
    let paths = role.mask();
    change::check_mask(&paths, "--name, --description, --action, --data-action, --assignable-scope, --file")?;
    let client = connection.connect().await?;
    let name = resolve(&client, &args.role).await?;
    let request_id = args.change.request_id()?;
    let action = action(format!("change {name}"), Some(&request_id));
    let request = UpdateRoleDefinitionRequest {
        role_definition: Some(RoleDefinition { name, etag: args.etag.value(), ..role.definition() }),
        update_mask: Some(FieldMask { paths }),
        request_id,
        validate_only: args.dry.dry_run,
    };
    let role = client.call(&action, client.api.update_role_definition(request.clone())).await?;
    if args.dry.dry_run {
        return review::preview(&client, Change::UpdateRoleDefinition(request), args.format.format).await;
    }
    output::show(args.format.format, &RoleView::from(&role))
}

async fn delete(connection: &ConnectionArgs, args: &DeleteArgs) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    let name = resolve(&client, &args.role).await?;
    let request_id = args.change.request_id()?;
    let action = action(format!("delete {name}"), Some(&request_id));
    let request = DeleteRoleDefinitionRequest { name, etag: args.etag.value(), request_id, validate_only: false };
    let role = client.call(&action, client.api.delete_role_definition(request)).await?;
    output::show(args.format.format, &RoleView::from(&role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_in_azures_form_is_read_whole_or_refused() {
        let azure = r#"{"Name": "Signer", "IsCustom": true, "Description": "Signs", "Actions": [],
            "DataActions": ["Microsoft.KeyVault/vaults/keys/sign/action"], "NotDataActions": ["keys.delete"],
            "AssignableScopes": ["/"]}"#;
        let role: RoleFile = serde_json::from_str(azure).expect("a role");
        assert_eq!(
            role.mask().join(" "),
            "role_name description actions data_actions not_data_actions assignable_scopes"
        );
        let role = role.definition();
        assert_eq!((role.role_name.as_str(), role.data_actions.len()), ("Signer", 1));
        let ours: RoleFile =
            serde_json::from_str(r#"{"roleName": "s", "dataActions": ["keys.sign"]}"#).expect("a role");
        assert_eq!(ours.name.as_deref(), Some("s"));
        assert!(serde_json::from_str::<RoleFile>(r#"{"Name": "s", "DataAction": []}"#).is_err());
    }

    #[test]
    fn ids_are_taken_as_azure_writes_them() {
        let id = "12338af0-0e69-4776-bea7-57ae8d297424";
        for text in [id, &id.replace('-', ""), &id.to_uppercase(), &format!("roleDefinitions/{}", id.replace('-', ""))]
        {
            assert_eq!(role_id(text).map(|id| id.to_string()), Ok(id.replace('-', "")), "{text}");
        }
        assert!(role_id("user").is_err());
    }
}
