//! Serving: the faces of an open service, its jobs, and its end. `serve` and `dev` share it.
//!
//! The order of the end: no longer ready; the jobs stop; nobody new gets in and requests end; log and
//! store close; the workers end; the traces that are left are sent, for a moment. After that there is nothing left to lose, and the process exits with 0.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, signal::unix::Signal, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    azure::{self, Doors},
    compose::{Ending, House, failure},
    credentials::{Keeper, Loaded, Occasion},
    failure::Failure,
};
use crate::{
    config::{self, Config},
    grpc::{self, Front, Gate, Limits, Listener, Options, SERVICES, Speech, front::Administers, unix::Bound},
    jobs::Jobs,
    model::SystemClock,
    observe::{
        http,
        readiness::{self, Board},
        trace::Tracer,
    },
};

/// For how long streams of the health service are told that it ends before they are ended.
const HEALTH_LINGER: Duration = Duration::from_secs(1);

/// Where the faces listen: the real ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) metrics: SocketAddr,
    /// The Azure face, and the identity endpoint.
    pub(super) azure: Option<SocketAddr>,
    pub(super) identity: Option<SocketAddr>,
}

/// An open service with its faces.
pub(super) struct Face {
    house: House,
    board: Board,
    health: HealthReporter,
    jobs: Jobs,
    /// Ends the jobs.
    rest: CancellationToken,
    /// Ends the gRPC face.
    stop: CancellationToken,
    grpc: JoinHandle<()>,
    /// The Azure face and what belongs to it.
    azure: Doors,
    /// What sends traces, if anything does, and what ends it.
    traces: Option<JoinHandle<()>>,
    end_traces: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
    end_http: CancellationToken,
    addresses: Addresses,
}

impl Face {
    /// Binds, and begins to serve.
    pub(super) async fn open(
        house: House,
        config: &Config,
        loaded: Loaded,
        metrics: PrometheusHandle,
        hangup: Option<Signal>,
    ) -> anyhow::Result<Self> {
        let board = Board::default();
        let health = HealthReporter::new();
        tell(&health, ServingStatus::NotServing).await;
        let server = &config.server;
        let routes = grpc::routes(&house.service, health.clone())?;
        let limits = Limits {
            requests_max: server.requests_max,
            deadline_default: server.deadline_default,
            deadline_max: server.deadline_max,
        };
        let keeper = Arc::new(Keeper::new(server.clone(), loaded, Arc::new(SystemClock), board.clone()));
        let service = Arc::clone(&house.service);
        let administers: Administers = Arc::new(move |identity| service.administers(identity));
        let instance = base16ct::lower::encode_string(&house.service.instance().id);
        let tracing = config.tracing.as_ref().map(|tracing| Tracer::new(tracing, &instance));
        let (tracer, export) = tracing.unzip();
        let front = Front::new(routes, limits, administers, Arc::clone(&house.bearers)).traced(tracer.clone());
        let opening = azure::open(&house, config, keeper.gate(), (limits, front.room(), tracer)).await?;
        let listener = listen(server, keeper.gate(), front).await?;
        let web = TcpListener::bind(config.metrics.listen).await;
        let web = web.map_err(|error| unbound("metrics.listen", config.metrics.listen, &error))?;
        let (azure, identity) = opening.addresses();
        let addresses = Addresses { grpc: listener.address()?, metrics: web.local_addr()?, azure, identity };

        let (rest, stop, end_http) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let jobs = Jobs::new(rest.clone());
        start_jobs(&jobs, &house, config, &board, &health, metrics.clone());
        jobs.listen(&house.service, addresses.grpc.to_string());
        let signalled = Arc::clone(&keeper);
        let tick = move || keeper.look(Occasion::Tick);
        jobs.reread(server.reload_every, hangup, tick, move || signalled.look(Occasion::Signal));
        let end_traces = CancellationToken::new();
        let traces = export.map(|export| tokio::spawn(export.run(end_traces.clone())));
        let azure = opening.serve(&stop, server.drain);
        let grpc = tokio::spawn(listener.serve(stop.clone(), server.drain));
        let http = tokio::spawn(http::serve(web, metrics, board.clone(), end_http.clone()));
        Ok(Self { house, board, health, jobs, rest, stop, grpc, azure, traces, end_traces, http, end_http, addresses })
    }

