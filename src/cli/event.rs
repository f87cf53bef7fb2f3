//! `strongroom event …`: what happened to keys, secrets and vaults, as it happens; `strongroom webhook …`: what was not delivered.

use std::{future::pending, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_client::{Error, EventStream};
use strongroom_proto::v1::{DeadLetter, Event, ListDeadLettersRequest, WatchEventsRequest, Webhook};
use tokio::signal::ctrl_c;

use super::{
    client::Client,
    connection::ConnectionArgs,
    failure::{Action, Noun},
    follow::Again,
    output::{self, Format, FormatArgs, Rows},
    view::optional_time,
};

/// Exit code after Ctrl-C: what a shell sees of a program that does not catch it (128 and SIGINT).
const EXIT_INTERRUPTED: u8 = 130;

pub(super) const AFTER_HELP: &str = "\
Each event is told at least once; its id stays the same. A server that goes away is waited for. After the last one that was \
shown, whatever ends it, Ctrl-C too, standard error says where to go on (--after). Events are kept for seven days.";

/// `event …`.
#[derive(Debug, Subcommand)]
pub(super) enum EventCommand {
    /// Show events of the vault, or of all, as they happen
    #[command(after_help = AFTER_HELP)]
    Watch(WatchArgs),
}

/// What `event watch` takes.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Of all vaults, not of the current one
    #[arg(long)]
    all_vaults: bool,
    /// Only events of that type, such as strongroom.v1.KeyExpired; once for each
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Go on after that place, which an earlier watch said at its end
    #[arg(long, value_name = "TOKEN", conflicts_with = "from_beginning")]
    after: Option<String>,
    /// Begin with the oldest event that is kept
    #[arg(long)]
    from_beginning: bool,
    /// End when all that is there was shown
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// `webhook …`.
#[derive(Debug, Subcommand)]
pub(super) enum WebhookCommand {
    /// List webhooks with what waits for them
    List(FormatArgs),
    /// List the deliveries to a webhook that were given up
    DeadLetters(DeadLettersArgs),
    /// Deliver again what was given up: all of a webhook, or one event
    Replay(ReplayArgs),
}

/// What `webhook dead-letters` takes.
#[derive(Debug, Args)]
pub(super) struct DeadLettersArgs {
    /// The webhook, as the server's configuration names it
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `webhook replay` takes.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The webhook, as the server's configuration names it
    #[arg(value_name = "NAME")]
    name: String,
    /// Only that event, by its id
    #[arg(long, value_name = "UUID")]
    event: Option<uuid::Uuid>,
    #[command(flatten)]
    format: FormatArgs,
}

fn action(what: String, scope: String) -> Action {
    Action { what, noun: Noun::Event, scope, request_id: None }
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: EventCommand) -> anyhow::Result<ExitCode> {
    let EventCommand::Watch(args) = command;
    let parent = if args.all_vaults { String::new() } else { format!("vaults/{}", connection.vault()?) };
    let request = WatchEventsRequest {
        parent: parent.clone(),
        types: args.types.clone(),
        resume_token: args.after.clone().unwrap_or_default(),
        from_beginning: args.from_beginning,
        no_follow: args.no_follow,
    };
    let scope = if args.all_vaults { "/".to_owned() } else { parent };
    watch(connection, &action(format!("watch the events of {scope}"), scope), request, args.format.format).await
}

/// Shows what comes; whatever ends it, says where to go on.
async fn watch(
    connection: &ConnectionArgs,
    action: &Action,
    request: WatchEventsRequest,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let client = connection.connect_for_long().await?;
    let mut watching = Watching { request, format, has_place: false, again: Again::default() };
    let end = tokio::select! {
        end = watching.follow(&client, action) => end.map(|()| ExitCode::SUCCESS),
        () = interrupted() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
    };
    if watching.has_place {
        output::note(&format!("to go on from here: --after {}", watching.request.resume_token));
    }
    end
}

/// Comes with Ctrl-C.
async fn interrupted() {
    if ctrl_c().await.is_err() {
        // It cannot be caught, and ends the process as it ends others.
        pending::<()>().await;
    }
}

/// A watch and how far it has come.
struct Watching {
    /// What is asked for, after what was shown.
    request: WatchEventsRequest,
    format: Format,
    /// The server has said where that is.
    has_place: bool,
    again: Again,
}

impl Watching {
    /// Shows what comes. A server that ends, and comes back, is asked again from where it stopped.
    async fn follow(&mut self, client: &Client, action: &Action) -> anyhow::Result<()> {
        // Not waited for: perhaps there never was a server where this one is said to be.
        let mut stream = client.call(action, client.api.watch_events(self.request.clone())).await?;
        while let Some(error) = self.tell(&mut stream).await? {
            let request = &self.request;
            stream = self.again.open(client, action, error, || client.api.watch_events(request.clone())).await?;
        }
        Ok(())
    }

    /// Shows what a stream tells, and gives what broke it off; nothing when all was told.
    async fn tell(&mut self, stream: &mut EventStream) -> anyhow::Result<Option<Error>> {
        loop {
            let message = match stream.next().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            };
            message.events.iter().try_for_each(|event| show(event, self.format))?;
            if !message.events.is_empty() {
                self.again = Again::default();
            }
            (self.request.resume_token, self.request.from_beginning) = (message.resume_token, false);
            self.has_place = true;
        }
    }
}

