//! Whom authorities cover, and whom they do not.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

use super::*;

/// 2027-01-15, and so within all that is made here.
const NOW: Timestamp = Timestamp(1_800_000_000);

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(ca(name), KeyPair::generate().expect("a key")).expect("signs")
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(issuer: &Issuer, uri: &str, serial: u64) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.subject_alt_names.push(SanType::URI(uri.try_into().expect("IA5")));
    params.serial_number = Some(SerialNumber::from(serial));
    let key = KeyPair::generate().expect("a key");
    params.signed_by(&key, issuer).expect("signs").der().clone()
}

/// A list of that authority with these serial numbers, next updated in that year.
fn crl(issuer: &Issuer, serials: &[u64], year: i32) -> Vec<u8> {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2025, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(year, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).expect("signs").pem().expect("PEM").into_bytes()
}

fn material(name: &str, issuer: &Issuer) -> AuthorityMaterial {
    AuthorityMaterial { name: name.to_owned(), certificates: issuer.pem().into_bytes(), ..AuthorityMaterial::default() }
}

fn naming(domains: &[&str]) -> Naming {
    Naming { trust_domains: Some(domains.iter().map(|domain| (*domain).to_owned()).collect()), ..Naming::default() }
}

fn trust(materials: &[AuthorityMaterial]) -> Trust {
    Trust::new(materials, NOW).expect("is right")
}

/// The name that a certificate gets; the handshake must say the same.
fn who(trust: &Trust, certificate: &CertificateDer<'static>, now: Timestamp) -> Result<String, IdentityError> {
    let found = trust.identify(std::slice::from_ref(certificate), now);
    let shaken = trust.verify_client_cert(certificate, &[], unix_time(now));
    assert_eq!(shaken.is_err(), found == Err(IdentityError::NotCovered), "{shaken:?} {found:?}");
    found.map(|named| named.principal.as_str().to_owned())
}

#[test]
fn an_authority_cannot_name_those_of_another() {
    let (own, partner, stranger) = (authority("own"), authority("partner"), authority("stranger"));
    let both = trust(&[
        AuthorityMaterial { naming: naming(&["example.org"]), ..material("own", &own) },
        AuthorityMaterial { naming: naming(&["partner.example"]), ..material("partner", &partner) },
    ]);
    let id = "spiffe://example.org/ci";
    assert_eq!(who(&both, &leaf(&own, id, 1), NOW).as_deref(), Ok(id));
    assert_eq!(who(&both, &leaf(&partner, id, 1), NOW), Err(IdentityError::NotItsName));
    assert_eq!(who(&both, &leaf(&stranger, id, 1), NOW), Err(IdentityError::NotCovered));
    let id = "spiffe://partner.example/ci";
    assert_eq!(who(&both, &leaf(&partner, id, 1), NOW).as_deref(), Ok(id));
    assert_eq!(who(&both, &leaf(&own, id, 1), NOW), Err(IdentityError::NotItsName));
    // An authority of the same name with another key is another.
    assert_eq!(who(&both, &leaf(&authority("own"), "spiffe://example.org/ci", 1), NOW), Err(IdentityError::NotCovered));
}

#[test]
fn an_authority_between_speaks_for_the_one_that_signed_it() {
    let (own, partner) = (authority("own"), authority("partner"));
    let between = CertifiedIssuer::signed_by(ca("between"), KeyPair::generate().expect("a key"), &partner);
    let between = between.expect("signs");
    let both = trust(&[
        AuthorityMaterial { naming: naming(&["example.org"]), ..material("own", &own) },
        AuthorityMaterial { naming: naming(&["partner.example"]), ..material("partner", &partner) },
    ]);
    let chain = |id| [leaf(&between, id, 1), between.der().clone()];
    assert!(both.identify(&chain("spiffe://partner.example/ci"), NOW).is_ok());
    assert_eq!(both.identify(&chain("spiffe://example.org/ci"), NOW), Err(IdentityError::NotItsName));
    assert_eq!(both.identify(&chain("spiffe://partner.example/ci")[..1], NOW), Err(IdentityError::NotCovered));
    assert_eq!(both.identify(&[], NOW), Err(IdentityError::NoCertificate));
}

