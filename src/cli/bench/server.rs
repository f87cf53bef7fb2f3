//! A server that is measured: this program again, in a process of its own.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};
use tonic::transport::Channel;

use super::{Ready, compose, failure};
use crate::{
    bench::{
        call::{self, CONNECTIONS_MAX},
        usage::Processes,
    },
    cli::failure::Failure,
};

/// How long it may take to say where it listens: a development server makes a token first.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long it may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// How much of its log an error shows.
const LOG_LINES: usize = 20;

/// A running server. Dropped, it is killed.
pub(super) struct Server {
    child: Child,
    /// Closed when we end, however we do.
    _stdin: ChildStdin,
    endpoint: String,
    azure: Option<String>,
    folder: PathBuf,
}

impl Server {
    /// Starts the program with these arguments on a folder, and waits until it says where it listens.
    pub(super) async fn start(arguments: &[&str], folder: PathBuf) -> anyhow::Result<Self> {
        let log = folder.with_extension("log");
        let mut child = Command::new(compose::program()?)
            .args(arguments)
            .arg("--data-dir")
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failure("a server to be measured cannot be started", &error))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else { anyhow::bail!("the pipes are taken") };
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(READY_WITHIN, lines.next_line()).await.ok().and_then(Result::ok).flatten();
        let ready = first.and_then(|line| serde_json::from_str::<Ready>(&line).ok());
        let Ready { endpoint, azure } = ready.ok_or_else(|| silent(arguments, &log))?;
        Ok(Self { child, _stdin: stdin, endpoint, azure, folder })
    }

    /// The processes of it.
    pub(super) fn processes(&self) -> Processes {
        self.child.id().map(Processes::of_server).unwrap_or_default()
    }

    /// The connections that its callers share.
    pub(super) async fn connections(&self) -> anyhow::Result<Vec<Channel>> {
        let connected = call::connections(&self.endpoint, &self.folder.join("tls"), CONNECTIONS_MAX).await;
        Ok(connected.map_err(|error| failure("no connection to measure with", &error))?)
    }

    /// So many connections.
    pub(super) async fn connections_of(&self, count: usize) -> anyhow::Result<Vec<Channel>> {
        let mut channels = Vec::with_capacity(count);
        for _ in 0..count {
            let connected = call::connect(&self.endpoint, &self.folder.join("tls")).await;
            channels.push(connected.map_err(|error| failure("no connection to measure with", &error))?);
        }
        Ok(channels)
    }

    /// The vault's URL on its Azure face, if that was asked for.
    pub(super) fn azure(&self) -> Option<&str> {
        self.azure.as_deref()
    }

    /// Ends it as an operator would.
    pub(super) async fn end(mut self) {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(id) = id {
            // It is gone already, perhaps.
            let _ = kill_process(id, Signal::TERM);
        }
        let _ = timeout(ENDED_WITHIN, self.child.wait()).await;
    }
}

fn silent(arguments: &[&str], log: &Path) -> Failure {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    let what = arguments.first().copied().unwrap_or_default();
    last.iter().fold(Failure::new(format!("`strongroom {what}` did not begin to serve")), |failure, line| {
        failure.detail(line.to_owned())
    })
}
