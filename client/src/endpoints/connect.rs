//! Connecting: at first to all servers at once, and later, again and again, to those that were lost. What a task here
//! holds lets a client go that nobody else holds.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::transport::{Channel, Endpoint};

use super::{Endpoints, Health, aside};
use crate::{Cause, Error, cause};

/// How long one attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Endpoints {
    /// Waits until one of the servers is connected to. The others are being connected to meanwhile, and after.
    pub(crate) async fn connect(self: &Arc<Self>, deadline: Instant) -> Result<(), Error> {
        let (tell, mut told) = mpsc::channel(self.all.len());
        for (at, server) in self.all.iter().enumerate() {
            let Some(endpoint) = server.endpoint.clone() else { return Ok(()) };
            let (endpoints, tell) = (Arc::clone(self), tell.clone());
            tokio::spawn(async move {
                let connected = attempt(&endpoint).await;
                match connected.clone() {
                    Ok(channel) => endpoints.connected(at, channel),
                    Err(cause) => endpoints.lost(at, cause),
                }
                // Nobody waits for the second.
                let _ = tell.send(connected.map(drop).map_err(|cause| (at, cause))).await;
            });
        }
        drop(tell);
        let mut failed = None;
        let any = async {
            while let Some(connected) = told.recv().await {
                match connected {
                    Ok(()) => return true,
                    Err(why) => failed = Some(why),
                }
            }
            false
        };
        match timeout_at(deadline, any).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let (at, cause) = failed.unwrap_or((0, Cause::Unreachable));
                Err(self.unreached(at, cause))
            }
            Err(_) => Err(Error::Connection { endpoint: self.names(), cause: Cause::Unreachable }),
        }
    }

    /// There is a connection.
    fn connected(&self, at: usize, channel: Channel) {
        let mut state = self.all[at].state();
        (state.channel, state.health, state.cause) = (channel, Health::Well, None);
    }
}

/// Tries to reach a server again until it is reached, or its client is gone.
pub(super) fn tend(endpoints: &Arc<Endpoints>, at: usize) {
    let Some(endpoint) = endpoints.all[at].endpoint.clone() else { return };
    let endpoints = Arc::downgrade(endpoints);
    let tending = async move {
        loop {
            let Some(failures) = endpoints.upgrade().map(|endpoints| {
                let mut state = endpoints.all[at].state();
                state.failures = state.failures.saturating_add(1);
                state.failures - 1
            }) else {
                return;
            };
            sleep(aside(failures)).await;
            if endpoints.strong_count() == 0 {
                return;
            }
            let connected = attempt(&endpoint).await;
            let Some(endpoints) = endpoints.upgrade() else { return };
            match connected {
                Ok(channel) => return endpoints.connected(at, channel),
                Err(cause) => endpoints.all[at].state().cause = Some(cause),
            }
        }
    };
    // Without a runtime there is nothing to connect by, and no call either.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(tending);
    }
}

async fn attempt(endpoint: &Endpoint) -> Result<Channel, Cause> {
    // A name that nobody knows is told from one where nobody answers.
    let uri = endpoint.uri();
    if let Some(host) = uri.host().filter(|_| uri.scheme_str() == Some("https"))
        && tokio::net::lookup_host((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(443))).await.is_err()
    {
        return Err(Cause::NoHost);
    }
    match timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(connected) => {
            connected.map_err(|error| Cause::of(&error).unwrap_or_else(|| Cause::Other(cause::innermost(&error))))
        }
        Err(_) => Err(Cause::Unreachable),
    }
}
