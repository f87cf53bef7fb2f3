//! A PostgreSQL server for tests: made in a temporary folder, gone with the process that made it.
//!
//! It does not sync: nothing here outlives the machine. Over its socket everybody is trusted; over TCP, on loopback,
//! the role `postgres` has [`PASSWORD`].

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Of the role `postgres`.
pub(crate) const PASSWORD: &str = "a pass word's \"quotes\"";

/// What a server is set to, on one machine with many tests.
const CONFIG: &str = "fsync = off\nfull_page_writes = off\nshared_buffers = 16MB\nmax_connections = 100\njit = off\n\
    listen_addresses = '127.0.0.1'\nlog_min_messages = warning\nwal_level = replica\nmax_wal_senders = 8\n";

/// A server, running or not.
#[derive(Debug)]
pub(crate) struct Server {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    running: Option<Child>,
}

/// Where PostgreSQL's programs are: the newest that Debian has installed, or what is on the path. Where there are
/// none the test says so and ends, unless tools are required.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number =
        |path: &Path| path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| number(path));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = newest.map(|path| path.join("bin")).into_iter().chain(std::env::split_paths(&paths));
    let found = found.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    if found.is_none() {
        let why = "PostgreSQL is not installed (apt-get install postgresql)";
        assert!(std::env::var_os("STRONGROOM_REQUIRE_TOOLS").is_none(), "{why}");
        // Past the capture of the test's output, which is thrown away when the test passes.
        writeln!(std::io::stderr().lock(), "skipped: {why}").expect("writes");
    }
    found
}

/// PostgreSQL does not run as root: whom it runs as then.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    Some(of("postgres").or_else(|| of("nobody")).expect("a user without rights"))
}

impl Server {
    /// A new one, running.
    pub(crate) fn new() -> Option<Self> {
        let mut server = Self::empty(binaries()?);
        let password = server.folder.join("password");
        fs::write(&password, format!("{PASSWORD}\n")).expect("written");
        server.own(&password);
        let pwfile = format!("--pwfile={}", password.display());
        let arguments =
            ["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--auth-local=trust", &pwfile];
        let mut initdb = server.command("initdb");
        initdb.arg("-D").arg(server.data()).args(arguments).arg("--auth-host=scram-sha-256");
        let made = initdb.output().expect("runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.configure(CONFIG);
        server.start();
        Some(server)
    }

    /// One that all tests of this process share.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Server>> = OnceLock::new();
        SHARED.get_or_init(Self::new).as_ref()
    }

    fn empty(binaries: PathBuf) -> Self {
        // Whoever watches over the server removes the folder: a static is never dropped.
        let folder = tempfile::Builder::new().prefix("pg").tempdir().expect("a folder").keep();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let server = Self { binaries, folder, port, running: None };
        server.own(&server.folder);
        server
    }

    /// Gives a file to whom the server runs as.
    pub(crate) fn own(&self, path: &Path) {
        if let Some((user, group)) = owner() {
            chown(path, Some(user), Some(group)).expect("given away");
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        command
    }

    /// The folder of its socket.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its port, on loopback and in the socket's name.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Adds lines to its configuration; they hold from the next start on.
    pub(crate) fn configure(&self, lines: &str) {
        let mut file = fs::File::options().append(true).open(self.data().join("postgresql.conf")).expect("opens");
        file.write_all(format!("\n{lines}\n").as_bytes()).expect("written");
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&mut self) {
        // The shell ends the server when its own input ends: when this says so, or is no more.
        let script = "folder=$1; shift; \"$@\" </dev/null >>\"$folder/log\" 2>&1 & pid=$!; \
            read -r how || how='-QUIT gone'; kill -CONT $pid; kill ${how% *} $pid; wait $pid; \
            [ \"${how#* }\" = kept ] || rm -rf \"$folder\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(&self.folder).arg(self.binaries.join("postgres"));
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-k"]).arg(&self.folder);
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        self.running = Some(command.spawn().expect("a shell"));
        let begun = Instant::now();
        while !self
            .command("pg_isready")
            .args(["-q", "-h"])
            .arg(&self.folder)
            .args(["-p", &self.port.to_string()])
            .status()
            .is_ok_and(|status| status.success())
        {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{}",
                fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it and every connection; what was committed is kept.
    pub(crate) fn stop(&mut self) {
        self.end("-INT kept");
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(&mut self) {
        self.end("-QUIT kept");
    }

    fn end(&mut self, how: &str) {
        if let Some(mut shell) = self.running.take() {
            writeln!(shell.stdin.take().expect("its input"), "{how}").expect("told");
            shell.wait().expect("ended");
        }
    }

    /// Says something to it as its superuser; gives the answer without headings.
    pub(crate) fn sql(&self, words: &str) -> String {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"]);
        let output = command.arg(&self.folder).args(["-p", &self.port.to_string(), "-c", words]).output();
        let output = output.expect("psql runs");
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// What pg_dump says of a schema, without what depends on its release.
    pub(crate) fn dump(&self, database: &str, schema: &str) -> String {
        let mut command = self.command("pg_dump");
        command.args(["--column-inserts", "--no-owner", "--no-privileges", "-U", "postgres", "-n", schema, "-h"]);
        let output = command.arg(&self.folder).args(["-p", &self.port.to_string(), database]).output().expect("runs");
        assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        let is_plain = |line: &&str| {
            !["--", "\\", "SET ", "SELECT pg_catalog.set_config"].iter().any(|start| line.starts_with(start))
        };
        text.lines().filter(is_plain).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
    }

    /// Says what is in a file to one of its databases.
    pub(crate) fn load(&self, database: &str, file: &Path) {
        let words = fs::read_to_string(file).expect("reads");
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]).arg(&self.folder);
        command.args(["-p", &self.port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("psql runs");
        child.stdin.take().expect("its input").write_all(words.as_bytes()).expect("told");
        assert!(child.wait().expect("ended").success(), "{}", file.display());
    }

    /// A running standby of it, which follows it under that name.
    pub(crate) fn standby(&self, name: &str) -> Self {
        let mut standby = Self::empty(self.binaries.clone());
        let primary =
            format!("host={} port={} user=postgres application_name={name}", self.folder.display(), self.port);
        let mut copy = self.command("pg_basebackup");
        copy.arg("-D").arg(standby.data()).args(["-R", "-N", "-c", "fast", "-d"]).arg(primary);
        let copied = copy.output().expect("runs");
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        standby.start();
        standby
    }

    /// Makes a standby a primary.
    pub(crate) fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote(true, 60)"), "t");
    }

    /// Every process of it.
    fn processes(&self) -> Vec<rustix::process::Pid> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).expect("is running");
        let first: u32 = file.lines().next().and_then(|line| line.parse().ok()).expect("a number");
        let parent = |pid: u32| -> Option<u32> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
        };
        let all = fs::read_dir("/proc").expect("a folder").flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let its = all.filter(|pid| *pid == first || parent(*pid) == Some(first));
        its.filter_map(|pid| rustix::process::Pid::from_raw(pid.cast_signed())).collect()
    }

    /// Has it answer nothing, as if the network had swallowed it.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        for process in self.processes() {
            // One may have ended meanwhile.
            let _ = rustix::process::kill_process(process, signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.thaw();
            self.end("-QUIT gone");
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