fn show(event: &Event, format: Format) -> anyhow::Result<()> {
    let view = EventView::from(event);
    match format {
        Format::Json => output::json_line(&view),
        Format::Table => output::line(&output::printable(&view.line())),
    }
}

/// Does what the command says.
pub(super) async fn webhooks(connection: &ConnectionArgs, command: WebhookCommand) -> anyhow::Result<ExitCode> {
    let client = connection.connect().await?;
    match command {
        WebhookCommand::List(args) => {
            let action = action("list webhooks".to_owned(), "/".to_owned());
            let found = client.call(&action, client.api.list_webhooks()).await?;
            output::show(args.format, &WebhookList(found.iter().map(WebhookView::from).collect()))?;
        }
        WebhookCommand::DeadLetters(args) => {
            let parent = format!("webhooks/{}", args.name);
            let action = action(format!("list the dead letters of {parent}"), "/".to_owned());
            let request = ListDeadLettersRequest { parent, page_size: 1000, ..Default::default() };
            let found = client.call(&action, client.api.list_dead_letters(request)).await?;
            output::show(args.format.format, &DeadLetterList(found.iter().map(DeadLetterView::from).collect()))?;
        }
        WebhookCommand::Replay(args) => {
            let mut name = format!("webhooks/{}", args.name);
            if let Some(event) = args.event {
                name.push_str(&format!("/deadLetters/{event}"));
            }
            let action = action(format!("deliver again to {name}"), "/".to_owned());
            let queued = client.call(&action, client.api.replay_dead_letters(&name)).await?;
            output::show(args.format.format, &ReplayedView { queued: queued.to_string() })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `strongroom.v1.Event`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventView {
    id: String,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    subject: String,
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_time: Option<String>,
    detail: String,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.clone(),
            r#type: event.r#type.clone(),
            time: optional_time(event.time.as_ref()),
            subject: event.subject.clone(),
            principal: event.principal.clone(),
            due_time: optional_time(event.due_time.as_ref()),
            detail: event.detail.clone(),
        }
    }
}

impl EventView {
    /// What happened, to what and by whom, on one line.
    fn line(&self) -> String {
        let time = self.time.as_deref().unwrap_or("-");
        let kind = self.r#type.rsplit('.').next().unwrap_or_default();
        let mut line = format!("{time}  {kind}  {}  by {}", self.subject, self.principal);
        if let Some(due) = &self.due_time {
            line.push_str(&format!("  due {due}"));
        }
        if !self.detail.is_empty() {
            line.push_str(&format!("  {}", self.detail));
        }
        line
    }
}

/// `strongroom.v1.Webhook`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookView {
    name: String,
    pending: String,
    dead_letters: String,
}

impl From<&Webhook> for WebhookView {
    fn from(webhook: &Webhook) -> Self {
        let (pending, dead_letters) = (webhook.pending.to_string(), webhook.dead_letters.to_string());
        Self { name: webhook.name.clone(), pending, dead_letters }
    }
}

#[derive(Debug, Serialize)]
struct WebhookList(Vec<WebhookView>);

impl Rows for WebhookList {
    fn head(&self) -> Vec<&'static str> {
        vec!["NAME", "PENDING", "DEAD LETTERS"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row =
            |webhook: &WebhookView| vec![webhook.name.clone(), webhook.pending.clone(), webhook.dead_letters.clone()];
        self.0.iter().map(row).collect()
    }
}

/// `strongroom.v1.DeadLetter`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetterView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventView>,
    attempts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt_time: Option<String>,
    failure: String,
}

impl From<&DeadLetter> for DeadLetterView {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            name: letter.name.clone(),
            event: letter.event.as_ref().map(EventView::from),
            attempts: letter.attempts,
            last_attempt_time: optional_time(letter.last_attempt_time.as_ref()),
            failure: letter.failure.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct DeadLetterList(Vec<DeadLetterView>);

impl Rows for DeadLetterList {
    fn head(&self) -> Vec<&'static str> {
        vec!["EVENT", "TYPE", "SUBJECT", "ATTEMPTS", "LAST", "FAILURE"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |letter: &DeadLetterView| {
            let of = |field: fn(&EventView) -> String| letter.event.as_ref().map(field).unwrap_or_default();
            vec![
                of(|event| event.id.clone()),
                of(|event| event.r#type.clone()),
                of(|event| event.subject.clone()),
                letter.attempts.to_string(),
                letter.last_attempt_time.clone().unwrap_or_default(),
                letter.failure.clone(),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

/// How many are delivered again.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplayedView {
    /// So many were queued.
    pub(super) queued: String,
}

impl Rows for ReplayedView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        vec![vec!["queued".to_owned(), self.queued.clone()]]
    }
}
