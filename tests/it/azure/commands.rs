//! `strongroom azure-cli-config`, and what a second start of `dev` finds.

use std::{fs, process::Command};

use super::face::{Face, VERSION};
use crate::dev::{PROGRAM, Start, text};

#[test]
fn the_files_of_the_azure_cli_name_the_vaults_host() {
    let face = Face::new();
    let dir = face.dev.path("azure");
    let output = Command::new(PROGRAM)
        .args(["azure-cli-config", text(&dir)])
        .env("AKV_URL", face.dev.variable("AKV_URL"))
        .env("AKV_CA", face.dev.variable("AKV_CA"))
        .env("IDENTITY_ENDPOINT", face.dev.variable("IDENTITY_ENDPOINT"))
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("text");
    for name in ["AZURE_CONFIG_DIR", "REQUESTS_CA_BUNDLE", "IDENTITY_ENDPOINT"] {
        assert!(said.contains(&format!("export {name}='")), "{said}");
    }
    assert!(!said.contains(&face.dev.variable("IDENTITY_HEADER")));
    let clouds = fs::read_to_string(dir.join("clouds.config")).expect("is there");
    assert!(clouds.contains(&format!("suffix_keyvault_dns = :{}\n", face.port)), "{clouds}");
    assert!(clouds.contains(&format!("endpoint_resource_manager = https://localhost:{}\n", face.port)), "{clouds}");
    let profile: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("azureProfile.json")).expect("is there")).expect("JSON");
    assert_eq!(profile["subscriptions"][0]["user"]["assignedIdentityInfo"], "MSI");
    let refused = Command::new(PROGRAM).args(["azure-cli-config", text(&dir), "--url", "http://x"]).output();
    assert_eq!(refused.expect("runs").status.code(), Some(2));
}

#[test]
fn a_second_start_serves_the_same_and_ends_in_order() {
    let mut face = Face::new();
    face.key("k");
    let header = face.dev.variable("IDENTITY_HEADER");
    assert!(face.dev.stop().success());
    let listen = format!("127.0.0.1:{}", face.port);
    face.dev.start(Start { also: &["--azure-listen", &listen], ..Start::default() });
    assert_eq!(face.dev.variable("IDENTITY_HEADER"), header);
    // The token of the first start is good still, and so is the one of the second.
    face.ask("GET", &format!("/keys/k?{VERSION}"), "").ok();
    face.token = face.dev.variable("AKV_TOKEN");
    face.ask("GET", &format!("/keys/k?{VERSION}"), "").ok();
    assert!(face.dev.stop().success());
}
