//! `strongroom rotation …`: what is due for the keys of a vault, and what will be.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_proto::v1::{self, ListRotationsRequest};

use super::{
    connection::ConnectionArgs,
    failure::{Action, Noun},
    output::{self, FormatArgs, Rows},
    parse::{self, TimeArg},
    view::optional_time,
};

/// `rotation …`.
#[derive(Debug, Subcommand)]
pub(super) enum RotationCommand {
    /// For each key of the vault that has a policy: what is due, or comes next, and what failed
    Status(FormatArgs),
    /// Everything that will happen by itself to the keys of the vault
    Forecast(ForecastArgs),
}

/// What `forecast` takes.
#[derive(Debug, Args)]
pub(super) struct ForecastArgs {
    /// Until when: RFC 3339, or a duration from now such as P1Y
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: TimeArg,
    #[command(flatten)]
    format: FormatArgs,
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: RotationCommand) -> anyhow::Result<ExitCode> {
    let (until_time, format) = match command {
        RotationCommand::Status(format) => (None, format),
        RotationCommand::Forecast(args) => (Some(args.until.resolve(parse::now())?), args.format),
    };
    let vault = connection.vault()?;
    let parent = format!("vaults/{vault}");
    let client = connection.connect().await?;
    let what = format!("list the rotations of {parent}");
    let action = Action { what, noun: Noun::Vault, scope: parent.clone(), request_id: None };
    let request = ListRotationsRequest { parent, page_size: 1000, until_time, ..Default::default() };
    let found = client.call(&action, client.api.list_rotations(request)).await?;
    output::show(format.format, &RotationList(found.iter().map(RotationView::from).collect()))?;
    Ok(ExitCode::SUCCESS)
}

/// Keys with what they do by themselves.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct RotationList(Vec<RotationView>);

/// `strongroom.v1.KeyRotation`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotationView {
    key: String,
    steps: Vec<StepView>,
    failure: String,
    failures: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_time: Option<String>,
}

/// `strongroom.v1.RotationStep`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StepView {
    work: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_time: Option<String>,
}

impl From<&v1::KeyRotation> for RotationView {
    fn from(rotation: &v1::KeyRotation) -> Self {
        let step = |step: &v1::RotationStep| StepView {
            work: step.work.clone(),
            due_time: optional_time(step.due_time.as_ref()),
            run_time: optional_time(step.run_time.as_ref()),
        };
        Self {
            key: rotation.key.clone(),
            steps: rotation.steps.iter().map(step).collect(),
            failure: rotation.failure.clone(),
            failures: rotation.failures,
            failure_time: optional_time(rotation.failure_time.as_ref()),
        }
    }
}

impl RotationView {
    fn rows(&self) -> Vec<Vec<String>> {
        let failure = match self.failures {
            0 => "none".to_owned(),
            times => format!("{times} times, {}: {}", self.failure_time.as_deref().unwrap_or("-"), self.failure),
        };
        let row = |step: Option<&StepView>| {
            let time = |time: &dyn Fn(&StepView) -> Option<String>| step.and_then(time).unwrap_or_default();
            let work = step.map_or_else(|| "nothing".to_owned(), |step| step.work.clone());
            let (due, run) = (time(&|step| step.due_time.clone()), time(&|step| step.run_time.clone()));
            vec![self.key.clone(), work, due, run, failure.clone()]
        };
        if self.steps.is_empty() { vec![row(None)] } else { self.steps.iter().map(|step| row(Some(step))).collect() }
    }
}

impl Rows for RotationList {
    fn head(&self) -> Vec<&'static str> {
        vec!["KEY", "WORK", "DUE", "BEGINS", "FAILED"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.0.iter().flat_map(RotationView::rows).collect()
    }
}