    /// Where it listens.
    pub(super) const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Waits until it is ready, at most `within`.
    pub(super) async fn ready(&self, within: Duration) -> anyhow::Result<()> {
        let ready = async {
            while !self.board.newest().is_some_and(|readiness| readiness.ready) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(within, ready).await.is_ok() {
            return Ok(());
        }
        let shown = self.board.newest().and_then(|readiness| serde_json::to_string(&*readiness).ok());
        Err(Failure::new("the service opened, and did not become ready")
            .detail(shown.unwrap_or_else(|| "nothing is known of it".to_owned()))
            .into())
    }

    /// Serves until a signal comes, then ends in order.
    pub(super) async fn until(mut self, ending: &mut Ending) -> anyhow::Result<()> {
        let ended_early = tokio::select! {
            signal = ending.wait() => {
                tracing::info!(signal, "stopping");
                false
            }
            _ = &mut self.grpc => true,
            () = self.azure.ended() => true,
            _ = &mut self.http => true,
        };
        self.close(ended_early).await
    }

    /// Ends in order.
    pub(super) async fn close(self, ended_early: bool) -> anyhow::Result<()> {
        self.rest.cancel();
        self.jobs.ended().await;
        self.board.stop();
        tell(&self.health, ServingStatus::NotServing).await;
        self.stop.cancel();
        let mut health = self.health;
        let forget = tokio::spawn(async move {
            tokio::time::sleep(HEALTH_LINGER).await;
            for service in SERVICES.iter().chain(&[""]) {
                health.clear_service_status(service).await;
            }
        });
        if !self.grpc.is_finished() {
            // An error is a panic, and was reported as one.
            let _ = self.grpc.await;
        }
        self.azure.close().await;
        forget.abort();
        let closed = self.house.close().await;
        self.end_traces.cancel();
        if let Some(traces) = self.traces {
            let _ = traces.await;
        }
        self.end_http.cancel();
        if !self.http.is_finished() {
            let _ = self.http.await;
        }
        closed?;
        if ended_early {
            return Err(Failure::new("a listener ended by itself; the log says why").into());
        }
        tracing::info!("stopped");
        Ok(())
    }
}

async fn listen(server: &config::Server, gate: &Arc<Gate>, front: Front) -> anyhow::Result<Listener> {
    let unix = server.unix.as_ref().map(Bound::new).transpose();
    let unix = unix.map_err(|error| failure("the Unix socket cannot be had (server.unix.path)", &error))?;
    let options = options(server, Speech::Grpc);
    let listener = Listener::bind(server.listen, Arc::clone(gate), unix, front, options).await;
    Ok(listener.map_err(|error| unbound("server.listen", server.listen, &error))?)
}

/// What holds for the connections of every face.
pub(super) fn options(server: &config::Server, speech: Speech) -> Options {
    Options {
        speech,
        connections_max: server.connections_max,
        age_max: server.connection_age_max,
        grace: server.connection_grace,
        trusted_proxies: server.trusted_proxies.clone(),
    }
}

fn start_jobs(
    jobs: &Jobs,
    house: &House,
    config: &Config,
    board: &Board,
    health: &HealthReporter,
    metrics: PrometheusHandle,
) {
    jobs.tidy(&house.service);
    jobs.rotate(&house.service);
    jobs.renew_root(&house.service);
    jobs.retire(&house.service);
    jobs.activity(&house.service);
    jobs.deliver(&config.webhooks, &house.service);
    jobs.checkpoints(&house.service, config.audit.checkpoint_every);
    jobs.export(&config.audit.exporters, &house.service);
    jobs.index(&house.service);
    jobs.keys(&house.bearers);
    jobs.upkeep(metrics);
    let (canary_every, lanes) = (config.hsm.canary_every, config.hsm.lanes.clone());
    let canary_age_max = move |lane| {
        let hang = lanes.get(&lane).map_or(Duration::ZERO, |profile| profile.hang);
        readiness::canary_age_max(canary_every, hang)
    };
    let health = health.clone();
    jobs.watch(&house.service, board, canary_age_max, move |ready| {
        let health = health.clone();
        async move { tell(&health, if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await }
    });
}

/// Tells every watcher of the health service.
async fn tell(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICES.iter().chain(&[""]) {
        health.set_service_status(service, status).await;
    }
}

pub(super) fn unbound(key: &str, address: SocketAddr, error: &std::io::Error) -> Failure {
    failure(format!("cannot listen on {address} ({key})"), error)
        .hint("is another program there? choose another port, or 0 for any")
}

/// A version of the program and of its parts, for the first line of the log.
pub(super) fn announce(addresses: Addresses, house: &House) {
    let ready = house.pool.ready();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        grpc = %addresses.grpc,
        metrics = %addresses.metrics,
        azure = addresses.azure.map(tracing::field::display),
        identity = addresses.identity.map(tracing::field::display),
        module = ready.library,
        token = ready.serial,
        unwrap_template = ready.unwrap_template,
        instance = base16ct::lower::encode_string(&house.service.instance().id),
        "serving"
    );
}

impl Face {
    /// The service behind it.
    pub(super) fn service(&self) -> &Arc<crate::service::Service> {
        &self.house.service
    }

    /// Says in the log what is served.
    pub(super) fn announce(&self) {
        announce(self.addresses, &self.house);
    }
}
