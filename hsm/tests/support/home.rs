//! A fresh token of the module that a run is about, in a temporary folder, and worker processes on it.
//!
//! A module is only ever loaded in child processes, because it may read its environment when it is loaded:
//! the worker program, or this test binary run again for one test (see [`Home::run_child`]).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use strongroom_hsm::{
    profile::{Sandbox, TokenName},
    protocol::{Fault, Hello, Hierarchy, Ready, Role},
};

use super::{PIN, Subject, Worker};

/// The label of every test token.
pub const LABEL: &str = "strongroom test";
/// Tells a child what the module is told when it is initialised.
pub const PARAMETERS: &str = "MODULE_PARAMETERS";

/// A folder with everything that a token of the module needs, PIN files and the workers' state.
pub struct Home {
    folder: tempfile::TempDir,
    subject: Subject,
    view: Option<View>,
}

impl Home {
    /// Everything but a token.
    pub fn empty() -> Self {
        Self::of(Subject::current())
    }

    /// Everything but a token, of a module by name.
    pub fn of(subject: Subject) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let tokens = path.join("tokens");
        fs::create_dir(&tokens).unwrap();
        let mut view = None;
        match subject {
            Subject::SoftHsm => {
                let tokens = tokens.display();
                let text = format!("directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n");
                fs::write(path.join("softhsm2.conf"), text).unwrap();
            }
            Subject::NssSoftokn => {}
            Subject::OpenCryptoki => view = Some(View::open(path)),
        }
        let home = Self { folder, subject, view };
        home.write_pin("pin", PIN);
        home.write_pin("so-pin", "security-officer");
        home
    }

    /// With a token and its hierarchy.
    pub fn new() -> (Self, Hierarchy) {
        let home = Self::empty();
        let mut worker = home.provisioner();
        worker.init_token(&home).unwrap();
        let hierarchy = worker.create_hierarchy(Vec::new()).unwrap();
        (home, hierarchy)
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a PIN file with the mode that is asked for.
    pub fn write_pin(&self, name: &str, pin: &str) {
        let path = self.path(name);
        fs::write(&path, format!("{pin}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The module.
    pub fn module(&self) -> PathBuf {
        self.subject.module().expect("the module is installed")
    }

    /// What the module is told when it is initialised.
    pub fn module_parameters(&self) -> Option<String> {
        let tokens = self.path("tokens");
        (self.subject == Subject::NssSoftokn)
            .then(|| format!("configdir='sql:{}' dbTokenDescription='{LABEL}'", tokens.display()))
    }

    /// A Hello for this folder.
    pub fn hello(&self, role: Role) -> Hello {
        Hello {
            module: self.module(),
            module_parameters: self.module_parameters(),
            role,
            token: TokenName { label: LABEL.to_owned(), serial: None },
            pin_file: self.path("pin"),
            state_dir: self.path("state"),
            sync_dirs: vec![self.path("tokens")],
            sandbox: Sandbox::Strict,
            cached_keys_max: 100,
            flush_us: 1000,
            faults: String::new(),
        }
    }

    /// A worker that is ready to provision.
    pub fn provisioner(&self) -> Worker {
        let mut worker = self.spawn();
        worker.hello(self.hello(Role::Provision)).unwrap();
        worker
    }

    /// A worker that is ready to serve.
    pub fn worker(&self, hierarchy: &Hierarchy) -> Worker {
        self.worker_with(hierarchy, |_| {}).unwrap().0
    }

    /// A worker whose Hello was changed.
    pub fn worker_with(
        &self,
        hierarchy: &Hierarchy,
        change: impl FnOnce(&mut Hello),
    ) -> Result<(Worker, Ready), Fault> {
        let mut hello = self.hello(Role::Serve(hierarchy.service_keys.clone()));
        change(&mut hello);
        let mut worker = self.spawn();
        let ready = worker.hello(hello)?;
        Ok((worker, ready))
    }

    /// A worker process that has not been greeted yet.
    pub fn spawn(&self) -> Worker {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_hsm-worker"));
        let mut command = self.view.as_ref().map_or_else(|| Command::new(program), |view| view.enter(program));
        if self.subject == Subject::SoftHsm {
            command.env_clear().env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        }
        let child = command.stdin(Stdio::from(theirs)).spawn().unwrap();
        Worker::new(child, ours)
    }

    /// Runs one test of this test binary in a process that loads the module, and answers what it put on
    /// the lines that begin with `answer:`.
    pub fn run_child(&self, test: &str, arguments: &[(&str, &str)]) -> Vec<String> {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--ignored"])
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .envs(self.module_parameters().map(|parameters| (PARAMETERS, parameters)))
            .envs(arguments.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text.lines().filter_map(|line| Some(line.split_once("answer:")?.1.to_owned())).collect()
    }
}

/// A token of opencryptoki. Its folders, its daemon's socket and its shared memory have fixed names, so it
/// gets a view of the machine of its own: namespaces in which a test's folder stands where those are. Its
/// software token wants PINs of at most eight characters, the security officer's to be changed before
/// anything else and the user's to be changed by the user: `pkcsconf` does that, as an operator would.
struct View {
    daemon: Child,
    namespaces: &'static [&'static str],
}

/// What `unshare` is asked for, where it is granted: with a user namespace anyone may, without only root.
pub fn namespaces() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--user", "--map-root-user", "--mount", "--ipc"], &["--mount", "--ipc"]];
    ways.into_iter().find(|way| {
        // A mount is what a container with a filter refuses last.
        let tried = Command::new("unshare").args(*way).args(["mount", "-t", "tmpfs", "none", "/dev/shm"]).output();
        tried.is_ok_and(|output| output.status.success())
    })
}

impl View {
    const MOUNTS: &str = "set -e; cd \"$1\"; PATH=/usr/sbin:/sbin:$PATH
        mount --bind etc /etc/opencryptoki
        mount --bind lib /var/lib/opencryptoki
        mount --bind run /run
        mount --bind group /etc/group
        mount -t tmpfs none /dev/shm
        exec pkcsslotd -f -l \"$1/daemon.log\"";

    const TOKEN: &str = "set -e; PATH=/usr/sbin:/sbin:$PATH
        echo \"$1\" | pkcsconf -I -c 3 -S 87654321
        pkcsconf -P -c 3 -S 87654321 -n 12345678
        pkcsconf -u -c 3 -S 12345678 -n 0000-000
        pkcsconf -p -c 3 -U 0000-000 -n \"$2\"";

    fn open(folder: &Path) -> Self {
        for name in ["etc", "lib/swtok/TOK_OBJ", "run/lock/opencryptoki/swtok"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let slots = "version opencryptoki-3.1\nslot 3\n{\nstdll = libpkcs11_sw.so\n}\n";
        fs::write(folder.join("etc/opencryptoki.conf"), slots).unwrap();
        fs::write(folder.join("group"), "root:x:0:\npkcs11:x:0:root\n").unwrap();
        let namespaces = namespaces().expect("a module that can be tested");
        let daemon = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", Self::MOUNTS, "sh"])
            .arg(folder)
            // It talks of what it finds in /proc.
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut view = Self { daemon, namespaces };
        let end = Instant::now() + Duration::from_secs(20);
        while !folder.join("run/pkcsslotd.socket").exists() {
            assert!(view.daemon.try_wait().unwrap().is_none(), "the daemon ended");
            assert!(Instant::now() < end, "the daemon does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        let made = view.enter(Path::new("sh")).args(["-c", Self::TOKEN, "sh", LABEL, PIN]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        view
    }

    /// A command in that view.
    fn enter(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.daemon.id().to_string());
        let own_users = self.namespaces.contains(&"--user");
        command.args(own_users.then_some(["--user", "--preserve-credentials"]).into_iter().flatten());
        command.args(["--mount", "--ipc", "--"]).arg(program);
        command.stdout(Stdio::null());
        command
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
