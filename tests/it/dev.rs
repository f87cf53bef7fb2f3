//! A development server of its own for each test.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_strongroom");

/// How long a start may take on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(90);

/// `strongroom dev`, running or not, and its folder.
pub(crate) struct Dev {
    folder: TempDir,
    server: Option<Server>,
}

struct Server {
    child: Child,
    /// What it has said.
    said: Arc<Mutex<String>>,
}

/// How a server is started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Start<'a> {
    /// STRONGROOM_FAILPOINTS.
    pub(crate) failpoints: &'a str,
    /// `--hsm-faults LANE=SCRIPT`.
    pub(crate) faults: &'a [&'a str],
    /// `--hsm-set KEY=NUMBER`.
    pub(crate) set: &'a [&'a str],
    /// What else `dev` is told.
    pub(crate) also: &'a [&'a str],
    /// Run under this program with these arguments (strace).
    pub(crate) under: &'a [&'a str],
}

impl Dev {
    /// A running server on a new folder.
    pub(crate) fn new() -> Self {
        Self::with(Start::default())
    }

    /// A running server on a new folder, started so.
    pub(crate) fn with(start: Start<'_>) -> Self {
        let mut dev = Self { folder: tempfile::tempdir().expect("a folder"), server: None };
        dev.start(start);
        dev
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A path beside the data folder, for a test's own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside the data folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("writes");
        path
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn start(&mut self, start: Start<'_>) {
        if let Err(said) = self.try_start(start) {
            panic!("the server did not start:\n{said}");
        }
    }

    /// Starts the server; what it said when it does not come to serve.
    pub(crate) fn try_start(&mut self, start: Start<'_>) -> Result<(), String> {
        assert!(self.server.is_none(), "it runs already");
        let mut command = match start.under {
            [] => Command::new(PROGRAM),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(PROGRAM);
                command
            }
        };
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(self.data());
        command.args(start.also);
        for fault in start.faults {
            command.args(["--hsm-faults", fault]);
        }
        for setting in start.set {
            command.args(["--hsm-set", setting]);
        }
        if !start.failpoints.is_empty() {
            command.env("STRONGROOM_FAILPOINTS", start.failpoints);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("spawns");
        let said = listen(&mut child);
        let ready = wait_ready(&mut child, &said);
        let server = Server { child, said };
        if ready {
            self.server = Some(server);
            return Ok(());
        }
        let mut server = server;
        let _ = server.child.kill();
        let ended = server.child.wait().expect("it ended");
        if !start.failpoints.is_empty()
            && ended.signal() == Some(9)
            && server.said.lock().expect("not poisoned").contains("ready")
        {
            // A fail-point killed it before it could say so.
            self.server = Some(server);
            return Ok(());
        }
        // All that it said is read; whoever inherited its pipes is not waited for longer than that.
        let ended = Instant::now();
        while Arc::strong_count(&server.said) > 1 && ended.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(server.said.lock().expect("not poisoned").clone())
    }

    /// The server's process id, also when it runs under another program.
    pub(crate) fn pid(&self) -> u32 {
        let started = self.server.as_ref().expect("running").child.id();
        let runs = fs::read_link(format!("/proc/{started}/exe")).expect("running");
        if runs == Path::new(PROGRAM) {
            return started;
        }
        *of_parent(started).first().expect("it runs something")
    }

    /// What the server has said.
    pub(crate) fn said(&self) -> String {
        self.server.as_ref().expect("running").said.lock().expect("not poisoned").clone()
    }

    /// Ends the server as an operator does.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let process = self.pid();
        let mut server = self.server.take().expect("running");
        signal(process, "TERM");
        wait(&mut server.child, Duration::from_secs(60)).expect("ends after SIGTERM")
    }

    /// Ends the server as a power cut does.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("running");
        signal(server.child.id(), "KILL");
        wait(&mut server.child, Duration::from_secs(60)).expect("ends");
    }

    /// Waits until the server has ended by itself.
    pub(crate) fn wait_dead(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("running");
        wait(&mut server.child, Duration::from_secs(60)).expect("it ended")
    }

    /// One variable of the `env` file.
    pub(crate) fn variable(&self, name: &str) -> String {
        let file = self.data().join("env");
        let script = format!(". '{}' && printf %s \"${name}\"", file.display());
        let output = Command::new("sh").args(["-c", &script]).output().expect("runs sh");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    }

    /// A program in the environment of this server's clients.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for name in ["ENDPOINT", "CA", "CERT", "KEY", "VAULT"] {
            let name = format!("STRONGROOM_{name}");
            command.env(&name, self.variable(&name));
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs the command line against this server.
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Output {
        self.command(PROGRAM).args(arguments).output().expect("runs")
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn ok<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> String {
        let output = self.run(arguments);
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must fail with exit code 2; what it complained.
    pub(crate) fn fails<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> String {
        let output = self.run(arguments);
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).expect("text")
    }

    /// The processes of the workers.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // What runs under another program does not end with it.
            for process in of_parent(server.child.id()) {
                let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
            }
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}

/// The child processes of a process that are workers.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let is_worker = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"hsm-worker")
    };
    of_parent(parent).into_iter().filter(is_worker).collect()
}

/// The child processes of a process.
fn of_parent(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let of = stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(1).and_then(|of| of.parse().ok());
        of == Some(parent)
    })
    .collect()
}

/// Sends a signal by name.
pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().expect("runs kill");
    assert!(status.success());
}

fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < within {
        if let Some(status) = child.try_wait().expect("waits") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Collects what the child says on standard error, so that it never blocks on a full pipe.
fn listen(child: &mut Child) -> Arc<Mutex<String>> {
    let said = Arc::new(Mutex::new(String::new()));
    let (mut stderr, ears) = (child.stderr.take().expect("piped"), Arc::clone(&said));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut buffer) {
            ears.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    said
}

/// Waits for the line that begins with `ready`, or for the end of what is said.
fn wait_ready(child: &mut Child, said: &Arc<Mutex<String>>) -> bool {
    let stdout = child.stdout.take().expect("piped");
    let (tell, told) = std::sync::mpsc::channel();
    let ears = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            ears.lock().expect("not poisoned").push_str(&format!("{line}\n"));
            if line.starts_with("ready") {
                let _ = tell.send(());
            }
        }
    });
    told.recv_timeout(START_WITHIN).is_ok()
}

/// Runs OpenSSL, which must succeed; what it printed.
pub(crate) fn openssl<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().expect("OpenSSL: apt-get install openssl");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
