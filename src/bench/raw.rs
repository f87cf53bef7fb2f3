//! PKCS#11 alone, in processes shut in as workers are: the child, and who asks it.
//!
//! The child is the program again. It reads one JSON line after the other from standard input and answers each
//! with one: first a [`Job`], then any number of [`Span`]s. It ends with its standard input.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, Write as _},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use strongroom_hsm::{
    Profile,
    protocol::{Fault, Hello, Operation, Role},
    worker::raw::{Raw, RawKey},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    case::{Answer, Case},
    figures::{Counted, Latencies, ratio},
    usage::{Cpu, Processes},
    verify,
};

/// The most answers that are kept of one span, to be looked at.
const KEPT_MAX: usize = 16;
/// How long a child may take to open the module and make its key.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How much longer than its time a span may take.
const LATE: Duration = Duration::from_secs(30);

/// What a child is for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The module and token.
    pub hello: Hello,
    /// The work.
    pub case: Case,
}

/// What is answered to a [`Job`].
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    library: String,
    input_bytes: usize,
    answer_bytes: usize,
}

/// For how long to work.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Span {
    warm: Duration,
    time: Duration,
}

/// What is answered to a [`Span`].
#[derive(Debug, Serialize, Deserialize)]
struct Worked {
    operations: u64,
    elapsed: Duration,
    cpu: Duration,
    /// Nanoseconds and count.
    latencies: Vec<(u64, u64)>,
    right: u64,
    wrong: u64,
}

/// Why there are no raw figures.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// The process.
    #[error("a process for raw PKCS#11 cannot be started or spoken to")]
    Process(#[from] io::Error),
    /// The module, or a key that it cannot make.
    #[error("the module did not do it raw: {0}")]
    Module(String),
    /// Silence.
    #[error("a process for raw PKCS#11 did not answer in {0:?}")]
    Late(Duration),
    /// Not an answer.
    #[error("a process for raw PKCS#11 answered what is no answer")]
    Nonsense(#[from] serde_json::Error),
}

/// The child: does what it is told until its standard input ends.
///
/// # Errors
/// When it cannot read or write. What the module refuses is an answer.
pub fn child() -> io::Result<()> {
    let (mut lines, mut out) = (io::stdin().lock().lines(), io::stdout().lock());
    let mut say = |answer: &Result<serde_json::Value, String>| -> io::Result<()> {
        writeln!(out, "{}", serde_json::to_string(answer)?)?;
        out.flush()
    };
    let Some(job) = lines.next().transpose()? else { return Ok(()) };
    let job: Job = serde_json::from_str(&job)?;
    let mut bench = match Bench::begin(&job) {
        Ok(bench) => bench,
        Err(fault) => return say(&Err(fault.to_string())),
    };
    let Bench { input_bytes, answer_bytes, .. } = bench;
    let begun = Begun { library: bench.raw.library().to_owned(), input_bytes, answer_bytes };
    say(&Ok(serde_json::to_value(begun)?))?;
    for span in lines {
        let span: Span = serde_json::from_str(&span?)?;
        match bench.work(span) {
            Ok(worked) => say(&Ok(serde_json::to_value(worked)?))?,
            Err(fault) => return say(&Err(fault.to_string())),
        }
    }
    Ok(())
}

/// An open module with a key and the operation that is measured.
struct Bench {
    raw: Raw,
    key: RawKey,
    case: Case,
    operation: Operation,
    input_bytes: usize,
    answer_bytes: usize,
}

impl Bench {
    fn begin(job: &Job) -> Result<Self, Fault> {
        let (case, mut raw) = (job.case, Raw::shut_in(&job.hello)?);
        let key = raw.key(case.spec)?;
        let made = Answer::from(raw.run(&key, &case.make().operation(case.algorithm))?);
        let work = match case.take_back(&made) {
            Some(work) if case.takes_back() => work,
            _ => case.make(),
        };
        let (input_bytes, operation) = (work.bytes(), work.operation(case.algorithm));
        let answer_bytes = Answer::from(raw.run(&key, &operation)?).bytes();
        Ok(Self { raw, key, case, operation, input_bytes, answer_bytes })
    }

    fn work(&mut self, span: Span) -> Result<Worked, Fault> {
        let warm = Instant::now() + span.warm;
        while Instant::now() < warm {
            self.raw.run(&self.key, &self.operation)?;
        }
        let (mut latencies, mut operations, mut kept) = (Latencies::default(), 0_u64, Vec::new());
        let (cpu, begun) = (own_cpu(), Instant::now());
        let mut last = begun;
        while last - begun < span.time {
            let output = self.raw.run(&self.key, &self.operation)?;
            let now = Instant::now();
            latencies.record(now - last);
            last = now;
            operations += 1;
            // At 1, 2, 4, 8, …: over all of the span, at no cost.
            if operations.is_power_of_two() && kept.len() < KEPT_MAX {
                kept.push(output);
            }
        }
        let (elapsed, cpu) = (last - begun, own_cpu().saturating_sub(cpu));
        let (mut right, mut wrong) = (0, 0);
        for output in kept {
            *(if self.is_right(output.into())? { &mut right } else { &mut wrong }) += 1;
        }
        Ok(Worked { operations, elapsed, cpu, latencies: latencies.pairs(), right, wrong })
    }

    fn is_right(&mut self, answer: Answer) -> Result<bool, Fault> {
        if self.case.takes_back() {
            return Ok(self.case.is_taken_back(&answer));
        }
        if let Answer::Signature(signature) = &answer {
            let valid = verify::signature(self.case.algorithm, self.case.spec, self.key.public(), signature);
            if let Some(valid) = valid {
                return Ok(valid);
            }
        }
        let Some(work) = self.case.take_back(&answer) else { return Ok(false) };
        let again = self.raw.run(&self.key, &work.operation(self.case.algorithm))?;
        Ok(self.case.is_taken_back(&again.into()))
    }
}

/// What this process has used so far.
fn own_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or_default())
}

