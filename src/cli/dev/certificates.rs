//! Certificates for development: an authority, one for the server, one for the developer.
//!
//! The server's is made anew at each start, for where it listens then. The others stay until they near
//! their end: a shell that has read `env` goes on working.

use std::net::SocketAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use x509_parser::pem::parse_x509_pem;

use super::{
    DEVELOPER, names,
    place::{Place, write},
    text,
};
use crate::{
    cli::serve::DEVELOPMENT_CA,
    model::{Clock, Timestamp, time::DAY_S},
};

/// How long the authority lives.
const CA_DAYS: i64 = 3650;
/// How long server and developer have theirs.
const LEAF_DAYS: i64 = 365;
/// A certificate with less than this left is made anew.
const RENEW_DAYS: i64 = 30;

/// Makes what is missing, unreadable or near its end.
pub(super) fn renew(place: &Place, listen: SocketAddr, also: &[String], clock: &dyn Clock) -> anyhow::Result<()> {
    let now = clock.now();
    match kept(place, "ca", now) {
        Some((pem, key)) => {
            let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
            if kept(place, "client", now).is_none() {
                issue(place, "client", &client(now)?, &issuer)?;
            }
            issue(place, "server", &server(listen, also, now)?, &issuer)
        }
        None => {
            let (params, key) = (authority(now)?, KeyPair::generate()?);
            let (pem, key_pem) = (params.self_signed(&key)?.pem(), key.serialize_pem());
            let issuer = Issuer::new(params, key);
            issue(place, "client", &client(now)?, &issuer)?;
            issue(place, "server", &server(listen, also, now)?, &issuer)?;
            // Last: after a crash before this there is no authority, and all is made again.
            store(place, "ca", &key_pem, &pem)
        }
    }
}

/// A certificate and its key that are there, belong together and have time left.
fn kept(place: &Place, name: &str, now: Timestamp) -> Option<(String, KeyPair)> {
    let pem = text(&place.tls(&format!("{name}.pem")))?;
    let key = KeyPair::from_pem(&text(&place.tls(&format!("{name}.key")))?).ok()?;
    let (_, parsed) = parse_x509_pem(pem.as_bytes()).ok()?;
    let parsed = parsed.parse_x509().ok()?;
    let lives = parsed.validity().not_after.timestamp() - now.0 > RENEW_DAYS * DAY_S;
    let fits = parsed.public_key().subject_public_key.data == key.public_key_raw();
    (lives && fits).then_some((pem, key))
}

fn authority(now: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, DEVELOPMENT_CA);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    dates(&mut params, now, CA_DAYS)?;
    Ok(params)
}

fn client(now: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = leaf(Vec::new(), "developer", ExtendedKeyUsagePurpose::ClientAuth, now)?;
    params.subject_alt_names.push(SanType::URI(DEVELOPER.try_into()?));
    Ok(params)
}

fn server(listen: SocketAddr, also: &[String], now: Timestamp) -> anyhow::Result<CertificateParams> {
    let names = names(listen).into_iter().chain(also.iter().cloned()).collect();
    leaf(names, "localhost", ExtendedKeyUsagePurpose::ServerAuth, now)
}

fn leaf(
    names: Vec<String>,
    common_name: &str,
    purpose: ExtendedKeyUsagePurpose,
    now: Timestamp,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    dates(&mut params, now, LEAF_DAYS)?;
    Ok(params)
}

fn issue(place: &Place, name: &str, params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    store(place, name, &key.serialize_pem(), &certificate.pem())
}

/// A crash between the two leaves a pair that does not fit, which [`kept`] finds.
fn store(place: &Place, name: &str, key: &str, certificate: &str) -> anyhow::Result<()> {
    write(&place.tls(&format!("{name}.key")), key.as_bytes())?;
    write(&place.tls(&format!("{name}.pem")), certificate.as_bytes())
}

/// Whole days, from yesterday, for clocks that are not quite right.
fn dates(params: &mut CertificateParams, now: Timestamp, days: i64) -> anyhow::Result<()> {
    let day = |seconds: i64| {
        let date = jiff::Timestamp::from_second(seconds)?.to_zoned(jiff::tz::TimeZone::UTC).date();
        let (month, day) = (u8::try_from(date.month())?, u8::try_from(date.day())?);
        anyhow::Ok(date_time_ymd(i32::from(date.year()), month, day))
    };
    params.not_before = day(now.0 - DAY_S)?;
    params.not_after = day(now.0 + days * DAY_S)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        cli::compose,
        config::files,
        grpc::{tls, trust::AuthorityMaterial},
        model::time::ManualClock,
    };

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn listen() -> SocketAddr {
        ([127, 0, 0, 1], 8443).into()
    }

    fn read(place: &Place, name: &str) -> String {
        text(&place.tls(name)).expect("is there")
    }

    #[test]
    fn what_is_made_serves_and_names_the_developer() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::take(folder.path()).expect("is ours");
        renew(&place, listen(), &[], &ManualClock::at(NOW)).expect("makes them");
        let read = |name| files::read(&place.tls(name)).expect("reads");
        let (certificate, key, certificates) = (read("server.pem"), read("server.key"), read("ca.pem").to_vec());
        let authorities = [AuthorityMaterial { certificates, ..AuthorityMaterial::default() }];
        let material =
            tls::Material { certificate: &certificate, key: &key, web: None, authorities: &authorities, now: NOW };
        let trust = tls::server(&material).expect("fits together").trust;
        let client = tls::certificates(&read("client.pem")).expect("is one");
        assert_eq!(trust.identify(&client, NOW).expect("has a name").principal.as_str(), DEVELOPER);
        compose::sync_folder(place.path()).expect("syncs");
    }

    #[test]
    fn they_stay_until_they_near_their_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::take(folder.path()).expect("is ours");
        let at = |days: i64| ManualClock::at(Timestamp(NOW.0 + days * DAY_S));
        renew(&place, listen(), &[], &at(0)).expect("makes them");
        let (ca, client) = (read(&place, "ca.pem"), read(&place, "client.pem"));
        renew(&place, listen(), &[], &at(300)).expect("keeps them");
        assert_eq!((read(&place, "ca.pem"), read(&place, "client.pem")), (ca.clone(), client.clone()));
        renew(&place, listen(), &[], &at(340)).expect("makes the client's anew");
        assert_eq!(read(&place, "ca.pem"), ca);
        assert_ne!(read(&place, "client.pem"), client);
        renew(&place, listen(), &[], &at(3640)).expect("makes all anew");
        assert_ne!(read(&place, "ca.pem"), ca);
    }

    #[test]
    fn a_half_written_pair_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::take(folder.path()).expect("is ours");
        renew(&place, listen(), &[], &ManualClock::at(NOW)).expect("makes them");
        let client = read(&place, "client.pem");
        fs::copy(place.tls("server.key"), place.tls("client.key")).expect("copies");
        renew(&place, listen(), &[], &ManualClock::at(NOW)).expect("makes it anew");
        assert_ne!(read(&place, "client.pem"), client);
        let ca = read(&place, "ca.pem");
        fs::write(place.tls("ca.key"), "x").expect("writes");
        renew(&place, listen(), &[], &ManualClock::at(NOW)).expect("makes all anew");
        assert_ne!(read(&place, "ca.pem"), ca);
    }
}