#[test]
fn what_is_revoked_or_spoken_of_by_no_list_is_refused() {
    let (own, other) = (authority("own"), authority("other"));
    let (good, revoked) = (leaf(&own, "spiffe://a/good", 1), leaf(&own, "spiffe://a/revoked", 2));
    let listed = |crls| trust(&[AuthorityMaterial { crls, ..material("own", &own) }]);
    let with = listed(vec![crl(&own, &[2, 3], 2030)]);
    assert!(who(&with, &good, NOW).is_ok());
    assert_eq!(who(&with, &revoked, NOW), Err(IdentityError::NotCovered));
    assert!(who(&listed(Vec::new()), &revoked, NOW).is_ok(), "without a list nothing is asked");
    let of_another = listed(vec![crl(&other, &[], 2030)]);
    assert_eq!(who(&of_another, &good, NOW), Err(IdentityError::NotCovered), "no list speaks of it");
    let forged = AuthorityMaterial { crls: vec![crl(&authority("own"), &[], 2030)], ..material("own", &own) };
    let forged = Trust::new(&[forged], NOW);
    assert!(matches!(forged, Err(TlsError::Authority { .. })), "signed by another of that name: {forged:?}");
}

#[test]
fn a_list_is_read_in_der_too_and_what_is_none_is_refused() {
    let own = authority("own");
    let pem = crl(&own, &[2], 2030);
    let der = CertificateRevocationListDer::from_pem_slice(&pem).expect("PEM").to_vec();
    let with = |list: Vec<u8>| Trust::new(&[AuthorityMaterial { crls: vec![list], ..material("own", &own) }], NOW);
    let trust = with(der.clone()).expect("is right");
    assert_eq!(who(&trust, &leaf(&own, "spiffe://a/b", 2), NOW), Err(IdentityError::NotCovered));
    assert_eq!(trust.crl_ends(), Some(Timestamp(1_893_456_000)));
    for wrong in [b"".to_vec(), b"no list".to_vec(), own.pem().into_bytes(), der[..der.len() - 1].to_vec()] {
        assert!(with(wrong).is_err());
    }
}

#[test]
fn a_list_past_its_next_update_is_believed_only_where_that_is_said() {
    let own = authority("own");
    let (good, revoked) = (leaf(&own, "spiffe://a/good", 1), leaf(&own, "spiffe://a/revoked", 2));
    let old = |expired_crl| {
        trust(&[AuthorityMaterial { crls: vec![crl(&own, &[2], 2026)], expired_crl, ..material("own", &own) }])
    };
    let refusing = old(ExpiredCrl::Refuse);
    assert_eq!(who(&refusing, &good, NOW), Err(IdentityError::NotCovered));
    assert!(who(&refusing, &good, Timestamp(1_750_000_000)).is_ok(), "before its next update");
    let accepting = old(ExpiredCrl::Accept);
    assert!(who(&accepting, &good, NOW).is_ok());
    assert_eq!(who(&accepting, &revoked, NOW), Err(IdentityError::NotCovered));
}

#[test]
fn an_authority_that_has_expired_covers_nobody() {
    let mut params = ca("old");
    params.not_after = date_time_ymd(2026, 1, 1);
    let old = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs");
    let certificate = leaf(&old, "spiffe://a/b", 1);
    let before = Timestamp(1_750_000_000);
    let then = Trust::new(&[material("old", &old)], before).expect("is right");
    assert!(who(&then, &certificate, before).is_ok());
    assert_eq!(then.lapses(), Some(Timestamp(1_767_225_600)));
    assert_eq!(who(&trust(&[material("old", &old)]), &certificate, NOW), Err(IdentityError::NotCovered));
}

#[test]
fn two_authorities_are_not_one() {
    let own = authority("own");
    let same = Trust::new(&[material("a", &own), material("b", &own)], NOW);
    assert!(matches!(same, Err(TlsError::Shared { .. })), "{same:?}");
    assert!(matches!(Trust::new(&[], NOW), Err(TlsError::Nobody)));
}

#[test]
fn a_name_holds_no_longer_than_its_certificate() {
    let own = authority("own");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.not_after = date_time_ymd(2027, 2, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &own).expect("signs").der().clone();
    let trust = trust(&[material("own", &own)]);
    let named = trust.identify(std::slice::from_ref(&certificate), NOW).expect("is covered");
    assert_eq!(named.ends, Timestamp(1_801_440_000));
    assert_eq!(who(&trust, &certificate, named.ends).err(), None, "its last second");
    assert_eq!(who(&trust, &certificate, Timestamp(named.ends.0 + 1)), Err(IdentityError::NotCovered));
}
