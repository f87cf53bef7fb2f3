//! `strongroom token …`: bearer tokens that the service issues.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_proto::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest};
use zeroize::Zeroizing;

use super::{
    change::ChangeArgs,
    connection::ConnectionArgs,
    failure::{Action, Failure, Noun},
    files::{Content, Out},
    output::{self, Format, FormatArgs},
    view::{TokenList, TokenView},
};
use crate::model::{TokenId, TokenName};

pub(super) const AFTER_HELP: &str = "\
A token stands for the principal token:NAME and has the rights that are given to it (strongroom access grant \
--principal token:NAME …), never those of whoever had it issued. It is sent with --token-file FILE.";

/// `token …`.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Issue a token; it is shown once
    Create(CreateArgs),
    /// List the tokens in force
    List(FormatArgs),
    /// Revoke a token, in force at once
    Revoke(RevokeArgs),
}

/// What `token create` takes.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Its name: it stands for the principal token:NAME
    name: TokenName,
    /// For how long [default: as the server is configured, usually 3600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    life: Option<u32>,
    /// The file to write, whole or not at all, for its owner only; - is standard output [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `token revoke` takes.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Which token, as `token list` shows it
    id: String,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// A new token as JSON.
#[derive(Serialize)]
pub(super) struct IssuedView {
    pub(super) token: TokenView,
    /// Absent when it went into a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<Zeroizing<String>>,
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create(connection, &args).await,
        TokenCommand::List(args) => list(connection, args).await,
        TokenCommand::Revoke(args) => revoke(connection, &args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

fn action(what: String, request_id: Option<&str>) -> Action {
    Action { what, noun: Noun::Token, scope: "/".into(), request_id: request_id.map(str::to_owned) }
}

async fn create(connection: &ConnectionArgs, args: &CreateArgs) -> anyhow::Result<()> {
    let out = args.out.as_deref().map(|path| Out::prepare(path, Content::Secret)).transpose()?;
    let request_id = args.change.request_id()?;
    let request = CreateTokenRequest {
        token_name: args.name.to_string(),
        life: args.life.map(|seconds| prost_types::Duration { seconds: seconds.into(), nanos: 0 }),
        request_id: request_id.clone(),
        validate_only: false,
    };
    let client = connection.connect().await?;
    let action = action(format!("issue a token for {}", args.name.principal()), Some(&request_id));
    let issued = client.call(&action, client.api.create_token(request)).await?;
    let text = Zeroizing::new(issued.text);
    let token = issued.token.as_ref().map(TokenView::from);
    let token = token.ok_or_else(|| Failure::new("the server issued a token and did not say which"))?;
    let json = args.format.format == Format::Json;
    match out {
        Some(out) if !out.is_standard() => {
            out.commit(text.as_bytes())?;
            if json { output::json(&IssuedView { token, text: None }) } else { output::show(Format::Table, &token) }
        }
        None if json => {
            let view = IssuedView { token, text: Some(text) };
            output::line(&Zeroizing::new(serde_json::to_string_pretty(&view)?))
        }
        _ => output::line(&text),
    }
}

async fn list(connection: &ConnectionArgs, args: FormatArgs) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    let request = ListTokensRequest { page_size: 1000, ..Default::default() };
    let tokens = client.call(&action("list tokens".into(), None), client.api.list_tokens(request)).await?;
    output::show(args.format, &TokenList(tokens.iter().map(TokenView::from).collect()))
}

async fn revoke(connection: &ConnectionArgs, args: &RevokeArgs) -> anyhow::Result<()> {
    let id: TokenId = args.id.strip_prefix("tokens/").unwrap_or(&args.id).parse().map_err(|_| {
        Failure::new(format!("{:?} is not the id of a token: 32 lower-case hexadecimal digits", args.id))
            .hint("list them: strongroom token list")
    })?;
    let name = format!("tokens/{id}");
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = action(format!("revoke {name}"), Some(&request_id));
    let request = RevokeTokenRequest { name, request_id, validate_only: false };
    let token = client.call(&action, client.api.revoke_token(request)).await?;
    output::show(args.format.format, &TokenView::from(&token))
}
