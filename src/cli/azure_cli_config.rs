//! `strongroom azure-cli-config`: the files with which an unmodified Azure CLI works against the Azure face, without any
//! login: a cloud of its own, and a profile that says that a managed identity is logged in. Its tokens come from the
//! identity endpoint.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::{
    compose::make_folder,
    dev::quoted,
    failure::Failure,
    files::{Content, Out},
    output,
};

pub(super) const AFTER_HELP: &str = "\
What is printed sets the variables that `az` needs: eval \"$(strongroom azure-cli-config DIR)\". Then, for example:
az keyvault key list --vault-name dev. The vault's name is the first label of the URL's host; docs/azure.md says more.";

/// The subscription and tenant that are none.
const NOWHERE: &str = "00000000-0000-0000-0000-000000000001";
/// What the cloud is called.
const CLOUD: &str = "Strongroom";

/// What `azure-cli-config` takes.
#[derive(Debug, Args)]
pub(super) struct AzureCliConfigArgs {
    /// The folder to write into: what AZURE_CONFIG_DIR will name
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// The vault's URL
    #[arg(long, value_name = "URL", env = "AKV_URL")]
    pub(super) url: String,
    /// The CA (PEM) of the face's certificate, where the system does not know it
    #[arg(long, value_name = "FILE", env = "AKV_CA")]
    pub(super) ca: Option<PathBuf>,
    /// The identity endpoint
    #[arg(long, value_name = "URL", env = "IDENTITY_ENDPOINT")]
    pub(super) identity_endpoint: Option<String>,
    /// The file with the identity endpoint's secret [default: IDENTITY_HEADER of the environment, which stays as it is]
    #[arg(long, value_name = "FILE")]
    pub(super) identity_header_file: Option<PathBuf>,
}

/// Writes the files, and prints what a shell is to set.
pub(super) fn run(args: &AzureCliConfigArgs) -> anyhow::Result<ExitCode> {
    let host = host(&args.url)?;
    make_folder(&args.dir)?;
    let dir = std::fs::canonicalize(&args.dir)?;
    for (name, text) in [
        ("config", format!("[cloud]\nname = {CLOUD}\n")),
        ("clouds.config", clouds(host)),
        ("azureProfile.json", profile()),
    ] {
        Out::prepare(&dir.join(name), Content::Secret)?.commit(text.as_bytes())?;
    }
    let mut lines = vec![("AZURE_CONFIG_DIR", quoted(&dir)), ("AZURE_CORE_COLLECT_TELEMETRY", "false".to_owned())];
    if let Some(ca) = &args.ca {
        lines.push(("REQUESTS_CA_BUNDLE", quoted(&std::fs::canonicalize(ca)?)));
    }
    if let Some(endpoint) = &args.identity_endpoint {
        lines.push(("IDENTITY_ENDPOINT", quoted(endpoint.as_ref())));
    }
    let mut text: Vec<String> = lines.iter().map(|(name, value)| format!("export {name}={value}")).collect();
    if let Some(file) = &args.identity_header_file {
        // By the shell that reads it: the secret is not printed.
        text.push(format!("export IDENTITY_HEADER=\"$(cat {})\"", quoted(&std::fs::canonicalize(file)?)));
    }
    output::line(&text.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Host and port of a vault's URL.
fn host(url: &str) -> anyhow::Result<&str> {
    let host = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    let plain = |host: &&str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
    };
    host.filter(plain).ok_or_else(|| {
        Failure::new(format!("{url:?} is no URL of a vault"))
            .hint("https:// and a host, for example https://localhost:8445")
            .into()
    })
}

/// What `--vault-name` is put before: `az` joins the two, and nothing else.
fn suffix(host: &str) -> &str {
    let at = host.find('.').or_else(|| host.find(':'));
    at.map_or("", |at| &host[at..])
}

fn clouds(host: &str) -> String {
    let suffix = suffix(host);
    // A suffix of nothing is no value: 443 means the same.
    let suffix = if suffix.is_empty() { ":443" } else { suffix };
    format!(
        "[{CLOUD}]\n\
         endpoint_active_directory = https://{host}/adfs\n\
         endpoint_active_directory_resource_id = https://{host}\n\
         endpoint_management = https://{host}\n\
         endpoint_resource_manager = https://{host}\n\
         suffix_keyvault_dns = {suffix}\n\
         suffix_mhsm_dns = {suffix}\n\
         subscription = {NOWHERE}\n"
    )
}

fn profile() -> String {
    let user = json!({ "name": "systemAssignedIdentity", "type": "servicePrincipal", "assignedIdentityInfo": "MSI" });
    let subscription = json!({
        "id": NOWHERE,
        "name": CLOUD,
        "state": "Enabled",
        "user": user,
        "isDefault": true,
        "tenantId": NOWHERE,
        "environmentName": CLOUD,
    });
    json!({ "subscriptions": [subscription] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_name_and_the_suffix_make_the_host() {
        for (host, name) in [("localhost:8445", "localhost"), ("dev.example.org:1", "dev"), ("dev.example.org", "dev")]
        {
            assert_eq!(format!("{name}{}", suffix(host)), host);
        }
        assert!(clouds("localhost").contains("suffix_keyvault_dns = :443\n"));
    }

    #[test]
    fn only_a_url_is_taken() {
        assert_eq!(host("https://localhost:1/").expect("one"), "localhost:1");
        for wrong in ["http://localhost", "https://", "https://a/b", "https://a\n[x]", "localhost"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
