//! A worker process: started, greeted, ended. Until it serves, it is asked one thing at a time here.
//!
//! It gets its end of the socket pair as standard input, the environment of the profile, and nothing
//! else of ours. It is started from a runtime thread, not from a blocking one: a worker that asks for a
//! signal at its parent's death gets it when the *thread* that started it ends.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, getpriority_process, setpriority_process};
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    algorithms::Lane,
    error::StartError,
    pool::{
        link::{Link, Received, Sent},
        log,
    },
    profile::Profile,
    protocol::{
        Answer, Call, Fault, Hello, Moment, PACKET_BYTES_MAX, Ready, Request, Response, Role, append_frame, read_frames,
    },
    statement::KeyRow,
};

/// How long a new worker may take until it is ready: it waits for the start lock and logs in.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a load may take when a new worker is warmed.
const LOADED_WITHIN: Duration = Duration::from_secs(10);
/// How long a killed process may take to vanish before its reaping is left to the background.
const REAPED_WITHIN: Duration = Duration::from_secs(2);

/// A worker process that is not, or no longer, in a lane.
pub(super) struct Process {
    child: Child,
    link: Arc<Link>,
    label: &'static str,
    next_id: u32,
}

/// Why a question of [`Process::ask`] has no answer.
enum Silence {
    Ended,
    Late(Duration),
    Lied,
}

impl Process {
    /// Starts a worker of `lane` and waits until it is ready.
    pub(super) async fn start(
        profile: &Profile,
        lane: Option<Lane>,
        seat: usize,
        role: Role,
    ) -> Result<(Self, Ready), StartError> {
        let label = lane.map_or("provision", Lane::name);
        let mut process = Self::spawn(profile, label, seat)
            .map_err(|source| StartError::Spawn { program: profile.worker_program.display().to_string(), source })?;
        match process.ask(Request::Hello(Box::new(hello(profile, lane, role))), READY_WITHIN).await {
            Ok(Response::Ready(ready)) => {
                // Not before: a start holds the lock that other starts wait for.
                process.stand_back(lane);
                Ok((process, ready))
            }
            Ok(_) => Err(process.refuse(Fault::Protocol).await),
            Err(error) => Err(error),
        }
    }

