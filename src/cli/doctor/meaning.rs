//! From what a module can do to what that means for keys, in sentences.

use std::fmt::Write as _;

use strongroom_hsm::{
    KeySpec, Residency,
    protocol::{ALLOWED_MECHANISMS, BIRTH, Capability, HIERARCHY, LOG_BY_ED25519, UNWRAP_TEMPLATE},
};

/// How it is known what a module can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It was tried.
    Tried,
    /// The module says so.
    Listed,
}

/// What these lines mean for keys.
pub(super) fn sentences(lines: &[Capability], evidence: Evidence) -> Vec<String> {
    let Some(hierarchy) = lines.iter().find(|line| line.what == HIERARCHY) else { return Vec::new() };
    if !hierarchy.works {
        return vec![format!("No service can be kept on this token, and `init` refuses it: {}.", hierarchy.note)];
    }
    let mut said = vec!["A service can be kept on this token.".to_owned()];
    said.extend(residencies(lines));
    said.extend(partly(lines));
    match evidence {
        Evidence::Tried => said.extend(protections(lines)),
        Evidence::Listed => said.push(
            "Nothing of this was tried. Which curves the module has, what it makes of a root's unwrap template, and \
             whether it holds keys to their mechanisms, shows when it is."
                .to_owned(),
        ),
    }
    said
}

fn has_key(lines: &[Capability], spec: KeySpec, residency: Residency) -> bool {
    let is_it = |line: &&Capability| {
        line.cell.is_some_and(|cell| cell.spec == spec && cell.residency == residency && cell.algorithm.is_none())
    };
    lines.iter().find(is_it).is_some_and(|line| line.works)
}

/// Which kinds of key can live where.
fn residencies(lines: &[Capability]) -> Vec<String> {
    let names = |chosen: &dyn Fn(bool, bool) -> bool| {
        let kinds = KeySpec::ALL
            .into_iter()
            .filter(|spec| chosen(has_key(lines, *spec, Residency::Wrapped), has_key(lines, *spec, Residency::Token)));
        kinds.map(KeySpec::name).collect::<Vec<_>>().join(", ")
    };
    let mut said = Vec::new();
    for (kinds, sentence) in [
        (names(&|wrapped, token| wrapped && token), "Wrapped in the store (the default) or on the token:"),
        (names(&|wrapped, token| wrapped && !token), "Wrapped in the store only:"),
        (names(&|wrapped, token| !wrapped && token), "On the token only, and so in no backup and no escrow:"),
        (names(&|wrapped, token| !wrapped && !token), "Not at all:"),
    ] {
        if !kinds.is_empty() {
            said.push(format!("{sentence} {kinds}."));
        }
    }
    said
}

/// Keys that can be made, and not used with every algorithm.
fn partly(lines: &[Capability]) -> Option<String> {
    let mut missing = String::new();
    for line in lines.iter().filter(|line| !line.works) {
        let Some(algorithm) = line.cell.and_then(|cell| cell.algorithm) else { continue };
        let separator = if missing.is_empty() { "" } else { ", " };
        let name = line.what.trim_end_matches(algorithm.name()).trim_end();
        let _ = write!(missing, "{separator}{} with {name}", algorithm.name());
    }
    (!missing.is_empty()).then(|| format!("Not offered: {missing}."))
}

/// What the module itself protects.
fn protections(lines: &[Capability]) -> Vec<String> {
    let works = |what: &str| lines.iter().any(|line| line.what == what && line.works);
    let either = |what: &str, yes: &str, no: &str| if works(what) { yes.to_owned() } else { no.to_owned() };
    vec![
        either(
            UNWRAP_TEMPLATE,
            "PIN and store together open no wrapped key: the root lets nothing out readable.",
            "Whoever has both the PIN and the store can read every wrapped key: the module has no unwrap template \
             that it honours. Guard them apart, or keep keys on the token.",
        ),
        either(
            ALLOWED_MECHANISMS,
            "A key is held to the mechanisms of its operations by the module.",
            "A key is held to its mechanisms by the service alone: whoever has the PIN can use a key on the token \
             with any of its type.",
        ),
        either(
            BIRTH,
            "A key on the token that was not born there is refused.",
            "The module does not say which keys were born on the token, so secret keys (AES, HMAC) are not made \
             there, only imported: one that somebody with the PIN has put in its place could pass for it.",
        ),
        either(LOG_BY_ED25519, "The log is signed with Ed25519.", "The log is signed with ECDSA P-256."),
    ]
}

#[cfg(test)]
mod tests {
    use strongroom_hsm::{Algorithm, protocol::Cell};

    use super::*;

    fn line(what: &str, works: bool) -> Capability {
        Capability { what: what.to_owned(), cell: None, works, note: "for a reason".to_owned() }
    }

    fn key(spec: KeySpec, residency: Residency, works: bool) -> Capability {
        let name = format!("{} {}", spec.name(), residency.name());
        Capability { cell: Some(Cell { spec, residency, algorithm: None }), ..line(&name, works) }
    }

    #[test]
    fn each_kind_of_key_is_said_to_be_where_it_can_be() {
        let lines = [
            line(HIERARCHY, true),
            key(KeySpec::Rsa2048, Residency::Wrapped, true),
            key(KeySpec::Rsa2048, Residency::Token, true),
            key(KeySpec::P256, Residency::Wrapped, true),
            key(KeySpec::P256, Residency::Token, false),
            key(KeySpec::P384, Residency::Token, true),
        ];
        let said = sentences(&lines, Evidence::Tried);
        assert_eq!(said[1], "Wrapped in the store (the default) or on the token: RSA-2048.");
        assert_eq!(said[2], "Wrapped in the store only: P-256.");
        assert_eq!(said[3], "On the token only, and so in no backup and no escrow: P-384.");
        assert!(said[4].starts_with("Not at all: RSA-3072, "));
        assert!(said.iter().any(|sentence| sentence.starts_with("Whoever has both the PIN and the store")));
    }

    #[test]
    fn what_a_key_cannot_do_is_said() {
        let cell = Cell { spec: KeySpec::Aes128, residency: Residency::Token, algorithm: Some(Algorithm::A128Gcm) };
        let gcm = Capability { cell: Some(cell), ..line("AES-128 token A128GCM", false) };
        let said = sentences(&[line(HIERARCHY, true), gcm], Evidence::Listed);
        assert!(said.contains(&"Not offered: A128GCM with AES-128 token.".to_owned()), "{said:?}");
        assert!(said.iter().any(|sentence| sentence.starts_with("Nothing of this was tried.")));
    }

    #[test]
    fn a_module_that_cannot_carry_a_service_is_told_why() {
        let said = sentences(&[line(HIERARCHY, false)], Evidence::Tried);
        let expected = "No service can be kept on this token, and `init` refuses it: for a reason.";
        assert_eq!(said, [expected]);
    }
}
