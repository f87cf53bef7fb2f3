//! Why a connection failed: looks through the chain of causes for the error of the system or of TLS
//! that a person can do something about. Types only, never message texts.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

use super::failure::Failure;

/// The cause that can be explained.
#[derive(Debug, PartialEq, Eq)]
enum Cause {
    Refused,
    Unreachable,
    NotTls,
    UnknownIssuer,
    Expired,
    NotYetValid,
    WrongName,
    OtherCertificate(String),
    ClientRefused(String),
    OtherTls(String),
    Broken,
}

/// What a failed connection or call means, when the cause lies below gRPC.
pub(super) fn explain(error: &(dyn Error + 'static), endpoint: &str) -> Option<Failure> {
    find(error).map(|cause| words(cause, endpoint))
}

/// Whether the cause will still be there at the next attempt.
pub(super) fn is_lasting(error: &(dyn Error + 'static)) -> bool {
    !matches!(find(error), None | Some(Cause::Refused | Cause::Unreachable | Cause::Broken))
}

fn find(error: &(dyn Error + 'static)) -> Option<Cause> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(of_tls(tls));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // An `io::Error` hides the error that it carries from `source()`.
            if let Some(cause) = io.get_ref().and_then(|inner| find(inner)) {
                return Some(cause);
            }
            found = found.or_else(|| of_io(io));
        }
        next = error.source();
    }
    found
}

fn of_io(error: &io::Error) -> Option<Cause> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Cause::Refused),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::TimedOut => {
            Some(Cause::Unreachable)
        }
        // An alert that came after the handshake. HTTP/2 passes on its text and drops its type. In TLS 1.3
        // the server looks at the client certificate only then (RFC 8446 section 4.4.2.4).
        io::ErrorKind::InvalidData => Some(Cause::ClientRefused(error.to_string())),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(Cause::Broken),
        _ => None,
    }
}

fn of_tls(error: &rustls::Error) -> Cause {
    match error {
        rustls::Error::InvalidCertificate(certificate) => of_certificate(certificate),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(_) => Cause::NotTls,
        other => Cause::OtherTls(other.to_string()),
    }
}

fn of_certificate(error: &CertificateError) -> Cause {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Cause::UnknownIssuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Cause::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Cause::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Cause::WrongName,
        other => Cause::OtherCertificate(other.to_string()),
    }
}

fn of_alert(alert: AlertDescription) -> Cause {
    match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => Cause::ClientRefused(format!("{alert:?}")),
        other => Cause::OtherTls(format!("the server sent the alert {other:?}")),
    }
}

fn words(cause: Cause, endpoint: &str) -> Failure {
    let cannot = format!("cannot connect to {endpoint}");
    match cause {
        Cause::Refused => Failure::new(format!("{cannot}: nothing listens there"))
            .hint("is it running? start it: strongroom serve --config FILE, or strongroom dev --data-dir DIR"),
        Cause::Unreachable => Failure::new(format!("{cannot}: the host does not answer"))
            .hint("check the address in STRONGROOM_ENDPOINT or --endpoint, and the network"),
        Cause::NotTls => Failure::new(format!("{cannot}: what listens there does not speak TLS"))
            .hint("check the port in STRONGROOM_ENDPOINT or --endpoint"),
        Cause::UnknownIssuer => Failure::new(format!("{cannot}: its certificate is not signed by the CA you trust"))
            .hint("pass the server's CA with --ca or STRONGROOM_CA; for another development folder: . DIR/env"),
        Cause::Expired => Failure::new(format!("{cannot}: its certificate has expired"))
            .hint("have the server's certificate renewed, and check this machine's clock"),
        Cause::NotYetValid => {
            Failure::new(format!("{cannot}: its certificate is not valid yet")).hint("check this machine's clock")
        }
        Cause::WrongName => Failure::new(format!("{cannot}: its certificate is for another host name"))
            .hint("use a name that the certificate has, in STRONGROOM_ENDPOINT or --endpoint"),
        Cause::OtherCertificate(why) => Failure::new(format!("{cannot}: its certificate is wrong: {why}"))
            .hint("have the server given a certificate that its CA issued for its host name"),
        Cause::ClientRefused(alert) => Failure::new(format!("{endpoint} refused the client certificate ({alert})"))
            .hint("pass a certificate of a CA that the server trusts, in its time of validity, with --cert and --key-file"),
        Cause::Broken => Failure::new(format!("the connection to {endpoint} broke"))
            .hint("repeat the command; if it breaks each time, the server may not accept the client certificate: see its log"),
        Cause::OtherTls(why) => Failure::new(format!("{cannot}: TLS failed: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(error: rustls::Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn tls_causes_are_found_inside_of_io_errors() {
        let cases = [
            (rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), Cause::UnknownIssuer),
            (rustls::Error::InvalidCertificate(CertificateError::Expired), Cause::Expired),
            (rustls::Error::InvalidCertificate(CertificateError::NotValidForName), Cause::WrongName),
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), Cause::ClientRefused("UnknownCA".to_owned())),
        ];
        for (error, cause) in cases {
            assert_eq!(find(&wrapped(error)), Some(cause));
        }
    }

    #[test]
    fn refused_connections_may_be_tried_again_and_wrong_certificates_not() {
        assert!(!is_lasting(&io::Error::from(io::ErrorKind::ConnectionRefused)));
        assert!(is_lasting(&wrapped(rustls::Error::InvalidCertificate(CertificateError::Expired))));
    }

    #[test]
    fn each_cause_says_what_to_do() {
        let text = words(Cause::Refused, "https://127.0.0.1:1").to_string();
        assert_eq!(
            text,
            "cannot connect to https://127.0.0.1:1: nothing listens there\nhint: is it running? start it: strongroom \
             serve --config FILE, or strongroom dev --data-dir DIR"
        );
    }
}
