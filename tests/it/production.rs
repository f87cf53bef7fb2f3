//! The production form: `init` with a recovery key, `serve`, and `recover` onto a fresh token.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::dev::{Dev, PROGRAM, openssl, signal, text};

/// Everything that an operator has made by hand before `init`.
pub(crate) struct Site {
    folder: TempDir,
    port: u16,
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("has one").port()
}

pub(crate) fn private(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).expect("writes");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("sets");
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().expect("a folder"), port: free_port() };
        site.certificates();
        site.fresh_token_folder();
        private(&site.path("pin"), "246810\n");
        private(&site.path("so-pin"), "13579111\n");
        let conf = site.path("softhsm2.conf");
        fs::write(&conf, format!("directories.tokendir = {}\n", text(&site.path("tokens")))).expect("writes");
        site.configuration();
        site.recovery_key();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fresh_token_folder(&self) {
        let tokens = self.path("tokens");
        let _ = fs::remove_dir_all(&tokens);
        fs::create_dir(&tokens).expect("makes");
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o700)).expect("sets");
    }

    /// The sample, with this site's paths and ports.
    fn configuration(&self) {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/softhsm-config/strongroom.sample.toml");
        let module = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("SoftHSM: apt-get install softhsm2");
        let config = fs::read_to_string(sample)
            .expect("the sample")
            .replace("listen = \"127.0.0.1:8443\"", &format!("listen = \"127.0.0.1:{}\"", self.port))
            .replace("#listen = \"127.0.0.1:8444\"", "listen = \"127.0.0.1:0\"")
            .replace("/usr/lib/softhsm/libsofthsm2.so", module)
            .replace("/etc/strongroom/softhsm2.conf", text(&self.path("softhsm2.conf")));
        fs::write(self.path("strongroom.toml"), config).expect("writes");
    }

    /// An authority, a server and an administrator, made by OpenSSL.
    fn certificates(&self) {
        let tls = self.path("tls");
        fs::create_dir(&tls).expect("makes");
        let at = |name: &str| text(&tls.join(name)).to_owned();
        let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let authority = [
            "req",
            "-x509",
            "-subj",
            "/CN=Test CA",
            "-days",
            "2",
            "-keyout",
            &at("ca.key"),
            "-out",
            &at("clients.pem"),
        ];
        openssl(&[&authority[..], &new].concat());
        self.certificate("server", "subjectAltName=IP:127.0.0.1,DNS:localhost");
        self.certificate("admin", "subjectAltName=URI:spiffe://example.org/admin");
    }

    /// A certificate of the authority, and its key.
    pub(crate) fn certificate(&self, name: &str, alternative: &str) {
        let at = |name: &str| text(&self.path("tls").join(name)).to_owned();
        let (key, pem) = (at(&format!("{name}.key")), at(&format!("{name}.pem")));
        let request =
            ["req", "-x509", "-CA", &at("clients.pem"), "-CAkey", &at("ca.key"), "-subj", &format!("/CN={name}")];
        let rest = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-addext",
            alternative,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &pem,
        ];
        openssl(&[&request[..], &rest].concat());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("sets");
    }

    fn recovery_key(&self) {
        let (private, public) = (self.path("recovery.pem"), self.path("recovery.pub.pem"));
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", text(&private)]);
        openssl(&["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]);
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("sets");
    }

    pub(crate) fn operator(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).args(arguments).arg("--config").arg(self.path("strongroom.toml")).output().expect("runs")
    }

    pub(crate) fn operator_ok(&self, arguments: &[&str]) -> String {
        let output = self.operator(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    pub(crate) fn init(&self) {
        let (admin, recovery, so_pin) =
            (self.path("tls/admin.pem"), self.path("recovery.pub.pem"), self.path("so-pin"));
        let key = ["--recovery-key", text(&recovery), "--so-pin-file", text(&so_pin)];
        let made = self.operator_ok(&[&["init", "-o", "json", "--admin-certificate", text(&admin)][..], &key].concat());
        let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
        assert_eq!(made["administrator"], "spiffe://example.org/admin");
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        self.client_as("admin", arguments)
    }

    /// With the certificate of that name.
    pub(crate) fn client_as(&self, name: &str, arguments: &[&str]) -> Output {
        let tls = |name: &str| self.path("tls").join(name);
        Command::new(PROGRAM)
            .args(arguments)
            .env("STRONGROOM_ENDPOINT", self.endpoint())
            .env("STRONGROOM_CA", tls("clients.pem"))
            .env("STRONGROOM_CERT", tls(&format!("{name}.pem")))
            .env("STRONGROOM_KEY", tls(&format!("{name}.key")))
            .env("STRONGROOM_VAULT", "main")
            .stdin(Stdio::null())
            .output()
            .expect("runs")
    }

    pub(crate) fn client_ok(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Where it serves.
    pub(crate) fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Serves until the guard is dropped.
    pub(crate) fn serve(&self) -> Serving {
        self.serve_until(|| self.client(&["vault", "list"]).status.success())
    }

    /// The same, where only a proxy gets in.
    pub(crate) fn serve_behind_proxy(&self) -> Serving {
        self.serve_until(|| std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok())
    }

    fn serve_until(&self, serves: impl Fn() -> bool) -> Serving {
        let log = fs::File::create(self.path("serve.log")).expect("makes");
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--config"])
            .arg(self.path("strongroom.toml"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("spawns");
        let begun = Instant::now();
        while !serves() {
            let ended = child.try_wait().expect("waits");
            let said = || fs::read_to_string(self.path("serve.log")).unwrap_or_default();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(90), "it does not serve: {}", said());
            std::thread::sleep(Duration::from_millis(100));
        }
        Serving(child)
    }
}

pub(crate) struct Serving(Child);

impl Serving {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn stop(mut self) {
        signal(self.0.id(), "TERM");
        assert_eq!(self.0.wait().expect("waits").code(), Some(0));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_lost_token_is_recovered_with_the_recovery_key() {
    let site = Site::new();
    site.init();
    let serving = site.serve();
    site.client_ok(&["vault", "create", "main"]);
    site.client_ok(&["key", "create", "release", "--type", "EC"]);
    let (file, sig) = (site.path("pin"), site.path("sig"));
    let paths = ["--in", text(&file)];
    site.client_ok(&[&["key", "sign", "release", "--algorithm", "ES256", "--out", text(&sig)][..], &paths].concat());
    serving.stop();

    // The token is gone, with the root in it.
    site.fresh_token_folder();
    let output = site.operator(&["serve"]);
    assert_eq!(output.status.code(), Some(2), "it cannot serve without its token");
    let (recovery, so_pin) = (site.path("recovery.pem"), site.path("so-pin"));
    let said =
        site.operator_ok(&["recover", "--recovery-key-private", text(&recovery), "--so-pin-file", text(&so_pin)]);
    assert!(said.starts_with("Recovered.\n"), "{said}");
    let serving = site.serve();
    let verify = ["key", "verify", "release", "--algorithm", "ES256", "--signature", text(&sig)];
    site.client_ok(&[&verify[..], &paths].concat());
    site.client_ok(&[&["key", "sign", "release", "--algorithm", "ES256", "--out", text(&sig)][..], &paths].concat());
    site.client_ok(&[&verify[..], &paths].concat());
    serving.stop();
}

#[test]
fn another_recovery_key_is_refused() {
    let site = Site::new();
    site.init();
    site.fresh_token_folder();
    site.recovery_key();
    let (recovery, so_pin) = (site.path("recovery.pem"), site.path("so-pin"));
    let output = site.operator(&["recover", "--recovery-key-private", text(&recovery), "--so-pin-file", text(&so_pin)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("recovery key"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn init_happens_once_and_says_what_it_wants() {
    let site = Site::new();
    let admin = site.path("tls/admin.pem");
    let output = site.operator(&["init", "--admin-certificate", text(&admin)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--recovery-key"),
        "an escrow, or the words that say there is none"
    );
    site.init();
    let output = site.operator(&["init", "--admin-certificate", text(&admin), "--no-recovery"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("already"), "{}", String::from_utf8_lossy(&output.stderr));
    let checks: serde_json::Value = serde_json::from_str(&site.operator_ok(&["doctor", "-o", "json"])).expect("JSON");
    let checks = checks.as_array().expect("an array");
    assert!(checks.iter().any(|check| check["what"] == "root and canary" && check["verdict"] == "ok"), "{checks:?}");
}

#[test]
fn serve_refuses_what_was_made_for_development() {
    let mut dev = Dev::new();
    dev.stop();
    let site = Site::new();
    let config = fs::read_to_string(site.path("strongroom.toml")).expect("reads");
    let data = dev.data();
    let config = config
        .replace("tls/server.pem", text(&data.join("tls/server.pem")))
        .replace("tls/server.key", text(&data.join("tls/server.key")));
    fs::write(site.path("strongroom.toml"), config).expect("writes");
    let output = site.operator(&["serve"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("development"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn faults_of_a_configuration_are_named_by_their_keys() {
    let site = Site::new();
    let config = fs::read_to_string(site.path("strongroom.toml")).expect("reads");
    let wrong = site.path("wrong.toml");
    fs::write(
        &wrong,
        config.replace("[store]", "[store]\ncolour = \"blue\"").replace("label = \"strongroom\"", "label = 7"),
    )
    .expect("writes");
    let output = Command::new(PROGRAM).args(["config", "check"]).arg(&wrong).output().expect("runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    for word in ["colour", "label"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let output = Command::new(PROGRAM).args(["config", "check", "-o", "json"]).arg(&wrong).output().expect("runs");
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON and nothing else");
    assert_eq!((output.status.code(), error["details"].as_array().map(Vec::len)), (Some(2), Some(2)), "{error}");
    let output = Command::new(PROGRAM)
        .args(["config", "check", "-o", "json"])
        .arg(site.path("strongroom.toml"))
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let understood: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(understood["token"], "strongroom");
    let issuer = understood["issuers"][0].as_str().expect("the sample's issuer");
    assert!(issuer.starts_with("https://issuer.example.org: for strongroom; RS256, "), "{issuer}");
}
