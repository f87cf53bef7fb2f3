//! `[azure]`: the face that speaks the Azure Key Vault protocol, and the endpoint that hands out tokens beside it.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use super::{listen, reader::Section};
use crate::{
    model::{Principal, TokenName, VaultName},
    rest::{External, Settings},
};

/// The shortest and longest life of a token that the identity endpoint hands out: clients ask again five minutes before
/// its end, and a token of hours would outlive what is known of the machine.
const LIFE_S: std::ops::RangeInclusive<u64> = 600..=86_400;

/// The Azure face.
#[derive(Clone, Debug)]
pub struct Azure {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What its requests are read by.
    pub settings: Settings,
    /// The endpoint that hands out tokens, if there is one.
    pub identity: Option<IdentityEndpoint>,
}

/// The endpoint on loopback that hands out tokens.
#[derive(Clone, Debug)]
pub struct IdentityEndpoint {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file with what callers send to show that they may.
    pub header_file: PathBuf,
    /// What the tokens are called: `token:{name}` is whom they stand for.
    pub token: TokenName,
    /// How long a token lives.
    pub life: Duration,
    /// Who has them issued, if not the endpoint itself. No configuration can say so: `strongroom dev` does.
    pub issuer: Option<Principal>,
    /// Users whose processes are answered in the manner of a virtual machine (IMDS), which sends no secret; nobody, where
    /// it is empty.
    pub imds_uids: Vec<u32>,
}

/// The face, where it is configured, and its own certificate and key.
pub(super) fn azure(root: &mut Section) -> Option<(Azure, Option<(PathBuf, PathBuf)>)> {
    if !root.has("azure") {
        return None;
    }
    let mut section = root.section("azure");
    let listen = listen(&mut section, None);
    let pair = pair(&mut section);
    let external = section.text("external_url").and_then(|text| {
        let external = External::from_url(&text);
        if external.is_none() {
            section.fault("external_url", format!("{text:?} is not https:// and a host, perhaps with a port"));
        }
        external
    });
    let authority = section.text("authority");
    if authority.as_ref().is_some_and(|text| !is_authority(text)) {
        section
            .fault("authority", "is not https://, a host and a tenant, for example https://login.example.org/tenant");
    }
    let settings = Settings {
        external,
        hosts: hosts(section.section("hosts")),
        managed_hsm: managed_hsm(&mut section),
        authority,
        principals: section.text("principals").unwrap_or_default(),
    };
    let identity = section.has("identity").then(|| identity(section.section("identity")));
    section.finish();
    Some((Azure { listen: listen?, settings, identity: identity.flatten() }, pair))
}

/// Both, or neither: then the face has those of `[server]`.
fn pair(section: &mut Section) -> Option<(PathBuf, PathBuf)> {
    match (section.path("certificate"), section.path("key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            section.fault("key", "is missing beside certificate");
            None
        }
        (None, Some(_)) => {
            section.fault("certificate", "is missing beside key");
            None
        }
    }
}

fn hosts(section: Section) -> HashMap<String, VaultName> {
    let mut hosts = HashMap::new();
    let faults = section.same();
    let texts: BTreeMap<String, String> = section.texts();
    for (host, vault) in texts {
        match vault.parse::<VaultName>() {
            Ok(vault) if is_host(&host) => {
                hosts.insert(host.to_ascii_lowercase(), vault);
            }
            Ok(_) => faults.fault(&host, "is no name of a host, without a port"),
            Err(error) => faults.fault(&host, error.to_string()),
        }
    }
    hosts
}

fn managed_hsm(section: &mut Section) -> Vec<String> {
    section.parsed("managed_hsm", "domains", |text| match is_host(text) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("is no domain, for example managedhsm.example.org".to_owned()),
    })
}

fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !text.is_empty() && text.len() <= 253 && text.bytes().all(plain) && !text.starts_with('.')
}

/// As the challenge can carry it, and clients read it: they split at commas, blanks and equal signs, and take the first part
/// of the path for the tenant.
fn is_authority(text: &str) -> bool {
    let path = text.strip_prefix("https://").and_then(|rest| rest.split_once('/'));
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b",=\"\\?#".contains(&byte));
    plain && path.is_some_and(|(host, path)| !host.is_empty() && !path.is_empty() && !path.starts_with('/'))
}

fn identity(mut section: Section) -> Option<IdentityEndpoint> {
    let listen = section.address("listen", None);
    if listen.is_some_and(|address| !address.ip().is_loopback()) {
        section.fault("listen", "is no loopback address: tokens are handed out in the clear, on this machine only");
    }
    let header_file = section.required_path("header_file");
    let name = section.required_text("token");
    let token = name.parse::<TokenName>();
    if let (Err(error), false) = (&token, name.is_empty()) {
        section.fault("token", error.to_string());
    }
    let life = section.seconds("life_s", Duration::from_secs(3600), LIFE_S);
    let imds_uids = section.ids("imds_uids");
    section.finish();
    Some(IdentityEndpoint { listen: listen?, header_file, token: token.ok()?, life, issuer: None, imds_uids })
}
