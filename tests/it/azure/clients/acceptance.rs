//! The acceptance programs that are kept beside the project, and commands that take long to install. `.ci/run` runs
//! these, and `cargo test --test it azure::clients::acceptance -- --ignored` does by hand.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{HOST, PACKAGES, by_localhost, by_name, install, kept, named_url, passes, proxy, server};
use crate::dev::Dev;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/acceptance");

/// The packages in a virtual environment that is kept, and its folder of programs.
fn installed(name: &str, packages: &str) -> String {
    let folder = kept(name);
    fs::write(folder.join("requirements.txt"), packages).expect("written");
    install(&folder, PACKAGES).unwrap_or_else(|why| panic!("{name}: {why}"));
    folder.join("venv/bin").to_str().expect("text").to_owned()
}

/// Runs the Python SDK's program; certificates are not served yet.
fn python(what: &str, mut command: Command) {
    command.arg(format!("{FOLDER}/akv_acceptance.py"));
    command.env("AKV_SKIP", "certs,certadmin").env("AKV_POLL", "0.2");
    passes(what, &command.output().expect("runs"));
}

#[test]
#[ignore = "needs ../shared/acceptance"]
fn the_python_program_passes() {
    let packages = fs::read_to_string(format!("{FOLDER}/requirements.txt")).expect("../shared/acceptance");
    let interpreter = format!("{}/python", installed("acceptance-python", &packages));
    let dev = server();
    python("akv_acceptance.py", by_localhost(&dev, &interpreter));
    let mut named = by_localhost(&dev, &interpreter);
    named.env("AKV_URL", named_url(&dev)).env("PYTHONPATH", resolver());
    python("akv_acceptance.py, the vault's name verified", named);
}

/// A folder for `PYTHONPATH` that gives Python the vault's name: part of the program has its own sockets, and asks no
/// proxy.
fn resolver() -> PathBuf {
    let folder = kept("acceptance-names");
    let script = format!(
        "import socket\n\nasked = socket.getaddrinfo\n\n\ndef getaddrinfo(host, *rest, **more):\n    \
         return asked('127.0.0.1' if host == '{HOST}' else host, *rest, **more)\n\n\n\
         socket.getaddrinfo = getaddrinfo\n"
    );
    fs::write(folder.join("sitecustomize.py"), script).expect("written");
    folder
}

#[test]
#[ignore = "needs ../shared/acceptance, and a minute to install the Azure CLI"]
fn the_program_of_the_azure_cli_passes() {
    let az = format!("{}/az", installed("acceptance-az", "azure-cli==2.91.0\n"));
    let program = format!("{FOLDER}/akv_az_acceptance.sh");
    let dev = server();
    let run = |what: &str, command: &mut Command| {
        command.arg(&program).env("AZ", &az).env("AKV_SKIP", "certs");
        passes(what, &command.output().expect("runs"));
    };
    run("akv_az_acceptance.sh", &mut by_localhost(&dev, "bash"));
    let proxy = proxy(&dev);
    run("akv_az_acceptance.sh, by a name below a domain", &mut by_name(&dev, &proxy, "bash"));
}

/// A key for sops, and its address.
fn key(dev: &Dev) -> String {
    dev.ok(&["key", "create", "sops", "--type", "RSA"]);
    format!("{}/keys/sops", named_url(dev))
}

#[test]
#[ignore = "needs two minutes to build sops"]
fn the_sops_command_encrypts_and_decrypts_a_file() {
    let folder = kept("sops");
    let line = "GOBIN=$PWD CGO_ENABLED=0 go install github.com/getsops/sops/v3/cmd/sops@v3.13.3";
    install(&folder, line).unwrap_or_else(|why| panic!("sops: {why}"));
    let dev = server();
    let (proxy, key) = (proxy(&dev), key(&dev));
    let plain = dev.file("settings.yaml", "password: hunter2\n");
    let sops = |arguments: &[&str], file: &Path| {
        let mut command = by_name(&dev, &proxy, folder.join("sops").to_str().expect("text"));
        let output = command.args(arguments).arg(file).output().expect("runs");
        assert!(output.status.success(), "sops {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let sealed = sops(&["encrypt", "--azure-kv", &key], &plain);
    assert!(sealed.contains("azure_kv:") && !sealed.contains("hunter2"), "{sealed}");
    let sealed = dev.file("sealed.yaml", sealed);
    assert_eq!(sops(&["decrypt"], &sealed), "password: hunter2\n");
}