    fn spawn(profile: &Profile, label: &'static str, seat: usize) -> std::io::Result<Self> {
        let (link, worker_end) = Link::pair()?;
        // The command owns the worker's end, and drops it here: else end-of-file would never come.
        let mut child = Command::new(&profile.worker_program)
            .args(&profile.worker_arguments)
            .env_clear()
            .envs(&profile.environment)
            .stdin(Stdio::from(worker_end))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for the front, which then lets the workers finish.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log::follow(stderr, label, seat));
        }
        Ok(Self { child, link: Arc::new(link), label, next_id: 0 })
    }

    /// Lets the workers of quicker lanes and the front go first, where cores are short.
    fn stand_back(&self, lane: Option<Lane>) {
        let Some(niceness) = lane.map(Lane::niceness).filter(|niceness| *niceness > 0) else { return };
        let Some(id) = self.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) else { return };
        // Never further forward than it stands: somebody may have started the service in the background.
        let set = getpriority_process(Some(id)).and_then(|now| setpriority_process(Some(id), niceness.max(now)));
        if let Err(error) = set {
            tracing::warn!(lane = self.label, %error, "an HSM worker cannot stand back for quicker lanes");
        }
    }

    /// The socket to it.
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Its process id, while it has one.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks one thing and waits for the answer. Every error ends the process.
    pub(super) async fn ask(&mut self, request: Request, within: Duration) -> Result<Response, StartError> {
        let answers = self.dialogue(vec![request], within).await;
        let answer = match answers {
            Ok(mut answers) => answers.pop().unwrap_or(Err(Fault::Protocol)),
            Err(silence) => return Err(self.fail(silence).await),
        };
        match answer {
            Ok(response) => Ok(response),
            Err(fault) => Err(self.refuse(fault).await),
        }
    }

    /// Asks several things at once; each has an answer of its own. Only silence, or nonsense, ends the process.
    pub(super) async fn ask_all(
        &mut self,
        requests: Vec<Request>,
        within: Duration,
    ) -> Result<Vec<Result<Response, Fault>>, StartError> {
        match self.dialogue(requests, within).await {
            Ok(answers) => Ok(answers),
            Err(silence) => Err(self.fail(silence).await),
        }
    }

    /// Loads the most used keys. Which could be loaded does not matter: the first use of one that could
    /// not will tell. Each packet must fit, so rows go a few at a time.
    pub(super) async fn warm(&mut self, rows: &[Arc<KeyRow>]) -> Result<(), StartError> {
        for rows in rows.chunks(8) {
            let load = |row: &Arc<KeyRow>| Request::Load {
                seal: serde_bytes::ByteBuf::from(row.seal.to_vec()),
                row: serde_bytes::ByteBuf::from(row.canonical.to_vec()),
            };
            let within = LOADED_WITHIN;
            if let Err(silence) = self.dialogue(rows.iter().map(load).collect(), within).await {
                return Err(self.fail(silence).await);
            }
        }
        Ok(())
    }

    /// Sends requests in one packet and collects their answers.
    async fn dialogue(
        &mut self,
        requests: Vec<Request>,
        within: Duration,
    ) -> Result<Vec<Result<Response, Fault>>, Silence> {
        let (first, count) = (self.next_id, requests.len());
        let deadline = Moment::now().after(within);
        // Provisioning sends a recovery key. Room for a whole packet, because growing would leave copies.
        let mut packet = Zeroizing::new(Vec::with_capacity(PACKET_BYTES_MAX));
        for request in requests {
            append_frame(&mut packet, &Call { id: self.next_id, deadline, request });
            self.next_id += 1;
        }
        let exchange = async {
            self.send(&packet).await?;
            self.collect(first, count).await
        };
        timeout(within, exchange).await.unwrap_or(Err(Silence::Late(within)))
    }

    async fn send(&self, packet: &[u8]) -> Result<(), Silence> {
        let sent = match self.link.send(packet) {
            Sent::Blocked => self.link.writable(|| self.link.send(packet)).await.map_err(|_| Silence::Ended)?,
            sent => sent,
        };
        if sent == Sent::Whole { Ok(()) } else { Err(Silence::Ended) }
    }

    async fn collect(&self, first: u32, count: usize) -> Result<Vec<Result<Response, Fault>>, Silence> {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let mut results = Vec::with_capacity(count);
        let mut id = first;
        while results.len() < count {
            let length = match self.link.recv(&mut buffer).await {
                Ok(Received::Packet(length)) => length,
                Ok(Received::TooLong) => return Err(Silence::Lied),
                Ok(Received::End) | Err(_) => return Err(Silence::Ended),
            };
            for answer in read_frames::<Answer>(&buffer[..length]).map_err(|_| Silence::Lied)? {
                if answer.id != id || results.len() == count {
                    return Err(Silence::Lied);
                }
                id += 1;
                results.push(answer.result);
            }
        }
        Ok(results)
    }

    async fn fail(&mut self, silence: Silence) -> StartError {
        let lane = self.label;
        match silence {
            Silence::Lied => self.refuse(Fault::Protocol).await,
            Silence::Late(after) => {
                self.reap(Duration::ZERO).await;
                StartError::Late { lane, after }
            }
            Silence::Ended => {
                let status = match timeout(REAPED_WITHIN, self.child.wait()).await {
                    Ok(Ok(status)) => status.to_string(),
                    _ => "it closed its socket and lives on".to_owned(),
                };
                self.reap(Duration::ZERO).await;
                StartError::Ended { lane, status }
            }
        }
    }

    async fn refuse(&mut self, source: Fault) -> StartError {
        self.reap(Duration::ZERO).await;
        StartError::Refused { lane: self.label, source }
    }

    /// Kills it, without waiting for it to vanish.
    pub(super) fn kill(&mut self) {
        // An error means that it has ended and is reaped.
        let _ = self.child.start_kill();
    }

    /// Lets it end by itself within `grace`, then kills it; waits until it is reaped.
    /// How it ended, if it has.
    pub(super) async fn end(mut self, grace: Duration) -> Option<ExitStatus> {
        self.link.shutdown();
        let status = self.reap(grace).await;
        if status.is_none() {
            // It sits in the kernel (a dead disk or network mount) and will be reaped when it comes out.
            tokio::spawn(async move { self.child.wait().await });
        }
        status
    }

    async fn reap(&mut self, grace: Duration) -> Option<ExitStatus> {
        if !grace.is_zero()
            && let Ok(Ok(status)) = timeout(grace, self.child.wait()).await
        {
            return Some(status);
        }
        self.kill();
        timeout(REAPED_WITHIN, self.child.wait()).await.ok()?.ok()
    }
}

fn hello(profile: &Profile, lane: Option<Lane>, role: Role) -> Hello {
    Hello {
        module: profile.module.clone(),
        module_parameters: profile.module_parameters.clone(),
        role,
        token: profile.token.clone(),
        pin_file: profile.pin_file.clone(),
        state_dir: profile.state_dir.clone(),
        sync_dirs: profile.sync_dirs.clone(),
        sandbox: profile.sandbox,
        cached_keys_max: u32::try_from(profile.cached_keys_max).unwrap_or(u32::MAX),
        flush_us: flush_us(lane),
        faults: lane.and_then(|lane| profile.faults.get(&lane)).cloned().unwrap_or_default(),
    }
}

/// How long a worker holds answers back to send them together, in microseconds (measured: flushing every
/// 100 costs P-256 a wake-up for every four signatures). A short packet is done before that; a long
/// operation's answer waits for nobody.
fn flush_us(lane: Option<Lane>) -> u32 {
    match lane {
        Some(Lane::Short) => 10_000,
        Some(Lane::Medium) => 1_000,
        Some(Lane::Long | Lane::Generate) | None => 0,
    }
}
