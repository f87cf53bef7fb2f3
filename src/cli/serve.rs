//! `strongroom serve`: the composition root. What is made for development is refused here.

use std::process::ExitCode;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    compose::{self, Ending, House},
    credentials,
    face::Face,
    failure::Failure,
    operate::ServeArgs,
};
use crate::{
    config::{Config, files},
    grpc::tls,
    model::InstanceRow,
    observe::{logging, metrics},
};

/// The label of tokens that `dev` makes.
pub(super) const DEVELOPMENT_LABEL: &str = "strongroom-dev";
/// The subject of authorities that `dev` makes.
pub(super) const DEVELOPMENT_CA: &str = "Strongroom development CA, not for production";

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let config = compose::load(&args.config)?;
    let runtime = compose::runtime()?;
    let served = runtime.block_on(serve(&config));
    // All is closed. What a thread still waits for (a name that nobody resolves) holds nothing up.
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    logging::start(config.log);
    compose::close_memory();
    compose::raise_limits();
    let mut ending = Ending::listen()?;
    let figures = metrics::install()?;
    // Before anything is read: until somebody listens, this signal ends a process.
    let hangup = compose::hangup()?;
    let credentials = credentials::read(&config.server)?;
    refuse_development_files(config)?;
    let opening = async {
        let store = compose::store(&config.store).await?;
        let instance = compose::instance(&store).await?.ok_or_else(uninitialised)?;
        refuse_development(&instance)?;
        let profile = config.hsm.profile(compose::program()?);
        let house = House::open(config, profile, instance, store).await?;
        Face::open(house, config, credentials, figures, Some(hangup)).await
    };
    let face = tokio::select! {
        face = opening => face?,
        // What was begun is dropped: workers are killed, the log is synced, an open change is settled at
        // the next start.
        _ = ending.wait() => return Ok(()),
    };
    face.announce();
    face.until(&mut ending).await
}

pub(super) fn uninitialised() -> Failure {
    Failure::new("the store is empty: it was never initialised")
        .hint("make token keys and the first administrator with `strongroom init`")
        .hint("if there was a store, its file is gone: restore it with its log; init would make a new one")
}

fn refuse_development(instance: &InstanceRow) -> anyhow::Result<()> {
    if instance.development || instance.token_label == DEVELOPMENT_LABEL {
        return Err(for_development("the store and its token").into());
    }
    Ok(())
}

fn refuse_development_files(config: &Config) -> anyhow::Result<()> {
    if config.hsm.token.label == DEVELOPMENT_LABEL {
        return Err(for_development("the token (hsm.token.label)").into());
    }
    let authorities = config.server.authorities.iter().map(|authority| ("server.client_ca", &authority.file));
    for (what, path) in authorities.chain([("server.certificate", &config.server.certificate)]) {
        let pem = files::read(path).map_err(|error| compose::failure("TLS cannot be set up", &error))?;
        if tls::certificates(&pem).unwrap_or_default().iter().any(is_for_development) {
            return Err(for_development(&format!("the certificate in {what}")).into());
        }
    }
    Ok(())
}

/// Whether a certificate is, or comes from, an authority that `dev` made.
fn is_for_development(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
        [parsed.subject(), parsed.issuer()]
            .into_iter()
            .flat_map(|name| name.iter_common_name())
            .any(|name| name.as_str() == Ok(DEVELOPMENT_CA))
    })
}

fn for_development(what: &str) -> Failure {
    Failure::new(format!("{what} was made by `strongroom dev`, for development: `serve` does not use it"))
        .hint("its PINs and keys lie beside it in files; make your own with `strongroom init`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(common_name: &str) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signs").der().clone()
    }

    #[test]
    fn a_development_authority_is_known_by_its_subject() {
        assert!(is_for_development(&certificate(DEVELOPMENT_CA)));
        assert!(!is_for_development(&certificate("Example CA")));
    }
}
