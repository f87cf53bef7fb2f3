//! Why a connection failed, in words, and what to do about it.

use strongroom_client::Cause;

use super::failure::Failure;

/// What a cause means.
pub(super) fn explain(cause: &Cause, endpoint: &str) -> Failure {
    let cannot = format!("cannot connect to {endpoint}: {cause}");
    match cause {
        Cause::Refused => Failure::new(cannot)
            .hint("is it running? start it: strongroom serve --config FILE, or strongroom dev --data-dir DIR"),
        Cause::NoSocket => Failure::new(cannot)
            .hint("is it running, and is that server.unix.path? else check STRONGROOM_ENDPOINT or --endpoint"),
        Cause::NotForUs => Failure::new(cannot)
            .hint("server.unix.mode and its folder say who may use it: become a member of its group, or another user"),
        Cause::NoHost => {
            Failure::new(cannot).hint("check the address in STRONGROOM_ENDPOINT or --endpoint")
        }
        Cause::Unreachable => Failure::new(cannot)
            .hint("check the address in STRONGROOM_ENDPOINT or --endpoint, the network, and --timeout"),
        Cause::NotTls => Failure::new(cannot).hint("check the port in STRONGROOM_ENDPOINT or --endpoint"),
        Cause::UnknownIssuer => Failure::new(cannot)
            .hint("pass the server's CA with --ca or STRONGROOM_CA; for another development folder: . DIR/env"),
        Cause::Expired => {
            Failure::new(cannot).hint("have the server's certificate renewed, and check this machine's clock")
        }
        Cause::NotYetValid => Failure::new(cannot).hint("check this machine's clock"),
        Cause::WrongName => Failure::new(cannot)
            .hint("use a name that the certificate has, in STRONGROOM_ENDPOINT or --endpoint"),
        Cause::OtherCertificate(_) => Failure::new(cannot)
            .hint("have the server given a certificate that its CA issued for its host name"),
        Cause::ClientRefused(alert) => Failure::new(format!("{endpoint} refused the client certificate ({alert})"))
            .hint("pass a certificate of a CA that the server trusts, in its time of validity, with --cert and --key-file"),
        Cause::Broken => Failure::new(format!("the connection to {endpoint} broke"))
            .hint("repeat the command; if it breaks each time, the server may not accept the client certificate: see its log"),
        Cause::OtherTls(_) => Failure::new(cannot),
        _ => Failure::new(cannot).hint("check that a Strongroom server listens there"),
    }
}

/// Why none of several servers was reached: each with its cause.
pub(super) fn explain_all(failed: &[(String, Cause)]) -> Failure {
    let shown = Failure::new(format!("cannot connect to any of {} servers", failed.len()));
    let shown = failed.iter().fold(shown, |shown, (endpoint, cause)| shown.detail(format!("{endpoint}: {cause}")));
    shown.hint("are they running? check STRONGROOM_ENDPOINT or --endpoint, and with --endpoint each by itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_servers_each_is_named() {
        let failed = [("https://a:1".to_owned(), Cause::Refused), ("https://b:1".to_owned(), Cause::NoHost)];
        let text = explain_all(&failed).to_string();
        assert!(text.starts_with("cannot connect to any of 2 servers"), "{text}");
        assert!(text.contains("https://a:1: nothing listens there") && text.contains("https://b:1: there is no host"));
    }

    #[test]
    fn each_cause_says_what_to_do() {
        let text = explain(&Cause::Refused, "https://127.0.0.1:1").to_string();
        assert_eq!(
            text,
            "cannot connect to https://127.0.0.1:1: nothing listens there\nhint: is it running? start it: strongroom \
             serve --config FILE, or strongroom dev --data-dir DIR"
        );
    }
}
