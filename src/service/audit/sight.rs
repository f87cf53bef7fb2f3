//! Who sees which records. A record is about a vault when everything that it names lies in it: a batch that also
//! names another vault, or random bytes, is shown to those only who see everything.

use crate::{
    access::{Permit, ops},
    audit::{
        Record,
        index::{Query, Resource},
    },
    model::{Scope, VaultName},
    service::{Caller, Service},
};

/// What a reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Everything.
    All,
    /// What is about that vault.
    Vault(VaultName),
}

impl Sight {
    /// Whether it shows the record.
    pub(super) fn shows(&self, record: &Record) -> bool {
        match self {
            Self::All => true,
            Self::Vault(vault) => vault_of(record).as_ref() == Some(vault),
        }
    }
}

impl Service {
    /// What the holder of the permit sees with it now.
    pub(super) fn sight(&self, caller: &Caller, permit: &Permit<ops::AuditRecordsRead>) -> Sight {
        match permit.vault() {
            Some(vault) if !self.reads_at(caller, Scope::Service) => Sight::Vault(vault.clone()),
            _ => Sight::All,
        }
    }

    /// Whether the caller sees that record by a right at the vault that it is about.
    pub(super) fn sees(&self, caller: &Caller, record: &Record) -> bool {
        vault_of(record).is_some_and(|vault| self.reads_at(caller, Scope::Vault(vault)))
    }

    /// Whether the caller may read the records of that scope.
    pub(super) fn reads_at(&self, caller: &Caller, scope: Scope) -> bool {
        self.policy.permit::<ops::AuditRecordsRead>(&caller.identity, caller.origin, scope).is_ok()
    }
}

/// Where the right is asked for that a query takes: at the vault that it names, else at `/`.
pub(super) fn scope(query: &Query) -> Scope {
    let Some(Resource::Within(name) | Resource::Exactly(name)) = &query.resource else { return Scope::Service };
    named_vault(name).map_or(Scope::Service, Scope::Vault)
}

/// What the record of a reading names.
pub(super) fn resource(scope: &Scope) -> String {
    match scope {
        Scope::Service => "auditRecords".to_owned(),
        scope => format!("{scope}/auditRecords"),
    }
}

/// The vault that a record is about.
fn vault_of(record: &Record) -> Option<VaultName> {
    let groups = record.batch.iter().flat_map(|batch| &batch.groups).map(|group| &group.resource);
    let mut named = record.resource.iter().chain(groups).map(|name| named_vault(name));
    let first = named.next()??;
    named.all(|vault| vault.as_ref() == Some(&first)).then_some(first)
}

/// The vault of a resource's name.
fn named_vault(resource: &str) -> Option<VaultName> {
    let rest = resource.strip_prefix("vaults/")?;
    rest.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Batch, BatchGroup, Kind, Outcome},
        model::Timestamp,
    };

    fn record(resource: Option<&str>, groups: &[&str]) -> Record {
        let group = |resource: &&str| BatchGroup {
            operation: "keys.sign".to_owned(),
            resource: (*resource).to_owned(),
            residency: None,
            algorithm: None,
            ran: None,
            outcome: Outcome::Done,
            reason: None,
            count: 1,
        };
        let batch = Batch { groups: groups.iter().map(group).collect(), items: Vec::new() };
        Record {
            resource: resource.map(str::to_owned),
            batch: Some(batch).filter(|batch| !batch.groups.is_empty()),
            ..Record::new(Timestamp(0), Kind::Operation, "keys.batch", Outcome::Done)
        }
    }

    #[test]
    fn a_record_is_shown_in_a_vault_when_all_of_it_is_there() {
        let sight = Sight::Vault("dev".parse().expect("a vault"));
        for (resource, groups, shown) in [
            (Some("vaults/dev"), &[][..], true),
            (Some("vaults/dev/keys/a/versions/x"), &[], true),
            (Some("vaults/dev2/keys/a"), &[], false),
            (Some("roleAssignments/7"), &[], false),
            (None, &[], false),
            (None, &["vaults/dev/keys/a", "vaults/dev/keys/b"], true),
            (None, &["vaults/dev/keys/a", "vaults/other/keys/b"], false),
            (None, &["vaults/dev/keys/a", "random"], false),
            (Some("vaults/other"), &["vaults/dev/keys/a"], false),
        ] {
            assert_eq!(sight.shows(&record(resource, groups)), shown, "{resource:?} {groups:?}");
            assert!(Sight::All.shows(&record(resource, groups)));
        }
    }

    #[test]
    fn a_query_asks_for_a_right_at_the_vault_that_it_names() {
        for (resource, expected) in [
            (None, "/"),
            (Some("vaults/dev"), "vaults/dev"),
            (Some("vaults/Dev/keys/a/versions/x"), "vaults/dev"),
            (Some("vaults"), "/"),
            (Some("vaults/"), "/"),
            (Some("roleAssignments"), "/"),
        ] {
            let resource = resource.map(|name| Resource::Within(name.to_owned()));
            let query = Query { resource, ..Query::default() };
            assert_eq!(scope(&query).to_string().to_lowercase(), expected);
        }
    }
}
