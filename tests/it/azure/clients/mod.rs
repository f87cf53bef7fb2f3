//! The Azure-compatible face with the clients that people have, none of them changed: the official SDKs and tools
//! written for Azure Key Vault. Their programs are in tests/azure; what they need is installed in the target folder
//! when they run.

mod acceptance;
mod programs;
mod proxy;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use self::proxy::Proxy;
use crate::dev::{Dev, Start};

/// A name for the vault `dev` below a domain.
const HOST: &str = "dev.strongroom.test";

/// What `env` has for these clients.
const VARIABLES: [&str; 6] =
    ["AKV_URL", "AKV_TOKEN", "AKV_TOKEN_READONLY", "AKV_CA", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"];

/// What installs Python packages of exact versions, once.
const PACKAGES: &str = "cmp -s requirements.txt venv/installed || { rm -rf venv; python3 -m venv venv; \
     venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt; cp requirements.txt venv/installed; }";

/// A server with its Azure-compatible face.
fn server() -> Dev {
    let also = &["--azure-listen", "127.0.0.1:0", "--azure-host", "*.strongroom.test"];
    Dev::with(Start { also, ..Start::default() })
}

/// Where the server listens.
fn port(dev: &Dev) -> u16 {
    let url = dev.variable("AKV_URL");
    let (_, port) = url.trim_end_matches('/').rsplit_once(':').expect("a port");
    port.parse().expect("a number")
}

/// The vault, by its name below a domain.
fn named_url(dev: &Dev) -> String {
    format!("https://{HOST}:{}", port(dev))
}

/// A proxy through which the server has every name.
fn proxy(dev: &Dev) -> Proxy {
    Proxy::to(port(dev))
}

/// A program in the environment of a client that knows the vault as `localhost`. An SDK compares the host with the
/// challenge's resource, which `localhost` cannot pass: it has to be told not to.
fn by_localhost(dev: &Dev, program: &str) -> Command {
    // No program may keep a test waiting.
    let mut command = Command::new("timeout");
    command.args(["600", program]).stdin(Stdio::null());
    for name in VARIABLES {
        command.env(name, dev.variable(name));
    }
    command
}

/// A program in the environment of a client that knows the vault by a name below a domain, which every SDK verifies.
/// Nothing on the machine is changed for that: a proxy has the name.
fn by_name(dev: &Dev, proxy: &Proxy, program: &str) -> Command {
    let mut command = by_localhost(dev, program);
    command.env("AKV_URL", named_url(dev));
    for name in ["HTTPS_PROXY", "https_proxy"] {
        command.env(name, proxy.url());
    }
    for name in ["NO_PROXY", "no_proxy"] {
        command.env(name, "localhost,127.0.0.1");
    }
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
        command.env(name, dev.variable("AKV_CA"));
    }
    command
}

/// What a program printed, which must end by saying that nothing failed.
fn passes(what: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    if !last.ends_with(" passed, 0 failed") || !output.status.success() {
        let wrong: Vec<&str> = said.lines().filter(|line| !line.starts_with("ok ")).collect();
        panic!("{what}:\n{}\n{complained}", wrong.join("\n"));
    }
    // Past the capture of the test's output, which is thrown away when the test passes.
    writeln!(std::io::stderr().lock(), "{what}: {last}").expect("writes");
}

/// Where a program and what it needs is kept between runs.
fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azure").join(name);
    fs::create_dir_all(&folder).expect("made");
    folder
}

/// Runs the line in the folder, with the environment of this test; what it complained of when it failed.
fn install(folder: &Path, line: &str) -> Result<(), String> {
    let output = Command::new("bash").args(["-ec", line]).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{line}: {said}{complained}"))
}
