//! The Azure face of a development server: its configuration, the tokens that clients of it need, and how long they live.
//!
//! Tokens live a day, the longest there is. Before half of it is over others take their place in `env`: a shell that has read
//! it goes on for half a day at least, and programs that ask the identity endpoint notice nothing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    DEVELOPER, VAULT, caller,
    env::{self, Served},
    place::{Place, write},
};
use crate::{
    bearer::issued::LIFE_MAX,
    cli::{compose::failure, face::Addresses, operate::DevArgs},
    config::{Azure, IdentityEndpoint},
    model::{TokenName, VaultName},
    rest::{External, Settings, identity},
    service::{ChangeOptions, NewAssignment, Problem, Service},
};

/// The token that may do everything in the vault, and the role it has there.
const OWNER: (&str, &str) = ("azure", "administrator");
/// The token that may only look.
const READER: (&str, &str) = ("azure-readonly", "Key Vault Reader");
/// How long a token of the identity endpoint lives.
const IDENTITY_LIFE: Duration = Duration::from_secs(3600);
/// Names of the server that are under `localhost` (RFC 6761 section 6.3), for clients that want a name in a domain.
const NAMES: [&str; 2] = ["*.vault.localhost", "*.managedhsm.localhost"];
/// Domains whose hosts speak as a Managed HSM.
const MANAGED_HSM: [&str; 2] = ["managedhsm.localhost", "managedhsm.azure.net"];

/// Names that the server's certificate is for beside those of the machine.
pub(super) fn names(args: &DevArgs) -> Vec<String> {
    let served = args.azure_listen.is_some();
    let names = NAMES.iter().filter(|_| served).map(|name| (*name).to_owned());
    names.chain(args.azure_host.iter().cloned()).collect()
}

/// The configuration of the face, if it is asked for.
pub(super) fn config(args: &DevArgs, place: &Place) -> anyhow::Result<Option<Azure>> {
    let Some(listen) = args.azure_listen else { return Ok(None) };
    let vault: VaultName = VAULT.parse()?;
    let own = ["localhost", "127.0.0.1", "[::1]"].into_iter().map(str::to_owned);
    let asked = args.azure_host.iter().filter(|host| !host.starts_with('*')).map(|host| host.to_ascii_lowercase());
    let header_file = place.identity_header();
    if !header_file.exists() {
        write(&header_file, format!("{}\n", uuid::Uuid::new_v4().simple()).as_bytes())?;
    }
    Ok(Some(Azure {
        listen,
        settings: Settings {
            external: Some(External::at_listener("localhost")),
            hosts: own.chain(asked).map(|host| (host, vault.clone())).collect(),
            managed_hsm: MANAGED_HSM.map(str::to_owned).to_vec(),
            ..Settings::default()
        },
        identity: Some(IdentityEndpoint {
            listen: args.identity_listen,
            header_file,
            token: OWNER.0.parse()?,
            life: IDENTITY_LIFE,
            issuer: Some(DEVELOPER.parse()?),
            imds_uids: args.identity_imds.then(|| rustix::process::getuid().as_raw()).into_iter().collect(),
        }),
    }))
}

/// Gives the tokens' names their roles, and writes tokens into `env`; nothing where the face is not served.
pub(super) async fn open(service: &Arc<Service>, place: &Place, addresses: Addresses) -> anyhow::Result<()> {
    let Some((azure, identity)) = addresses.azure.zip(addresses.identity) else {
        return env::write_to(place, addresses.grpc, VAULT, None);
    };
    for (name, role) in [OWNER, READER] {
        assign(service, name, role).await?;
    }
    write_tokens(service, place, addresses.grpc, azure, identity).await
}

/// Writes other tokens into `env` again and again.
pub(super) async fn renew(service: Arc<Service>, place: Arc<Place>, addresses: Addresses) {
    let Some((azure, identity)) = addresses.azure.zip(addresses.identity) else { return };
    loop {
        tokio::time::sleep(LIFE_MAX / 2).await;
        if let Err(error) = write_tokens(&service, &place, addresses.grpc, azure, identity).await {
            tracing::warn!(error = format!("{error:#}"), "the tokens in `env` could not be made anew");
        }
    }
}

async fn write_tokens(
    service: &Arc<Service>,
    place: &Place,
    grpc: SocketAddr,
    azure: SocketAddr,
    identity: SocketAddr,
) -> anyhow::Result<()> {
    let issuer = DEVELOPER.parse()?;
    let mut tokens = Vec::new();
    for (name, _) in [OWNER, READER] {
        let name: TokenName = name.parse()?;
        let minted = identity::mint(service, &issuer, &name, LIFE_MAX).await;
        tokens.push(minted.map_err(|error| failure("the tokens for clients of Azure could not be made", &error))?.0);
    }
    let [token, token_readonly] = tokens.as_slice() else { anyhow::bail!("two tokens were made") };
    let header = std::fs::read_to_string(place.identity_header())?;
    let served = Served {
        url: env::azure_url(azure),
        token,
        token_readonly,
        identity_endpoint: format!("http://{identity}{}", identity::PATH),
        identity_header: header.trim(),
    };
    env::write_to(place, grpc, VAULT, Some(&served))
}

async fn assign(service: &Arc<Service>, name: &str, role: &str) -> anyhow::Result<()> {
    let name: TokenName = name.parse()?;
    let found = crate::access::roles::built_in_by_name(role);
    let role = found.ok_or_else(|| anyhow::anyhow!("{role} is a built-in role"))?.id;
    let vault: VaultName = VAULT.parse()?;
    let new = NewAssignment { id: None, principal: name.principal(), role, scope: crate::model::Scope::Vault(vault) };
    match service.create_assignment(&caller()?, new, ChangeOptions::default()).await {
        // It has the role, or the vault was deleted, which was said.
        Ok(_) => Ok(()),
        Err(error) if matches!(error.problem, Problem::Exists { .. } | Problem::SoftDeleted { .. }) => Ok(()),
        Err(error) => Err(failure(format!("{} could not be given its role", name.principal()), &error).into()),
    }
}
