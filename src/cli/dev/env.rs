//! The file `env`: what a shell reads to reach the service. POSIX sh, mode 0600, whole or not there.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use super::place::{Place, write};

/// What clients of the Azure face need.
pub(super) struct Served<'a> {
    pub(super) url: String,
    pub(super) token: &'a str,
    pub(super) token_readonly: &'a str,
    pub(super) identity_endpoint: String,
    pub(super) identity_header: &'a str,
}

/// Writes it. The service answers already when it is there.
pub(super) fn write_to(place: &Place, grpc: SocketAddr, vault: &str, azure: Option<&Served<'_>>) -> anyhow::Result<()> {
    let mut lines = vec![
        ("STRONGROOM_ENDPOINT", endpoint(grpc)),
        ("STRONGROOM_CA", quoted(&place.tls("ca.pem"))),
        ("STRONGROOM_CERT", quoted(&place.tls("client.pem"))),
        ("STRONGROOM_KEY", quoted(&place.tls("client.key"))),
        ("STRONGROOM_VAULT", vault.to_owned()),
    ];
    if let Some(azure) = azure {
        lines.extend([
            ("AKV_URL", azure.url.clone()),
            ("AKV_TOKEN", azure.token.to_owned()),
            ("AKV_TOKEN_READONLY", azure.token_readonly.to_owned()),
            ("AKV_CA", quoted(&place.tls("ca.pem"))),
            ("IDENTITY_ENDPOINT", azure.identity_endpoint.clone()),
            ("IDENTITY_HEADER", azure.identity_header.to_owned()),
        ]);
    }
    let text: String = lines.iter().map(|(name, value)| format!("export {name}={value}\n")).collect();
    write(&place.env(), text.as_bytes())
}

/// How clients on this machine reach that address.
pub(super) fn endpoint(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(ip, address.port()))
}

/// How clients on this machine reach the vault: by a name, for a vault is one.
pub(super) fn azure_url(address: SocketAddr) -> String {
    format!("https://localhost:{}", address.port())
}

/// A path as one word of a POSIX shell (IEEE 1003.1 section 2.2.2).
pub(in crate::cli) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_is_quoted() {
        for path in ["/tmp/a b", "/tmp/it's $HOME `x` \"y\" \\", "/tmp/plain"] {
            let script = format!("printf %s {}", quoted(Path::new(path)));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), path);
        }
    }

    #[test]
    fn an_endpoint_is_one_that_can_be_reached() {
        for (listen, endpoint_) in [
            ("127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("0.0.0.0:1", "https://127.0.0.1:1"),
            ("[::]:1", "https://[::1]:1"),
            ("10.0.0.7:1", "https://10.0.0.7:1"),
        ] {
            assert_eq!(endpoint(listen.parse().expect("an address")), endpoint_);
        }
    }
}
