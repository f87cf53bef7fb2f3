//! The Azure face of an open service and its identity endpoint: bound, served, ended, beside gRPC and like it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    compose::{House, failure},
    face::{options, unbound},
};
use crate::{
    config::{Config, IdentityEndpoint, files},
    grpc::{Gate, Limits, Listener, Speech, front::Room},
    model::Principal,
    observe::trace::Tracer,
    rest::{Rest, Settings, identity},
};

/// Who has the endpoint's tokens issued, unless somebody else is named: no certificate and no token has such a name, so
/// that what it is permitted nobody else is.
const ISSUER: &str = "strongroom:identity-endpoint";

/// What is bound, and not yet served.
#[derive(Default)]
pub(super) struct Opening {
    face: Option<(Listener<Rest>, SocketAddr)>,
    identity: Option<(Arc<identity::Endpoint>, TcpListener, SocketAddr)>,
}

/// What is served.
#[derive(Default)]
pub(super) struct Doors {
    face: Option<JoinHandle<()>>,
    identity: Option<JoinHandle<()>>,
}

/// Binds what is configured.
pub(super) async fn open(
    house: &House,
    config: &Config,
    gate: &Arc<Gate>,
    (limits, room, tracer): (Limits, Room, Option<Arc<Tracer>>),
) -> anyhow::Result<Opening> {
    let Some(azure) = &config.azure else { return Ok(Opening::default()) };
    let tcp = TcpListener::bind(azure.listen).await;
    let tcp = tcp.map_err(|error| unbound("azure.listen", azure.listen, &error))?;
    let address = tcp.local_addr()?;
    let external = azure.settings.external.clone().map(|external| external.listening_at(address.port()));
    let settings = Settings { external, ..azure.settings.clone() };
    let (service, bearers) = (Arc::clone(&house.service), Arc::clone(&house.bearers));
    let rest = Rest::new(service, bearers, settings, limits, room, tracer);
    let listener = Listener::over(tcp, Arc::clone(gate), None, rest, options(&config.server, Speech::Web));
    let identity = match &azure.identity {
        Some(endpoint) => Some(bind(house, endpoint).await?),
        None => None,
    };
    Ok(Opening { face: Some((listener, address)), identity })
}

async fn bind(
    house: &House,
    endpoint: &IdentityEndpoint,
) -> anyhow::Result<(Arc<identity::Endpoint>, TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(endpoint.listen).await;
    let listener = listener.map_err(|error| unbound("azure.identity.listen", endpoint.listen, &error))?;
    let address = listener.local_addr()?;
    let mut secret = files::read(&endpoint.header_file)
        .map_err(|error| failure("the identity endpoint has no secret (azure.identity.header_file)", &error))?;
    // One line, as editors leave it.
    let length = secret.trim_ascii_end().len();
    secret.truncate(length);
    let issuer: Principal = match &endpoint.issuer {
        Some(issuer) => issuer.clone(),
        None => ISSUER.parse()?,
    };
    let settings = identity::Settings {
        secret,
        token: endpoint.token.clone(),
        life: endpoint.life,
        imds_uids: endpoint.imds_uids.clone(),
        issuer,
    };
    let endpoint = identity::Endpoint::new(Arc::clone(&house.service), Arc::clone(&house.bearers), settings);
    Ok((endpoint, listener, address))
}

impl Opening {
    /// Where the face listens, and the endpoint.
    pub(super) fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        (self.face.as_ref().map(|(_, address)| *address), self.identity.as_ref().map(|(_, _, address)| *address))
    }

    /// Serves until `stop`; then lets requests end, at most `drain`.
    pub(super) fn serve(self, stop: &CancellationToken, drain: Duration) -> Doors {
        let face = self.face.map(|(listener, _)| tokio::spawn(listener.serve(stop.clone(), drain)));
        let identity =
            self.identity.map(|(endpoint, listener, _)| tokio::spawn(endpoint.serve(listener, stop.clone())));
        Doors { face, identity }
    }
}

impl Doors {
    /// Comes when one of them has ended by itself.
    pub(super) async fn ended(&mut self) {
        async fn of(door: &mut Option<JoinHandle<()>>) {
            match door {
                // An error is a panic, and was reported as one.
                Some(door) => drop(door.await),
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = of(&mut self.face) => {}
            () = of(&mut self.identity) => {}
        }
    }

    /// Waits until they have ended.
    pub(super) async fn close(self) {
        for door in [self.face, self.identity].into_iter().flatten() {
            if !door.is_finished() {
                let _ = door.await;
            }
        }
    }
}
