//! Why a connection failed: looks through the chain of causes for the error of the system or of TLS
//! that a person can do something about. Types only, never message texts.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The host refuses the port.
    #[error("nothing listens there")]
    Refused,
    /// There is no such socket on this machine.
    #[error("there is no such socket")]
    NoSocket,
    /// The socket is not for us.
    #[error("the socket is not for this user")]
    NotForUs,
    /// No host of that name.
    #[error("there is no host of that name")]
    NoHost,
    /// The host is silent.
    #[error("the host does not answer")]
    Unreachable,
    /// Something else listens.
    #[error("what listens there does not speak TLS")]
    NotTls,
    /// The server's certificate is from another CA.
    #[error("its certificate is not signed by the CA you trust")]
    UnknownIssuer,
    /// The server's certificate is too old.
    #[error("its certificate has expired")]
    Expired,
    /// The server's certificate is too new, or our clock is behind.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// The server's certificate is for other names.
    #[error("its certificate is for another host name")]
    WrongName,
    /// The server's certificate is wrong in another way.
    #[error("its certificate is wrong: {0}")]
    OtherCertificate(String),
    /// The server does not take the client certificate; the alert it sent.
    #[error("it refused the client certificate ({0})")]
    ClientRefused(String),
    /// TLS failed otherwise.
    #[error("TLS failed: {0}")]
    OtherTls(String),
    /// The connection ended under a call.
    #[error("the connection broke")]
    Broken,
    /// What the system or the transport said.
    #[error("{0}")]
    Other(String),
}

impl Cause {
    /// Whether the cause will still be there at the next attempt.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        !matches!(self, Self::Refused | Self::NoSocket | Self::Unreachable | Self::Broken | Self::Other(_))
    }

    /// The cause behind a failed connection or call, when it lies below gRPC.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        find(error)
    }
}

/// The innermost error's words: the layers above it only say that something below them failed.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
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
        // Of connections only sockets on this machine have a path.
        io::ErrorKind::NotFound => Some(Cause::NoSocket),
        io::ErrorKind::PermissionDenied => Some(Cause::NotForUs),
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
            assert_eq!(Cause::of(&wrapped(error)), Some(cause));
        }
    }

    #[test]
    fn refused_connections_may_be_tried_again_and_wrong_certificates_not() {
        let refused = Cause::of(&io::Error::from(io::ErrorKind::ConnectionRefused)).expect("a cause");
        assert!(!refused.is_lasting());
        assert!(Cause::Expired.is_lasting());
    }
}