/// How a raw process is greeted: as a worker of that profile would be.
#[must_use]
pub fn hello(profile: &Profile) -> Hello {
    Hello {
        module: profile.module.clone(),
        module_parameters: profile.module_parameters.clone(),
        role: Role::Provision,
        token: profile.token.clone(),
        pin_file: profile.pin_file.clone(),
        state_dir: profile.state_dir.clone(),
        sync_dirs: Vec::new(),
        sandbox: profile.sandbox,
        cached_keys_max: 1,
        flush_us: 0,
        faults: String::new(),
    }
}

/// Raw processes, each with the module and a key of its own.
pub struct Raws {
    children: Vec<RawChild>,
    /// The module's own name and version.
    pub library: String,
    /// How long an input is.
    pub input_bytes: usize,
    /// How long an answer is.
    pub answer_bytes: usize,
}

struct RawChild {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Raws {
    /// Starts `count` processes: `program` with `arguments`, in the environment of the profile and no other.
    ///
    /// # Errors
    /// When one does not start, or the module refuses.
    pub async fn start(
        program: &Path,
        arguments: &[&str],
        profile: &Profile,
        case: Case,
        count: usize,
    ) -> Result<Self, RawError> {
        let mut raws = Self { children: Vec::new(), library: String::new(), input_bytes: 0, answer_bytes: 0 };
        for _ in 0..count {
            let mut child = RawChild::spawn(program, arguments, &profile.environment)?;
            let begun: Begun = child.ask(&Job { hello: hello(profile), case }, READY_WITHIN).await?;
            raws.children.push(child);
            (raws.library, raws.input_bytes, raws.answer_bytes) =
                (begun.library, begun.input_bytes, begun.answer_bytes);
        }
        Ok(raws)
    }

    /// Lets the first `count` of them work at once.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn work(&mut self, count: usize, warm: Duration, time: Duration) -> Result<Counted, RawError> {
        let span = Span { warm, time };
        let working = self.children.iter_mut().take(count);
        for child in working {
            child.tell(&span).await?;
        }
        // While they warm up: what they use before is theirs alone to say.
        tokio::time::sleep(warm).await;
        let before = Processes::default().cpu();
        let mut counted = Counted::default();
        let mut per_second = 0.0;
        for child in self.children.iter_mut().take(count) {
            let worked: Worked = child.hear(warm + time + LATE).await?;
            counted.latencies.add(&Latencies::from_pairs(&worked.latencies));
            counted.operations += worked.operations;
            counted.elapsed = counted.elapsed.max(worked.elapsed);
            counted.cpu += Cpu { workers: worked.cpu, ..Cpu::default() };
            (counted.right, counted.wrong) = (counted.right + worked.right, counted.wrong + worked.wrong);
            per_second += ratio(worked.operations as f64, worked.elapsed.as_secs_f64());
        }
        counted.cpu.machine = (Processes::default().cpu() - before).machine;
        counted.rounds = vec![per_second];
        Ok(counted)
    }
}

impl RawChild {
    fn spawn(program: &Path, arguments: &[&str], environment: &BTreeMap<String, String>) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { _child: child, stdin, lines: BufReader::new(stdout).lines() })
    }

    async fn ask<T: DeserializeOwned>(&mut self, what: &impl Serialize, within: Duration) -> Result<T, RawError> {
        self.tell(what).await?;
        self.hear(within).await
    }

    async fn tell(&mut self, what: &impl Serialize) -> Result<(), RawError> {
        let line = serde_json::to_string(what)? + "\n";
        self.stdin.write_all(line.as_bytes()).await?;
        Ok(self.stdin.flush().await?)
    }

    async fn hear<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T, RawError> {
        let line = timeout(within, self.lines.next_line()).await.map_err(|_| RawError::Late(within))??;
        let line = line.ok_or_else(|| RawError::Process(io::ErrorKind::UnexpectedEof.into()))?;
        let answer: Result<T, String> = serde_json::from_str(&line)?;
        answer.map_err(RawError::Module)
    }
}
