//! From a query to the terms that a bundle must have for it. A bundle that has them may still have no such record;
//! one that has them not has none.

use super::{
    names::VAULTS,
    pass::TermKind,
    query::{Match, Query},
    write::outcome_name,
};

/// What a bundle must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Criterion {
    /// That term.
    Term(TermKind, String),
    /// An object of that name, or one within it.
    Objects(String),
}

/// All that a bundle must have.
pub(super) fn criteria(query: &Query) -> Vec<Criterion> {
    let term = |kind, text: &str| Criterion::Term(kind, text.to_owned());
    let principal = query.principal.as_deref().map(|principal| term(TermKind::Principal, principal));
    let operation = query.operation.as_deref().map(|operation| term(TermKind::Operation, operation));
    let outcome = query.outcome.map(|outcome| term(TermKind::Outcome, outcome_name(outcome)));
    resource(query).into_iter().chain(principal).chain(operation).chain(outcome).collect()
}

fn resource(query: &Query) -> Option<Criterion> {
    let (how, name) = query.named()?;
    let term = |kind, text: &str| Some(Criterion::Term(kind, text.to_owned()));
    match how {
        _ if name.is_object() => term(TermKind::Object, name.object()),
        Match::Exactly => term(TermKind::Object, name.object()),
        // All vaults: that is as good as everything.
        Match::Within if name.text() == VAULTS => None,
        Match::Within if name.text() == name.root() => term(TermKind::Root, name.root()),
        // All keys of a vault: there may be very many, and the vault itself narrows it down as well.
        Match::Within if is_type(name.text()) => term(TermKind::Root, name.root()),
        Match::Within => Some(Criterion::Objects(name.text().to_owned())),
    }
}

/// `vaults/{vault}/{type}`.
fn is_type(name: &str) -> bool {
    name.starts_with("vaults/") && name.matches('/').count() == 2
}
