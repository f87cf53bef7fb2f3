//! What every store promises, as tests that run on any: [`contract_tests!`] makes one test of each
//! point, on an empty store of its own.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{
    Activity, Beat, Change, CommitError, EventPlace, Forgotten, HeadChange, HeadScope, Heard, Position, Replica,
    Sealed, Step, Store, Undelivered, Use, Way, WebhookState, WorkLease, Write, copy, sqlite::SqliteStore,
};
use crate::model::{
    ADMINISTRATOR, EventRow, Fate, IssuerKeyRow, KeyObjectRow, KeyOps, KeySpec, KnownRow, LogKeys, MaxStaleness,
    NetworkRules, ReplicaRow, Residency, RetiredKek, Row, RowId, RowKind, Scope, SecretRow, SecretVersionRow, State,
    Timestamp, TokenRow, UsageRow, VaultAuthorization, VaultName, VersionRow,
};

pub(crate) mod everything;
pub(crate) mod fixtures;

use fixtures::{
    access_policy, assignment, bare, beat, change, clock, event, head, instance, issuer_key, key, key_name, known,
    odd_tags, replica, replica_name, request, request_id, role_definition, sealed, secret, secret_version, step, token,
    usage, vault, vault_name, version, version_id, with_policy,
};

/// Makes the tests. `$fresh` is an async function that gives something to keep and an empty store, or nothing
/// where there is no such database to test with.
macro_rules! contract_tests {
    ($fresh:path) => {
        $crate::store::contract::contract_tests! { @each $fresh:
            an_empty_store_holds_nothing,
            instances_come_back,
            vaults_come_back,
            keys_come_back,
            versions_come_back,
            usage_comes_back,
            known_comes_back,
            secrets_come_back,
            versions_of_secrets_come_back_with_their_values,
            secrets_are_found_when_something_is_due_and_taken_away,
            what_comes_back_goes_on_with_its_revisions,
            a_version_moves_with_its_counter,
            assignments_come_and_go,
            tokens_come_and_go,
            issuer_keys_come_and_go,
            retired_keks_are_known_and_what_is_under_them,
            roles_come_change_and_go,
            access_policies_come_change_and_go,
            heads_come_back,
            vault_names_are_unique_while_they_exist,
            key_names_are_unique_without_case,
            ids_are_unique,
            vaults_page_in_order,
            keys_page_in_order,
            keys_are_found_when_they_are_to_be_looked_at,
            versions_page_newest_first,
            a_stale_revision_is_a_conflict,
            a_stale_head_is_a_conflict,
            a_missing_parent_is_a_conflict,
            nothing_of_a_refused_change_is_applied,
            a_version_spells_its_key_as_the_key_does,
            a_change_lists_its_rows_in_any_order,
            numbers_that_cannot_be_kept_are_refused,
            requests_are_remembered_and_forgotten,
            a_scope_is_what_was_written,
            of_concurrent_changes_of_a_head_one_wins,
            readers_see_whole_changes,
            what_is_saved_is_of_one_moment,
            a_dropped_commit_is_whole_or_nothing,
            what_was_changed_is_heard,
            no_concurrent_change_is_missed,
            a_way_is_told_step_by_step,
            a_way_that_was_forgotten_is_none,
            replicas_come_back_and_beat,
            a_lease_is_taken_kept_and_given_back,
            a_lease_lapses,
            of_two_takers_one_gets_the_lease,
            a_fenced_change_applies_nothing,
            a_lease_is_not_taken_during_a_change_under_it,
            what_is_to_be_purged_is_found_and_taken_away,
            events_come_in_the_order_of_their_changes,
            old_events_are_forgotten_but_those_that_wait,
            old_events_are_forgotten_some_at_a_time,
            deliveries_are_queued_settled_and_replayed,
            the_clock_is_set_by_one,
            uses_add_up,
            a_closed_store_fails,
        }
    };
    (@each $fresh:path: $($point:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $point() {
                let Some((_keep, store)) = $fresh().await else { return };
                $crate::store::contract::$point(std::sync::Arc::new(store)).await;
            }
        )*
    };
}
pub(crate) use contract_tests;

type AnyStore = Arc<dyn Store>;

async fn must(store: &AnyStore, change: Change) {
    store.commit(change).await.expect("the change is applied");
}

async fn conflict(store: &AnyStore, change: Change) {
    let result = store.commit(change).await;
    assert!(matches!(result, Err(CommitError::Conflict)), "{result:?}");
}

async fn exists(store: &AnyStore, change: Change) {
    let result = store.commit(change).await;
    assert!(matches!(result, Err(CommitError::Exists)), "{result:?}");
}

/// A vault `dev` with a key `Root` and its version 2.
async fn furnish(store: &AnyStore) {
    let rows = [
        Write::Vault(sealed(vault(1, "dev"))),
        Write::Key(sealed(key(2, "dev", "Root"))),
        Write::Version(sealed(version(2, "dev", "Root", 1))),
    ];
    must(store, change(rows)).await;
}

fn deleted(since: i64, purge_at: i64) -> State {
    State::Deleted { since: Timestamp(since), purge_at: Timestamp(purge_at) }
}

pub(crate) async fn an_empty_store_holds_nothing(store: AnyStore) {
    let (dev, root) = (vault_name("dev"), key_name("root"));
    assert_eq!(store.instance().await.expect("read"), None);
    assert_eq!(store.vault(&dev).await.expect("read"), None);
    assert_eq!(store.vaults(None, 10, true).await.expect("read"), []);
    assert_eq!(store.key(&dev, &root).await.expect("read"), None);
    assert_eq!(store.keys(&dev, None, 10, true).await.expect("read"), []);
    assert_eq!(store.version(&dev, version_id(1)).await.expect("read"), None);
    assert_eq!(store.versions(&dev, &root, None, 10).await.expect("read"), []);
    assert!(!store.version_exists(version_id(1)).await.expect("read"));
    assert_eq!(store.usage(version_id(1)).await.expect("read"), None);
    assert_eq!(store.assignments().await.expect("read"), []);
    assert_eq!(store.tokens().await.expect("read"), []);
    assert_eq!(store.issuer_keys().await.expect("read"), []);
    assert_eq!(store.heads().await.expect("read"), []);
    for scope in [HeadScope::Service, HeadScope::Vault([1; 16])] {
        let found = store.scope(&scope).await.expect("read");
        assert!(found.head.is_none() && found.rows.is_empty());
    }
    must(&store, change([])).await;
}

pub(crate) async fn instances_come_back(store: AnyStore) {
    let mut row = instance();
    must(&store, change([Write::instance(sealed(row.clone()))])).await;
    assert_eq!(store.instance().await.expect("read"), Some(sealed(row.clone())));
    row.revision = 2;
    row.escrow.clear();
    (row.service_keys.root, row.renewal, row.log_keys) = (None, None, LogKeys::default());
    row.development = false;
    row.unwrap_template = true;
    row.service_keys.log_public = vec![7; 2500].into();
    must(&store, change([Write::instance(sealed(row.clone()))])).await;
    assert_eq!(store.instance().await.expect("read"), Some(sealed(row.clone())));
    row.revision = 1;
    row.id = [201; 16];
    exists(&store, change([Write::instance(sealed(row))])).await;
}

/// As many ranges as there can be, of both families.
fn most_rules() -> NetworkRules {
    let of_v6 = (0..500).map(|n| format!("2001:db8:{n:x}::/48"));
    let of_v4 = (0..500).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256));
    let ranges = of_v6.chain(of_v4).map(|range| range.parse().expect("a range")).collect();
    NetworkRules::new(false, false, ranges).expect("right")
}

pub(crate) async fn vaults_come_back(store: AnyStore) {
    let mut row = vault(1, "abcdefghijklmnopqrstuvwx");
    must(&store, change([Write::Vault(sealed(row.clone()))])).await;
    assert_eq!(store.vault(&row.name).await.expect("read"), Some(sealed(row.clone())));
    row.revision = 2;
    row.tags = odd_tags();
    row.retention_days = 7;
    row.purge_protection = true;
    row.network = most_rules();
    row.authorization = VaultAuthorization::AccessPolicies;
    row.max_staleness = MaxStaleness::MAX;
    row.created = Timestamp(i64::MIN);
    row.updated = Timestamp::MAX;
    row.state = deleted(0, i64::MAX);
    must(&store, change([Write::Vault(sealed(row.clone()))])).await;
    assert_eq!(store.vault(&row.name).await.expect("read"), Some(sealed(row)));
}

pub(crate) async fn keys_come_back(store: AnyStore) {
    furnish(&store).await;
    let mut row = key(3, "dev", &"aZ-".repeat(43)[..127]);
    must(&store, change([Write::Key(sealed(row.clone()))])).await;
    let found = store.key(&row.vault, &key_name(&row.name.folded())).await.expect("read").expect("a key");
    assert_eq!(found, sealed(row.clone()));
    // Equality of names does not see case; what is sealed does.
    assert_eq!(found.unchecked().name.as_str(), row.name.as_str());
    row.revision = 2;
    row.current = version_id(0);
    row.state = deleted(-1, 0);
    row.updated = Timestamp(0);
    must(&store, change([Write::Key(sealed(row.clone()))])).await;
    assert_eq!(store.key(&row.vault, &row.name).await.expect("read"), Some(sealed(row.clone())));
    let mut row = with_policy(row);
    row.revision = 3;
    must(&store, change([Write::Key(sealed(row.clone()))])).await;
    let found = store.key(&row.vault, &row.name).await.expect("read").expect("a key");
    assert_eq!(found, sealed(row.clone()));
    assert_eq!(found.unchecked().canonical(), row.canonical());
    assert_ne!(row.canonical(), KeyObjectRow { noted: None, ..row.clone() }.canonical());
    assert_eq!(row.canonical(), KeyObjectRow { due: None, ..row.clone() }.canonical());
}

pub(crate) async fn versions_come_back(store: AnyStore) {
    furnish(&store).await;
    let dev = vault_name("dev");
    let mut row = version(3, "dev", "Root", 2);
    for (n, spec) in KeySpec::ALL.into_iter().enumerate() {
        row.version = version_id(100 + n as u8);
        row.ordinal = 2 + n as u64;
        row.spec = spec;
        row.ops = spec.possible_ops();
        must(&store, change([Write::Version(sealed(row.clone()))])).await;
        let found = store.version(&dev, row.version).await.expect("read").expect("a version");
        assert_eq!(found, sealed(row.clone()));
        assert_eq!(found.unchecked().canonical(), row.canonical(), "the spelling of the key too");
    }
    row.revision = 2;
    row.ops = KeyOps::NONE;
    row.enabled = false;
    row.not_before = Some(Timestamp(0));
    row.expires = Some(Timestamp::MAX);
    row.tags = odd_tags();
    row.residency = Residency::Token;
    row.blob = (0..2_560_u32).map(|n| n as u8).collect();
    row.public = vec![255; 2_500];
    row.check_value = vec![0; 3];
    row.intent = (1 << 62) + 1;
    must(&store, change([Write::Version(sealed(row.clone()))])).await;
    assert_eq!(store.version(&dev, row.version).await.expect("read"), Some(sealed(row.clone())));
    assert!(store.version_exists(row.version).await.expect("read"));
    assert!(!store.version_exists(version_id(99)).await.expect("read"));
    // A version is found under its own key and vault only.
    assert_eq!(store.version(&vault_name("prod"), row.version).await.expect("read"), None);
}

pub(crate) async fn known_comes_back(store: AnyStore) {
    must(&store, change([Write::Vault(sealed(vault(1, "dev"))), Write::Vault(sealed(vault(2, "prod")))])).await;
    let of_vault = |n| store.known([1; 16], [n; 16]);
    assert_eq!(of_vault(2).await.expect("read"), None);
    let (other, first) = (KnownRow { vault: [2; 16], ..known(2, 1) }, KnownRow { fate: Fate::Here, ..known(3, 1) });
    for row in [known(2, 1), known(2, 2), other.clone(), first.clone()] {
        must(&store, change([Write::Known(sealed(row.clone()))])).await;
        assert_eq!(store.known(row.vault, row.id).await.expect("read"), Some(sealed(row)));
    }
    exists(&store, change([Write::Known(sealed(known(2, 1)))])).await;
    conflict(&store, change([Write::Known(sealed(known(2, 2)))])).await;
    let all = store.all_known([1; 16], None, 9).await.expect("read");
    assert_eq!(all, [sealed(known(2, 2)), sealed(first.clone())]);
    assert_eq!(store.all_known([1; 16], None, 1).await.expect("read"), all[..1]);
    assert_eq!(store.all_known([1; 16], Some([2; 16]), 9).await.expect("read"), all[1..]);
    let rows = store.scope(&HeadScope::Vault([1; 16])).await.expect("read").rows;
    assert_eq!(rows.iter().filter(|(id, ..)| id.kind == RowKind::Known).count(), 2);
    conflict(&store, change([Write::RemoveVault([2; 16])])).await;
    must(&store, change([Write::RemoveVault([2; 16]), Write::RemoveKnown([2; 16], other.id)])).await;
    conflict(&store, change([Write::RemoveKnown([1; 16], [9; 16])])).await;
    assert_eq!(store.all_known([1; 16], None, 9).await.expect("read").len(), 2);
}

pub(crate) async fn secrets_come_back(store: AnyStore) {
    must(&store, change([Write::Vault(sealed(vault(1, "dev"))), Write::Vault(sealed(vault(2, "prod")))])).await;
    let dev = vault_name("dev");
    let (one, other) = (secret(3, "dev", "Db-Password"), secret(4, "dev", "api"));
    // A key of the same name is another thing.
    let twin = Write::Key(sealed(key(2, "dev", "db-password")));
    must(&store, change([Write::Secret(sealed(one.clone())), Write::Secret(sealed(other.clone())), twin])).await;
    assert_eq!(store.secret(&dev, &key_name("DB-PASSWORD")).await.expect("read"), Some(sealed(one.clone())));
    assert_eq!(store.secret(&vault_name("prod"), &one.name).await.expect("read"), None);
    exists(&store, change([Write::Secret(sealed(secret(9, "dev", "dB-password")))])).await;
    let mut next = SecretRow { revision: 2, current: version_id(7), blob: vec![1; 300], kek: None, ..one.clone() };
    next.check_value = Vec::new();
    (next.state, next.noted, next.due) = (deleted(5, 6), Some(Timestamp(i64::MAX)), None);
    must(&store, change([Write::Secret(sealed(next.clone()))])).await;
    conflict(&store, change([Write::Secret(sealed(next.clone()))])).await;
    assert_eq!(store.secret(&dev, &one.name).await.expect("read"), Some(sealed(next.clone())));
    assert_eq!(store.secrets(&dev, None, 9, false).await.expect("read"), [sealed(other.clone())]);
    let all = store.secrets(&dev, None, 9, true).await.expect("read");
    assert_eq!(all, [sealed(other.clone()), sealed(next.clone())]);
    assert_eq!(store.secrets(&dev, Some(&other.name), 9, true).await.expect("read"), all[1..]);
    assert_eq!(store.secrets(&dev, None, 1, true).await.expect("read"), all[..1]);
    assert!(!store.is_wrapped_under(version_id(77)).await.expect("read"));
    let under = SecretRow { revision: 3, kek: Some(version_id(77)), ..next };
    must(&store, change([Write::Secret(sealed(under))])).await;
    assert!(store.is_wrapped_under(version_id(77)).await.expect("read"));
}

pub(crate) async fn versions_of_secrets_come_back_with_their_values(store: AnyStore) {
    let dev = vault_name("dev");
    let (one, first) = (secret(3, "dev", "Db"), secret_version(5, "dev", "Db", 1));
    let rows = [Write::SecretVersion(sealed(first.clone())), Write::Secret(sealed(one.clone()))];
    must(&store, change([Write::Vault(sealed(vault(1, "dev")))].into_iter().chain(rows))).await;
    let empty = SecretVersionRow { ciphertext: Vec::new(), ..secret_version(6, "dev", "Db", 2) };
    must(&store, change([Write::SecretVersion(sealed(empty.clone()))])).await;
    for row in [&first, &empty] {
        assert_eq!(store.secret_version(&dev, row.version).await.expect("read"), Some(sealed(row.clone())));
        assert!(store.version_exists(row.version).await.expect("read"));
    }
    exists(&store, change([Write::SecretVersion(sealed(first.clone()))])).await;
    conflict(&store, change([Write::SecretVersion(sealed(secret_version(7, "dev", "Db", 2)))])).await;
    conflict(&store, change([Write::SecretVersion(sealed(secret_version(7, "dev", "Gone", 1)))])).await;
    // Another revision of it keeps the value, whatever it says of that.
    let mut changed = SecretVersionRow { revision: 2, enabled: false, tags: odd_tags(), ..first.clone() };
    (changed.content_type, changed.not_before, changed.expires) = (String::new(), Some(Timestamp(0)), None);
    let without = SecretVersionRow { ciphertext: Vec::new(), ..changed.clone() };
    must(&store, change([Write::SecretVersion(sealed(without.clone()))])).await;
    assert_eq!(store.secret_version(&dev, first.version).await.expect("read"), Some(sealed(changed)));
    let page = store.secret_versions(&dev, &key_name("DB"), None, 9).await.expect("read");
    assert_eq!(page, [sealed(empty.clone()), sealed(without.clone())], "without values");
    assert_eq!(store.secret_versions(&dev, &one.name, Some(2), 9).await.expect("read"), page[1..]);
    assert_eq!(store.secret_versions(&dev, &one.name, None, 1).await.expect("read"), page[..1]);
    // What comes back has its value whatever its revision.
    let anew = SecretVersionRow { revision: 5, ..secret_version(8, "dev", "Db", 3) };
    must(&store, change([Write::Anew(Box::new(Write::SecretVersion(sealed(anew.clone()))))])).await;
    assert_eq!(store.secret_version(&dev, anew.version).await.expect("read"), Some(sealed(anew)));
    let rows = store.scope(&HeadScope::Vault([1; 16])).await.expect("read").rows;
    let count = |kind| rows.iter().filter(|(id, ..)| id.kind == kind).count();
    assert_eq!((count(RowKind::Secret), count(RowKind::SecretVersion)), (1, 3));
}

pub(crate) async fn secrets_are_found_when_something_is_due_and_taken_away(store: AnyStore) {
    let due = |n: u8, name: &str, at| SecretRow { due: Some(Timestamp(at)), ..secret(n, "dev", name) };
    let gone = SecretRow { state: deleted(1, 50), ..due(5, "c", 10) };
    let rows = [due(3, "a", 20), due(4, "b", 10), gone.clone()].map(|row| Write::Secret(sealed(row)));
    must(&store, change([Write::Vault(sealed(vault(1, "dev")))].into_iter().chain(rows))).await;
    must(&store, change([Write::SecretVersion(sealed(secret_version(6, "dev", "c", 1)))])).await;
    let found = store.secrets_due(Timestamp(20), None, 9).await.expect("read");
    assert_eq!(found.iter().map(|found| found.object.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(store.secrets_due(Timestamp(19), None, 9).await.expect("read"), found[..1]);
    let after = Some((Timestamp(10), found[0].id));
    assert_eq!(store.secrets_due(Timestamp(20), after, 9).await.expect("read"), found[1..]);
    assert!(store.secrets_to_purge(Timestamp(49), None, 9).await.expect("read").is_empty());
    let found = store.secrets_to_purge(Timestamp(50), None, 9).await.expect("read");
    assert_eq!((found.len(), found[0].object.as_str(), found[0].at, found[0].version), (1, "c", Timestamp(50), None));
    conflict(&store, change([Write::RemoveSecret(gone.id)])).await;
    let removals = [Write::RemoveSecret(gone.id), Write::RemoveSecretVersion(version_id(6))];
    must(&store, change(removals)).await;
    assert_eq!(store.secret(&vault_name("dev"), &gone.name).await.expect("read"), None);
    assert!(!store.version_exists(version_id(6)).await.expect("read"));
    conflict(&store, change([Write::RemoveSecretVersion(version_id(6))])).await;
}

pub(crate) async fn what_comes_back_goes_on_with_its_revisions(store: AnyStore) {
    must(&store, change([Write::Vault(sealed(vault(1, "dev")))])).await;
    let key = KeyObjectRow { revision: 7, ..key(2, "dev", "Root") };
    let newest = VersionRow { revision: 9, ..version(2, "dev", "Root", 4) };
    let anew = |write| Write::Anew(Box::new(write));
    let rows = [anew(Write::Version(sealed(newest.clone()))), anew(Write::Key(sealed(key.clone())))];
    must(&store, change(rows.clone())).await;
    let (dev, root) = (vault_name("dev"), key_name("root"));
    assert_eq!(store.key(&dev, &root).await.expect("read"), Some(sealed(key.clone())));
    assert_eq!(store.version(&dev, newest.version).await.expect("read"), Some(sealed(newest.clone())));
    let next = KeyObjectRow { revision: 8, ..key };
    must(&store, change([Write::Key(sealed(next))])).await;
    exists(&store, change([rows[1].clone()])).await;
    // What follows in the same change is written as ever.
    let wrong = VersionRow { revision: 11, ..newest.clone() };
    let other = KeyObjectRow { revision: 3, ..self::key(5, "dev", "Other") };
    conflict(&store, change([anew(Write::Key(sealed(other))), Write::Version(sealed(wrong))])).await;
    assert_eq!(store.key(&dev, &key_name("other")).await.expect("read"), None);
}

pub(crate) async fn a_version_moves_with_its_counter(store: AnyStore) {
    let here = [Write::Vault(sealed(vault(1, "dev"))), Write::Key(sealed(key(2, "dev", "Root")))];
    let counted = [Write::Version(sealed(version(2, "dev", "Root", 1))), Write::Usage(sealed(usage(2, 5, 1)))];
    must(&store, change(here.into_iter().chain(counted).chain([Write::Vault(sealed(vault(4, "prod")))]))).await;
    let arrived = KeyObjectRow { revision: 2, current: version_id(2), ..key(8, "prod", "Root") };
    let moved = VersionRow { revision: 2, ..version(2, "prod", "Root", 1) };
    let write = |revision| {
        change([
            Write::RemoveKey([2; 16]),
            Write::MovedUsage(sealed(usage(2, 5, revision))),
            Write::Version(sealed(moved.clone())),
            Write::Anew(Box::new(Write::Key(sealed(arrived.clone())))),
        ])
    };
    conflict(&store, write(3)).await;
    must(&store, write(2)).await;
    let prod = vault_name("prod");
    assert_eq!(store.version(&prod, version_id(2)).await.expect("read"), Some(sealed(moved.clone())));
    assert_eq!(store.version(&vault_name("dev"), version_id(2)).await.expect("read"), None);
    assert_eq!(store.usage(version_id(2)).await.expect("read"), Some(sealed(usage(2, 5, 2))));
    let kinds = async |vault: u8| {
        let rows = store.scope(&HeadScope::Vault([vault; 16])).await.expect("read").rows;
        let mut kinds: Vec<RowKind> = rows.into_iter().map(|(id, ..)| id.kind).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(1).await, []);
    assert_eq!(kinds(4).await, [RowKind::Key, RowKind::Version, RowKind::Usage]);
}

pub(crate) async fn usage_comes_back(store: AnyStore) {
    furnish(&store).await;
    for (revision, encryptions) in [(1, 0), (2, 1 << 32), (3, i64::MAX as u64)] {
        let row: UsageRow = usage(2, encryptions, revision);
        must(&store, change([Write::Usage(sealed(row))])).await;
        assert_eq!(store.usage(row.version).await.expect("read"), Some(sealed(row)));
    }
    exists(&store, change([Write::Usage(sealed(usage(2, 0, 1)))])).await;
}

pub(crate) async fn assignments_come_and_go(store: AnyStore) {
    let mut first = assignment(1, Scope::Service);
    first.role = ADMINISTRATOR;
    first.principal = format!("x509:{}", "~".repeat(2043)).parse().expect("a principal");
    let second = assignment(2, "vaults/dev/keys/Root-1".parse().expect("a scope"));
    let writes = [Write::Assignment(sealed(second.clone())), Write::Assignment(sealed(first.clone()))];
    must(&store, change(writes)).await;
    assert_eq!(store.assignments().await.expect("read"), [sealed(first.clone()), sealed(second.clone())]);
    assert_eq!(store.assignment(second.id).await.expect("read"), Some(sealed(second.clone())));
    must(&store, change([Write::RemoveAssignment(first.id)])).await;
    assert_eq!(store.assignment(first.id).await.expect("read"), None);
    assert_eq!(store.assignments().await.expect("read"), [sealed(second)]);
    conflict(&store, change([Write::RemoveAssignment(first.id)])).await;
}

pub(crate) async fn tokens_come_and_go(store: AnyStore) {
    let (first, second) = (token(1), TokenRow { expires: Timestamp(i64::MAX), ..token(2) });
    must(&store, change([Write::Token(sealed(second.clone())), Write::Token(sealed(first.clone()))])).await;
    assert_eq!(store.tokens().await.expect("read"), [sealed(first.clone()), sealed(second.clone())]);
    exists(&store, change([Write::Token(sealed(first.clone()))])).await;
    must(&store, change([Write::RemoveToken(first.id)])).await;
    assert_eq!(store.tokens().await.expect("read"), [sealed(second)]);
    // Somebody else took it away first.
    conflict(&store, change([Write::RemoveToken(first.id)])).await;
}

pub(crate) async fn retired_keks_are_known_and_what_is_under_them(store: AnyStore) {
    furnish(&store).await;
    let exists = async |n| store.kek_exists(version_id(n)).await.expect("read");
    let vaults =
        async |after: Option<&VaultName>, limit| store.vaults_with_retired_keks(after, limit).await.expect("read");
    let retired = |n| RetiredKek { id: version_id(n), retired: Timestamp(i64::from(n)) };
    let row = crate::model::VaultRow { retired_keks: vec![retired(0x31), retired(0x32)], ..vault(41, "many") };
    let one = crate::model::VaultRow { retired_keks: vec![retired(0x33)], ..vault(43, "one") };
    let none = crate::model::VaultRow { retired_keks: Vec::new(), ..vault(47, "none") };
    must(&store, change([row.clone(), one, none].map(|row| Write::Vault(sealed(row))))).await;
    assert_eq!(store.vault(&row.name).await.expect("read"), Some(sealed(row.clone())));
    assert!(exists(41).await && exists(0x31).await && exists(0x32).await && exists(0x33).await && !exists(0x34).await);
    assert_eq!(vaults(None, 9).await, [vault_name("many"), vault_name("one")]);
    assert_eq!(vaults(None, 1).await, [vault_name("many")]);
    assert_eq!(vaults(Some(&vault_name("many")), 9).await, [vault_name("one")]);
    let next = crate::model::VaultRow { retired_keks: vec![retired(0x32)], revision: 2, ..row };
    must(&store, change([Write::Vault(sealed(next.clone()))])).await;
    assert!(!exists(0x31).await && exists(0x32).await);
    let under = VersionRow { kek: Some(version_id(0x31)), ..version(99, "dev", "Root", 99) };
    must(&store, change([Write::Version(sealed(under))])).await;
    assert!(store.is_wrapped_under(version_id(0x31)).await.expect("read"), "a version is, whatever vaults say");
    assert!(!store.is_wrapped_under(version_id(0x32)).await.expect("read"));
}

pub(crate) async fn issuer_keys_come_and_go(store: AnyStore) {
    let (first, second) = (IssuerKeyRow { created: Timestamp(1), ..issuer_key(9) }, issuer_key(1));
    must(&store, change([Write::IssuerKey(sealed(second.clone())), Write::IssuerKey(sealed(first.clone()))])).await;
    assert_eq!(
        store.issuer_keys().await.expect("read"),
        [sealed(first.clone()), sealed(second.clone())],
        "oldest first"
    );
    exists(&store, change([Write::IssuerKey(sealed(first.clone()))])).await;
    must(&store, change([Write::RemoveIssuerKey(first.id)])).await;
    assert_eq!(store.issuer_keys().await.expect("read"), [sealed(second)]);
    // Somebody else took it away first.
    conflict(&store, change([Write::RemoveIssuerKey(first.id)])).await;
}

pub(crate) async fn roles_come_change_and_go(store: AnyStore) {
    let first = role_definition(1, "Signer");
    let second = role_definition(2, "signers");
    let writes = [Write::RoleDefinition(sealed(second.clone())), Write::RoleDefinition(sealed(first.clone()))];
    must(&store, change(writes)).await;
    assert_eq!(store.role_definitions().await.expect("read"), [sealed(first.clone()), sealed(second.clone())]);
    exists(&store, change([Write::RoleDefinition(sealed(role_definition(3, "SIGNER")))])).await;
    let mut newer = first.clone();
    (newer.revision, newer.name, newer.patterns.actions) = (2, "Ünïcode".to_owned(), Vec::new());
    must(&store, change([Write::RoleDefinition(sealed(newer.clone()))])).await;
    conflict(&store, change([Write::RoleDefinition(sealed(newer.clone()))])).await;
    assert_eq!(store.role_definitions().await.expect("read"), [sealed(newer), sealed(second)]);
    must(&store, change([Write::RemoveRoleDefinition(first.id)])).await;
    conflict(&store, change([Write::RemoveRoleDefinition(first.id)])).await;
    assert_eq!(store.role_definitions().await.expect("read").len(), 1);
}

pub(crate) async fn access_policies_come_change_and_go(store: AnyStore) {
    furnish(&store).await;
    let first = access_policy("dev", "spiffe://example.org/ci");
    let other = access_policy("dev", &format!("x509:{}", "~".repeat(2043)));
    let writes = [Write::AccessPolicy(sealed(first.clone())), Write::AccessPolicy(sealed(other.clone()))];
    must(&store, change(writes)).await;
    let id = first.row_id().id;
    assert_eq!(store.access_policy(id).await.expect("read"), Some(sealed(first.clone())));
    assert_eq!(store.access_policies().await.expect("read").len(), 2);
    exists(&store, change([Write::AccessPolicy(sealed(first.clone()))])).await;
    conflict(&store, change([Write::AccessPolicy(sealed(access_policy("prod", "a:b")))])).await;
    let mut newer = first.clone();
    newer.permissions.add(crate::model::ObjectType::Certificates, "list").expect("a permission");
    newer.revision = 2;
    must(&store, change([Write::AccessPolicy(sealed(newer.clone()))])).await;
    assert_eq!(store.access_policy(id).await.expect("read"), Some(sealed(newer)));
    must(&store, change([Write::RemoveAccessPolicy(id)])).await;
    conflict(&store, change([Write::RemoveAccessPolicy(id)])).await;
    assert_eq!(store.access_policies().await.expect("read"), [sealed(other)]);
}

pub(crate) async fn heads_come_back(store: AnyStore) {
    let service = head(HeadScope::Service, 1, &[]);
    let rows = [(RowId { kind: RowKind::Key, id: [9; 16] }, 3, [4; 32])];
    let of_vault = head(HeadScope::Vault([1; 16]), 1, &rows);
    must(&store, Change { heads: vec![bare(of_vault.clone()), bare(service.clone())], ..change([]) }).await;
    assert_eq!(store.head(&HeadScope::Service).await.expect("read"), Some(sealed(service.clone())));
    assert_eq!(store.head(&of_vault.scope).await.expect("read"), Some(sealed(of_vault.clone())));
    assert_eq!(store.head(&HeadScope::Vault([2; 16])).await.expect("read"), None);
    let newer = head(HeadScope::Service, 2, &rows);
    must(&store, Change { heads: vec![bare(newer.clone())], ..change([]) }).await;
    assert_eq!(store.heads().await.expect("read"), [sealed(newer), sealed(of_vault)]);
}

pub(crate) async fn vault_names_are_unique_while_they_exist(store: AnyStore) {
    let mut row = vault(1, "dev");
    must(&store, change([Write::Vault(sealed(row.clone()))])).await;
    exists(&store, change([Write::Vault(sealed(vault(2, "Dev")))])).await;
    row.revision = 2;
    row.state = deleted(1, 2);
    must(&store, change([Write::Vault(sealed(row))])).await;
    exists(&store, change([Write::Vault(sealed(vault(2, "dev")))])).await;
}

pub(crate) async fn key_names_are_unique_without_case(store: AnyStore) {
    furnish(&store).await;
    exists(&store, change([Write::Key(sealed(key(3, "dev", "ROOT")))])).await;
    let mut row = key(2, "dev", "Root");
    row.revision = 2;
    row.state = deleted(1, 2);
    must(&store, change([Write::Key(sealed(row))])).await;
    exists(&store, change([Write::Key(sealed(key(3, "dev", "root")))])).await;
    let elsewhere = [Write::Vault(sealed(vault(4, "prod"))), Write::Key(sealed(key(3, "prod", "root")))];
    must(&store, change(elsewhere)).await;
}

pub(crate) async fn ids_are_unique(store: AnyStore) {
    furnish(&store).await;
    must(&store, change([Write::Assignment(sealed(assignment(1, Scope::Service)))])).await;
    exists(&store, change([Write::Vault(sealed(vault(1, "prod")))])).await;
    exists(&store, change([Write::Key(sealed(key(2, "dev", "other")))])).await;
    exists(&store, change([Write::Version(sealed(version(2, "dev", "Root", 2)))])).await;
    exists(&store, change([Write::Assignment(sealed(assignment(1, Scope::Service)))])).await;
    // An ordinal is no name: whoever finds it taken has read an old state of the key.
    conflict(&store, change([Write::Version(sealed(version(3, "dev", "Root", 1)))])).await;
}

pub(crate) async fn vaults_page_in_order(store: AnyStore) {
    let names = ["aaa", "aaa-b", "aaab", "aab", "zzz"];
    for (n, name) in names.iter().enumerate().rev() {
        let mut row = vault(n as u8 + 1, name);
        row.state = if *name == "aaab" { deleted(1, 2) } else { State::Active };
        must(&store, change([Write::Vault(sealed(row))])).await;
    }
    for (all, wanted) in [(true, names.to_vec()), (false, vec!["aaa", "aaa-b", "aab", "zzz"])] {
        for limit in 1..=6 {
            let mut found = Vec::new();
            loop {
                let after = found.last().map(|name: &String| vault_name(name));
                let page = store.vaults(after.as_ref(), limit, all).await.expect("read");
                assert!(page.len() <= limit as usize);
                found.extend(page.iter().map(|row| row.unchecked().name.to_string()));
                if page.len() < limit as usize {
                    break;
                }
            }
            assert_eq!(found, wanted);
        }
    }
    assert_eq!(store.vaults(None, 0, true).await.expect("read"), []);
}

pub(crate) async fn keys_page_in_order(store: AnyStore) {
    let mut writes = vec![Write::Vault(sealed(vault(1, "dev"))), Write::Vault(sealed(vault(2, "prod")))];
    let names = ["-a", "0", "A-1", "a-2", "B", "b0", "Zz"];
    writes.extend(names.iter().enumerate().map(|(n, name)| Write::Key(sealed(key(n as u8 + 10, "dev", name)))));
    writes.push(Write::Key(sealed(key(99, "prod", "a-3"))));
    let mut gone = key(50, "dev", "a-9");
    gone.state = deleted(1, 2);
    writes.push(Write::Key(sealed(gone)));
    must(&store, change(writes)).await;
    let dev = vault_name("dev");
    let names_of = |page: Vec<Sealed<KeyObjectRow>>| -> Vec<String> {
        page.iter().map(|row| row.unchecked().name.to_string()).collect()
    };
    assert_eq!(names_of(store.keys(&dev, None, 100, false).await.expect("read")), names);
    assert_eq!(names_of(store.keys(&dev, None, 3, false).await.expect("read")), names[..3]);
    let page = store.keys(&dev, Some(&key_name("a-1")), 3, true).await.expect("read");
    assert_eq!(names_of(page), ["a-2", "a-9", "B"]);
    // A page goes on behind a name that is no longer there, or never was.
    assert_eq!(names_of(store.keys(&dev, Some(&key_name("A-5")), 2, false).await.expect("read")), ["B", "b0"]);
    assert_eq!(names_of(store.keys(&dev, Some(&key_name("zz")), 2, false).await.expect("read")), [""; 0]);
}

pub(crate) async fn versions_page_newest_first(store: AnyStore) {
    furnish(&store).await;
    let mut writes = vec![Write::Key(sealed(key(90, "dev", "other")))];
    writes.extend((2..=9).map(|n| Write::Version(sealed(version(n + 20, "dev", "Root", u64::from(n))))));
    writes.push(Write::Version(sealed(version(91, "dev", "other", 5))));
    must(&store, change(writes)).await;
    let (dev, root) = (vault_name("dev"), key_name("root"));
    for (before, limit, wanted) in [
        (None, 100, vec![9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (None, 2, vec![9, 8]),
        (Some(8), 3, vec![7, 6, 5]),
        (Some(2), 3, vec![1]),
        (Some(1), 3, vec![]),
        (Some(0), 3, vec![]),
        (Some(u64::MAX), 1, vec![9]),
    ] {
        let page = store.versions(&dev, &root, before, limit).await.expect("read");
        let ordinals: Vec<u64> = page.iter().map(|row| row.unchecked().ordinal).collect();
        assert_eq!(ordinals, wanted, "before {before:?}");
    }
}

pub(crate) async fn keys_are_found_when_they_are_to_be_looked_at(store: AnyStore) {
    let due = |n: u8, at: i64| {
        let named = key(n, "dev", &format!("k{n}"));
        KeyObjectRow { due: Some(Timestamp(at)), ..with_policy(named) }
    };
    let deleted = State::Deleted { since: Timestamp(1), purge_at: Timestamp(2) };
    let rows = [
        due(3, 30),
        due(4, 20),
        due(5, 20),
        KeyObjectRow { state: deleted, ..due(6, 10) },
        KeyObjectRow { vault: vault_name("gone"), ..due(7, 10) },
        key(8, "dev", "without"),
    ];
    let gone = crate::model::VaultRow { state: deleted, ..vault(9, "gone") };
    let vaults = [vault(1, "dev"), gone].map(|row| Write::Vault(sealed(row)));
    must(&store, change(vaults.into_iter().chain(rows.map(|row| Write::Key(sealed(row)))))).await;
    let found = async |now: i64, after: Option<(i64, u8)>, limit| {
        let after = after.map(|(time, n)| (Timestamp(time), [n; 16]));
        let rows = store.keys_due(Timestamp(now), after, limit).await.expect("read");
        rows.iter().map(|row| row.id[0]).collect::<Vec<_>>()
    };
    assert!(found(19, None, 9).await.is_empty());
    assert_eq!(found(20, None, 9).await, [4, 5]);
    assert_eq!(found(30, None, 9).await, [4, 5, 3]);
    assert_eq!(found(30, None, 1).await, [4]);
    assert_eq!(found(30, Some((20, 4)), 9).await, [5, 3]);
    assert_eq!(found(30, Some((20, 5)), 9).await, [3]);
    assert!(found(30, Some((30, 3)), 9).await.is_empty());
    let policed = async |after: Option<u8>, limit| {
        let rows = store.keys_with_policy(after.map(|n| [n; 16]), limit).await.expect("read");
        rows.iter().map(|row| row.id[0]).collect::<Vec<_>>()
    };
    assert_eq!(policed(None, 9).await, [3, 4, 5]);
    assert_eq!(policed(None, 2).await, [3, 4]);
    assert_eq!(policed(Some(4), 9).await, [5]);
}

pub(crate) async fn a_stale_revision_is_a_conflict(store: AnyStore) {
    furnish(&store).await;
    let initial = [Write::instance(sealed(instance())), Write::Usage(sealed(usage(2, 5, 1)))];
    must(&store, change(initial)).await;
    for revision in [0, 3, 9] {
        let stale = [
            Write::instance(sealed({
                let mut row = instance();
                row.revision = revision;
                row
            })),
            Write::Vault(sealed(crate::model::VaultRow { revision, ..vault(1, "dev") })),
            Write::Key(sealed(KeyObjectRow { revision, ..key(2, "dev", "Root") })),
            Write::Version(sealed(VersionRow { revision, ..version(2, "dev", "Root", 1) })),
            Write::Usage(sealed(usage(2, 6, revision))),
        ];
        for write in stale {
            conflict(&store, change([write])).await;
        }
    }
    // The second of two that both read revision 1.
    let mut row = vault(1, "dev");
    row.revision = 2;
    must(&store, change([Write::Vault(sealed(row.clone()))])).await;
    row.purge_protection = true;
    conflict(&store, change([Write::Vault(sealed(row))])).await;
}

pub(crate) async fn a_stale_head_is_a_conflict(store: AnyStore) {
    let with_head = |revision, write: Option<Write>| Change {
        heads: vec![bare(head(HeadScope::Service, revision, &[]))],
        ..change(write)
    };
    conflict(&store, with_head(2, None)).await;
    must(&store, with_head(1, None)).await;
    conflict(&store, with_head(1, None)).await;
    conflict(&store, with_head(3, None)).await;
    must(&store, with_head(2, Some(Write::Vault(sealed(vault(1, "dev")))))).await;
    // Who decided on an old state is told so before he is told of names.
    conflict(&store, with_head(2, Some(Write::Vault(sealed(vault(2, "dev")))))).await;
    exists(&store, with_head(3, Some(Write::Vault(sealed(vault(2, "dev")))))).await;
}

pub(crate) async fn a_missing_parent_is_a_conflict(store: AnyStore) {
    furnish(&store).await;
    conflict(&store, change([Write::Key(sealed(key(3, "prod", "root")))])).await;
    conflict(&store, change([Write::Version(sealed(version(3, "dev", "other", 1)))])).await;
    conflict(&store, change([Write::Version(sealed(version(3, "prod", "Root", 1)))])).await;
    conflict(&store, change([Write::Usage(sealed(usage(3, 1, 1)))])).await;
}

pub(crate) async fn nothing_of_a_refused_change_is_applied(store: AnyStore) {
    furnish(&store).await;
    let scope = HeadScope::Vault([1; 16]);
    let good = || {
        vec![
            Write::instance(sealed(instance())),
            Write::Vault(sealed(vault(5, "prod"))),
            Write::Key(sealed(key(6, "prod", "new"))),
            Write::Version(sealed(version(6, "prod", "new", 1))),
            Write::Usage(sealed(usage(6, 1, 1))),
            Write::Assignment(sealed(assignment(7, Scope::Service))),
        ]
    };
    let bad = [
        Write::RemoveAssignment(assignment(9, Scope::Service).id),
        Write::Assignment(sealed(assignment(7, Scope::Service))),
        Write::Usage(sealed(usage(2, 1, 4))),
        Write::Version(sealed(version(2, "dev", "Root", 3))),
    ];
    for write in bad {
        let mut writes = good();
        writes.push(write);
        let refused = Change {
            heads: vec![bare(head(scope, 1, &[]))],
            request: Some(request(1, "spiffe://example.org/ci", 100)),
            ..change(writes)
        };
        assert!(store.commit(refused).await.is_err());
        assert_eq!(store.instance().await.expect("read"), None);
        assert_eq!(store.vaults(None, 10, true).await.expect("read").len(), 1);
        assert_eq!(store.key(&vault_name("prod"), &key_name("new")).await.expect("read"), None);
        assert!(!store.version_exists(version_id(6)).await.expect("read"));
        assert_eq!(store.usage(version_id(6)).await.expect("read"), None);
        assert_eq!(store.assignments().await.expect("read"), []);
        assert_eq!(store.head(&scope).await.expect("read"), None);
        let remembered = store.request("spiffe://example.org/ci", request_id(1), Timestamp(0)).await;
        assert_eq!(remembered.expect("read"), None);
    }
    must(&store, change(good())).await;
}

pub(crate) async fn a_version_spells_its_key_as_the_key_does(store: AnyStore) {
    furnish(&store).await;
    // It is sealed with the spelling and would never verify with another. No conflict: repeating is no help.
    let result = store.commit(change([Write::Version(sealed(version(3, "dev", "root", 2)))])).await;
    assert!(matches!(result, Err(CommitError::Store(super::StoreError::Inconsistent { .. }))), "{result:?}");
}

pub(crate) async fn a_change_lists_its_rows_in_any_order(store: AnyStore) {
    let writes = [
        Write::Usage(sealed(usage(2, 1, 1))),
        Write::Version(sealed(version(2, "dev", "Root", 1))),
        Write::Key(sealed(key(2, "dev", "Root"))),
        Write::Vault(sealed(vault(1, "dev"))),
    ];
    must(&store, change(writes)).await;
    assert_eq!(store.scope(&HeadScope::Vault([1; 16])).await.expect("read").rows.len(), 3);
}

pub(crate) async fn numbers_that_cannot_be_kept_are_refused(store: AnyStore) {
    furnish(&store).await;
    let result = store.commit(change([Write::Usage(sealed(usage(2, u64::MAX, 1)))])).await;
    assert!(matches!(result, Err(CommitError::Store(_))), "{result:?}");
    assert_eq!(store.usage(version_id(2)).await.expect("read"), None);
}

pub(crate) async fn requests_are_remembered_and_forgotten(store: AnyStore) {
    let with = |record| Change { request: Some(record), ..change([]) };
    let (ann, bob) = ("spiffe://example.org/ann", "spiffe://example.org/bob");
    must(&store, with(request(1, ann, 100))).await;
    must(&store, with(request(1, bob, 200))).await;
    must(&store, with(request(2, ann, 100))).await;
    conflict(&store, with(request(1, ann, 300))).await;
    let found = |who, n, now| {
        let store = Arc::clone(&store);
        async move { store.request(who, request_id(n), Timestamp(now)).await.expect("read") }
    };
    assert_eq!(found(ann, 1, 99).await, Some(request(1, ann, 100)));
    assert_eq!(found(ann, 1, 100).await, None);
    assert_eq!(found(ann, 3, 0).await, None);
    assert_eq!(store.forget_requests(Timestamp(99)).await.expect("forgotten"), 0);
    assert_eq!(store.forget_requests(Timestamp(100)).await.expect("forgotten"), 2);
    assert_eq!(found(ann, 1, 0).await, None);
    assert_eq!(found(bob, 1, 199).await, Some(request(1, bob, 200)));
    must(&store, with(request(1, ann, 300))).await;
}

pub(crate) async fn a_scope_is_what_was_written(store: AnyStore) {
    furnish(&store).await;
    let granted = assignment(8, Scope::Service);
    let (role, policy) = (role_definition(9, "Signer"), access_policy("dev", "a:b"));
    let first = [
        Write::instance(sealed(instance())),
        Write::RoleDefinition(sealed(role.clone())),
        Write::AccessPolicy(sealed(policy.clone())),
        Write::Usage(sealed(usage(2, 1, 1))),
        Write::Assignment(sealed(granted.clone())),
        Write::Token(sealed(token(6))),
        Write::Token(sealed(token(7))),
        Write::IssuerKey(sealed(issuer_key(6))),
        Write::IssuerKey(sealed(issuer_key(7))),
        Write::Vault(sealed(vault(4, "prod"))),
        Write::Key(sealed(key(5, "prod", "elsewhere"))),
    ];
    must(&store, change(first)).await;
    let mut dev = vault(1, "dev");
    (dev.revision, dev.state) = (2, deleted(1, 2));
    let mut root = key(2, "dev", "Root");
    (root.revision, root.state) = (2, deleted(1, 2));
    let mut newest = version(2, "dev", "Root", 1);
    (newest.revision, newest.enabled) = (2, false);
    let second = [
        Write::RemoveAssignment(granted.id),
        Write::RemoveToken(token(7).id),
        Write::RemoveIssuerKey(issuer_key(7).id),
        Write::Vault(sealed(dev.clone())),
        Write::Key(sealed(root.clone())),
        Write::Version(sealed(newest.clone())),
        Write::Usage(sealed(usage(2, 9, 2))),
    ];
    fn mark<R: Row>(row: R) -> (RowId, u64, strongroom_hsm::Seal) {
        let row = sealed(row);
        (row.unchecked().row_id(), row.unchecked().revision(), *row.seal())
    }
    let mut service = vec![mark(instance()), mark(dev), mark(vault(4, "prod")), mark(token(6)), mark(issuer_key(6))];
    service.extend([mark(role), mark(policy)]);
    let in_dev = vec![mark(root), mark(newest), mark(usage(2, 9, 2))];
    let scopes = [(HeadScope::Service, service), (HeadScope::Vault([1; 16]), in_dev)];
    let heads = scopes.iter().map(|(scope, rows)| bare(head(*scope, 1, rows))).collect();
    must(&store, Change { heads, ..change(second) }).await;
    for (scope, mut wanted) in scopes {
        let mut found = store.scope(&scope).await.expect("read");
        assert_eq!(found.head, Some(sealed(head(scope, 1, &found.rows))), "the head's own digest");
        found.rows.sort();
        wanted.sort();
        assert_eq!(found.rows, wanted);
    }
}

pub(crate) async fn of_concurrent_changes_of_a_head_one_wins(store: AnyStore) {
    for round in 1..=10 {
        let attempts = (0..4).map(|n| {
            let store = Arc::clone(&store);
            let granted = assignment(round as u8 * 8 + n, Scope::Service);
            let heads = vec![bare(head(HeadScope::Service, round, &[]))];
            let change = Change { heads, ..change([Write::Assignment(sealed(granted))]) };
            tokio::spawn(async move { store.commit(change).await })
        });
        let results = join_all(attempts).await.into_iter().map(|result| result.expect("no panic"));
        let (won, lost): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        assert!(lost.iter().all(|result| matches!(result, Err(CommitError::Conflict))), "{lost:?}");
        assert_eq!(store.assignments().await.expect("read").len() as u64, round);
    }
}

pub(crate) async fn readers_see_whole_changes(store: AnyStore) {
    furnish(&store).await;
    let scope = HeadScope::Vault([1; 16]);
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for n in 1..=50 {
            let heads = vec![bare(head(scope, n, &[]))];
            must(&writer, Change { heads, ..change([Write::Usage(sealed(usage(2, n, n)))]) }).await;
        }
    });
    while !writing.is_finished() {
        let found = store.scope(&scope).await.expect("read");
        let of_head = found.head.map_or(0, |head| head.unchecked().revision);
        let of_usage = found.rows.iter().find(|(id, ..)| id.kind == RowKind::Usage);
        assert_eq!(of_usage.map_or(0, |(_, revision, _)| *revision), of_head);
    }
    writing.await.expect("no panic");
}

pub(crate) async fn what_is_saved_is_of_one_moment(store: AnyStore) {
    furnish(&store).await;
    let scope = HeadScope::Vault([1; 16]);
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for n in 1..=100 {
            let usage = sealed(usage(2, n, n));
            let mut rows = writer.scope(&scope).await.expect("read").rows;
            rows.retain(|(id, ..)| id.kind != RowKind::Usage);
            rows.push((usage.unchecked().row_id(), n, *usage.seal()));
            let heads = vec![bare(head(scope, n, &rows))];
            must(&writer, Change { heads, ..change([Write::Usage(usage)]) }).await;
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = 0;
    for round in 0.. {
        let was_last = writing.is_finished();
        let path = folder.path().join(format!("{round}.db"));
        store.save(&path).await.expect("saved");
        assert!(SqliteStore::faults(&path).await.expect("read").is_empty());
        let copied = SqliteStore::open(&path).await.expect("it is whole");
        let heads = copied.heads().await.expect("read");
        copy::check_heads(&copied, &heads).await.expect("each head counts its rows");
        let revision = heads.iter().map(|head| head.unchecked().revision).max().unwrap_or(0);
        assert!(revision >= seen, "a later copy is no older");
        seen = revision;
        copied.close().await;
        if was_last {
            break;
        }
    }
    writing.await.expect("no panic");
    assert_eq!(seen, 100, "what was committed before is in it");
    let again = store.save(&folder.path().join("0.db")).await;
    assert!(again.is_err(), "a file that is there is left alone");
}

pub(crate) async fn a_dropped_commit_is_whole_or_nothing(store: AnyStore) {
    furnish(&store).await;
    let scope = HeadScope::Vault([1; 16]);
    let mut revision = 0;
    for microseconds in (0..2_000).step_by(40) {
        let next = revision + 1;
        let heads = vec![bare(head(scope, next, &[]))];
        let change = Change { heads, ..change([Write::Usage(sealed(usage(2, next, next)))]) };
        let time = Duration::from_micros(microseconds);
        let _ = tokio::time::timeout(time, store.commit(change)).await;
        // Where what comes next goes through the same connection, the dropped change is settled after it; else it
        // may come in the next round.
        store.forget_requests(Timestamp(0)).await.expect("the writer still works");
        let found = store.scope(&scope).await.expect("read");
        let of_head = found.head.map_or(0, |head| head.unchecked().revision);
        let of_usage = found.rows.iter().find(|(id, ..)| id.kind == RowKind::Usage);
        let of_usage = of_usage.map_or(0, |(_, revision, _)| *revision);
        assert!(of_head == of_usage && (revision..=next).contains(&of_head), "{of_head} {of_usage} {revision}");
        revision = of_head;
    }
}

fn scope_of(n: u8) -> HeadScope {
    HeadScope::Vault([n; 16])
}

/// A change of a scope's head alone.
fn onto(n: u8, revision: u64) -> Change {
    let head = sealed(head(scope_of(n), revision, &[]));
    Change { heads: vec![HeadChange { head, steps: vec![step(n, revision)] }], ..change([]) }
}

/// Hears until every change up to that position is known to be there: others on the same server may hold it up.
async fn heard_beyond(store: &AnyStore, since: Option<Position>, position: Position) -> Heard {
    for _ in 0..1_000 {
        let heard = store.heard(since).await.expect("heard");
        if heard.position > position {
            return heard;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never heard up to {position:?}");
}

pub(crate) async fn what_was_changed_is_heard(store: AnyStore) {
    let nothing = store.heard(None).await.expect("heard");
    assert_eq!(nothing.heads, []);
    let first = store.commit(onto(1, 1)).await.expect("committed");
    assert!(first >= nothing.position);
    let second = store.commit(onto(2, 1)).await.expect("committed");
    let both = heard_beyond(&store, Some(nothing.position), first.max(second)).await;
    let mut heads = both.heads.clone();
    heads.sort();
    assert_eq!(heads, [(scope_of(1), 1), (scope_of(2), 1)]);
    let third = store.commit(onto(1, 2)).await.expect("committed");
    assert!(third >= both.position);
    let one = heard_beyond(&store, Some(both.position), third).await;
    assert_eq!(one.heads, [(scope_of(1), 2)]);
    assert_eq!(store.heard(Some(one.position)).await.expect("heard").heads, []);
    let mut all = store.heard(None).await.expect("heard").heads;
    all.sort();
    assert_eq!(all, [(scope_of(1), 2), (scope_of(2), 1)]);
    conflict(&store, onto(1, 2)).await;
    assert_eq!(store.heard(Some(one.position)).await.expect("heard").heads, [], "nothing was changed");
}

pub(crate) async fn no_concurrent_change_is_missed(store: AnyStore) {
    const SCOPES: u8 = 6;
    const CHANGES: u64 = 25;
    let writers: Vec<_> = (1..=SCOPES)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut made = Vec::new();
                for revision in 1..=CHANGES {
                    made.push((n, revision, store.commit(onto(n, revision)).await.expect("committed")));
                }
                made
            })
        })
        .collect();
    // Which revision of each scope was known when heard up to where.
    let mut known = vec![0; usize::from(SCOPES) + 1];
    let mut told = Vec::new();
    let mut since = None;
    let mut take = |heard: Heard, since: &mut Option<Position>| {
        assert!(Some(heard.position) >= *since, "a position went back");
        for (scope, revision) in heard.heads {
            let known = &mut known[usize::from(scope.id()[0])];
            *known = revision.max(*known);
        }
        *since = Some(heard.position);
        told.push((heard.position, known.clone()));
    };
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        take(store.heard(since).await.expect("heard"), &mut since);
    }
    let made: Vec<_> = join_all(writers).await.into_iter().flat_map(|made| made.expect("no panic")).collect();
    let last = made.iter().map(|(_, _, position)| *position).max().expect("some");
    take(heard_beyond(&store, since, last).await, &mut since);
    for (scope, revision, at) in &made {
        for (position, known) in told.iter().filter(|(position, _)| at < position) {
            let known = known[usize::from(*scope)];
            assert!(known >= *revision, "heard up to {position:?}, not {revision} of {scope} at {at:?}");
        }
    }
    assert_eq!(known[1..], vec![CHANGES; usize::from(SCOPES)]);
}

pub(crate) async fn a_way_is_told_step_by_step(store: AnyStore) {
    assert_eq!(store.way(&scope_of(1), 0).await.expect("read"), None, "no head");
    let odd = Step {
        id: RowId { kind: RowKind::Usage, id: [9; 16] },
        old: Some((3, [1; 32])),
        new: None,
        in_use: false,
        renews: false,
    };
    let several = vec![step(1, 2), odd, Step { in_use: false, ..step(5, 1) }];
    must(&store, onto(1, 1)).await;
    let second = HeadChange { head: sealed(head(scope_of(1), 2, &[])), steps: several.clone() };
    must(&store, Change { heads: vec![second, bare(head(HeadScope::Service, 1, &[]))], ..change([]) }).await;
    must(&store, onto(1, 3)).await;
    must(&store, onto(2, 1)).await;
    let newest = sealed(head(scope_of(1), 3, &[]));
    let all = [vec![step(1, 1)], several, vec![step(1, 3)]];
    for after in 0..=3 {
        let way = store.way(&scope_of(1), after).await.expect("read").expect("a way");
        assert_eq!(way, Way { head: newest.clone(), changes: all[after as usize..].to_vec() });
    }
    assert_eq!(store.way(&scope_of(1), 4).await.expect("read"), None, "beyond");
    let way = store.way(&HeadScope::Service, 0).await.expect("read").expect("a way");
    assert_eq!(way.changes, [Vec::new()]);
    let senseless = Step { new: None, old: None, ..step(1, 1) };
    let head = sealed(head(scope_of(1), 4, &[]));
    let result = store.commit(Change { heads: vec![HeadChange { head, steps: vec![senseless] }], ..change([]) }).await;
    assert!(matches!(result, Err(CommitError::Store(super::StoreError::Inconsistent { .. }))), "{result:?}");
}

pub(crate) async fn a_way_that_was_forgotten_is_none(store: AnyStore) {
    must(&store, onto(1, 1)).await;
    must(&store, onto(1, 2)).await;
    assert_eq!(store.forget_steps(Duration::from_secs(3600)).await.expect("forgotten"), 0);
    assert_eq!(store.forget_steps(Duration::MAX).await.expect("forgotten"), 0);
    assert_eq!(store.forget_steps(Duration::ZERO).await.expect("forgotten"), 2);
    must(&store, onto(1, 3)).await;
    for after in 0..=1 {
        assert_eq!(store.way(&scope_of(1), after).await.expect("read"), None, "forgotten");
    }
    assert_eq!(store.way(&scope_of(1), 2).await.expect("read").expect("a way").changes, [[step(1, 3)]]);
    assert_eq!(store.way(&scope_of(1), 3).await.expect("read").expect("a way").changes.len(), 0);
}

pub(crate) async fn replicas_come_back_and_beat(store: AnyStore) {
    assert_eq!(store.replicas().await.expect("read"), []);
    let (first, second) = (replica(0, "eu-1"), replica(1, "eu-2"));
    store.put_replica(sealed(second.clone())).await.expect("written");
    store.put_replica(sealed(first.clone())).await.expect("written");
    let rows = |replicas: Vec<Replica>| replicas.into_iter().map(|replica| replica.row).collect::<Vec<_>>();
    assert_eq!(rows(store.replicas().await.expect("read")), [sealed(first.clone()), sealed(second.clone())]);
    for taken in [replica(2, "eu-1"), ReplicaRow { name: replica_name("eu-3"), id: [7; 16], ..first.clone() }] {
        let result = store.put_replica(sealed(taken)).await;
        assert!(matches!(result, Err(CommitError::Exists)), "{result:?}");
    }
    let newer = ReplicaRow { revision: 2, log_size: 77, log_root: [8; 32], closed: true, ..first.clone() };
    store.put_replica(sealed(newer.clone())).await.expect("written");
    let result = store.put_replica(sealed(newer.clone())).await;
    assert!(matches!(result, Err(CommitError::Conflict)), "{result:?}");
    let said = Beat { trouble: "its clock is wrong".to_owned(), ..beat("eu-2", 1 << 40) };
    store.beat(beat("eu-2", 3)).await.expect("kept");
    store.beat(said.clone()).await.expect("kept");
    let found = store.replicas().await.expect("read");
    assert_eq!(found[0], Replica { row: sealed(newer), beat: None });
    assert_eq!(found[1].row, sealed(second));
    let (heard, age) = found[1].beat.clone().expect("a beat");
    assert_eq!(heard, said);
    assert!(age < Duration::from_secs(30), "{age:?}");
    assert!(store.beat(beat("nobody", 3)).await.is_err());
}

const LONG: Duration = Duration::from_secs(3600);

async fn taken(store: &AnyStore, holder: &str, life: Duration) -> Option<u64> {
    let lease = store.take_lease("rotate", &replica_name(holder), life).await.expect("answered");
    lease.map(|lease| {
        assert_eq!(lease.name, "rotate");
        lease.token
    })
}

pub(crate) async fn a_lease_is_taken_kept_and_given_back(store: AnyStore) {
    assert_eq!(store.leases().await.expect("read"), []);
    assert_eq!(taken(&store, "a", LONG).await, Some(1));
    assert_eq!(taken(&store, "b", LONG).await, None);
    assert_eq!(taken(&store, "a", LONG).await, Some(1), "who has it keeps it");
    let other = store.take_lease("purge", &replica_name("b"), LONG).await.expect("answered").expect("free");
    assert_eq!((other.name.as_str(), other.token), ("purge", 1));
    let first = WorkLease { name: "rotate".to_owned(), token: 1 };
    let found = store.leases().await.expect("read");
    assert_eq!(found.iter().map(|(lease, ..)| lease).collect::<Vec<_>>(), [&other, &first]);
    assert_eq!(found[1].1, replica_name("a"));
    assert!(found[1].2 <= LONG && found[1].2 > LONG / 2, "{found:?}");
    store.give_lease(&first).await.expect("given");
    assert_eq!(store.leases().await.expect("read")[1].2, Duration::ZERO);
    assert_eq!(taken(&store, "b", LONG).await, Some(2));
    store.give_lease(&first).await.expect("left alone");
    assert_eq!(taken(&store, "a", LONG).await, None, "only its holder gives it back");
}

pub(crate) async fn a_lease_lapses(store: AnyStore) {
    assert_eq!(taken(&store, "a", Duration::from_millis(1)).await, Some(1));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(taken(&store, "b", Duration::from_millis(1)).await, Some(2));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(taken(&store, "b", LONG).await, Some(3), "it may be another process of that name");
    assert_eq!(taken(&store, "a", Duration::MAX).await, None);
}

pub(crate) async fn of_two_takers_one_gets_the_lease(store: AnyStore) {
    let mut token = 0;
    for _ in 0..10 {
        let takers = (0..4).map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { taken(&store, &format!("r{n}"), LONG).await })
        });
        let got: Vec<_> = join_all(takers).await.into_iter().filter_map(|token| token.expect("no panic")).collect();
        token += 1;
        assert_eq!(got, [token]);
        store.give_lease(&WorkLease { name: "rotate".to_owned(), token }).await.expect("given");
    }
}

pub(crate) async fn a_fenced_change_applies_nothing(store: AnyStore) {
    furnish(&store).await;
    let under = |token, revision| Change {
        lease: Some(WorkLease { name: "rotate".to_owned(), token }),
        writes: vec![Write::Usage(sealed(usage(2, revision, revision)))],
        ..onto(1, revision)
    };
    let fenced = |result: Result<Position, CommitError>| {
        assert!(matches!(result, Err(CommitError::Fenced)), "{result:?}");
    };
    fenced(store.commit(under(1, 1)).await);
    assert_eq!(taken(&store, "a", Duration::from_millis(1)).await, Some(1));
    tokio::time::sleep(Duration::from_millis(20)).await;
    must(&store, under(1, 1)).await;
    assert_eq!(taken(&store, "b", LONG).await, Some(2));
    fenced(store.commit(under(1, 2)).await);
    fenced(store.commit(under(3, 2)).await);
    assert_eq!(store.usage(version_id(2)).await.expect("read"), Some(sealed(usage(2, 1, 1))));
    assert_eq!(store.way(&scope_of(1), 0).await.expect("read").expect("a way").changes.len(), 1);
    must(&store, under(2, 2)).await;
}

pub(crate) async fn a_lease_is_not_taken_during_a_change_under_it(store: AnyStore) {
    let mut newest = 0;
    for round in 0..10 {
        assert_eq!(taken(&store, "a", Duration::ZERO).await, Some(2 * round + 1));
        let late = {
            let store = Arc::clone(&store);
            let lease = Some(WorkLease { name: "rotate".to_owned(), token: 2 * round + 1 });
            tokio::spawn(async move { store.commit(Change { lease, ..onto(1, newest + 1) }).await })
        };
        assert_eq!(taken(&store, "b", Duration::ZERO).await, Some(2 * round + 2), "it has lapsed");
        // The change was applied before, or is fenced: nothing comes later.
        let seen = store.head(&scope_of(1)).await.expect("read").map_or(0, |head| head.unchecked().revision);
        match late.await.expect("no panic") {
            Ok(_) => newest += 1,
            Err(CommitError::Fenced) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(seen, newest, "a change came after its lease had passed on");
    }
}

pub(crate) async fn a_closed_store_fails(store: AnyStore) {
    store.close().await;
    assert!(store.vaults(None, 1, true).await.is_err());
    assert!(matches!(store.commit(change([])).await, Err(CommitError::Store(_))));
    store.close().await;
}

pub(crate) async fn what_is_to_be_purged_is_found_and_taken_away(store: AnyStore) {
    furnish(&store).await;
    let (dev, root) = (vault_name("dev"), key_name("root"));
    let gone = |revision| KeyObjectRow { state: deleted(5, 50), revision, ..key(3, "dev", "Gone") };
    let old = VersionRow { state: deleted(5, 40), ..version(4, "dev", "Root", 0) };
    let rows = [
        Write::Key(sealed(gone(1))),
        Write::Version(sealed(version(3, "dev", "Gone", 1))),
        Write::Usage(sealed(usage(3, 1, 1))),
        Write::Version(sealed(old.clone())),
    ];
    must(&store, change(rows)).await;
    assert_eq!(store.version(&dev, version_id(4)).await.expect("read"), Some(sealed(old)));
    assert_eq!(store.keys_to_purge(Timestamp(49), None, 9).await.expect("read"), []);
    let found = store.keys_to_purge(Timestamp(50), None, 9).await.expect("read");
    assert_eq!(
        (found.len(), &found[0].object, found[0].version, found[0].at),
        (1, &key_name("Gone"), None, Timestamp(50))
    );
    let after = Some((found[0].at, found[0].id));
    assert_eq!(store.keys_to_purge(Timestamp(50), after, 9).await.expect("read"), []);
    let found = store.versions_to_purge(Timestamp(40), None, 9).await.expect("read");
    assert_eq!((found.len(), found[0].version), (1, Some(version_id(4))));
    // What others hang on is not taken away, and what is gone is a conflict.
    conflict(&store, change([Write::RemoveKey([3; 16])])).await;
    let all = [Write::RemoveKey([3; 16]), Write::RemoveVersion(version_id(3)), Write::RemoveUsage(version_id(3))];
    must(&store, change(all.clone())).await;
    conflict(&store, change(all)).await;
    must(&store, change([Write::RemoveVersion(version_id(4))])).await;
    assert!(store.keys(&dev, None, 9, true).await.expect("read").len() == 1);
    assert_eq!(store.versions(&dev, &root, None, 9).await.expect("read").len(), 1);
    let vaults = async |by| store.vaults_to_purge(Timestamp(by), 9).await.expect("read");
    let marked = crate::model::VaultRow { state: deleted(1, 90), purging: true, ..vault(8, "marked") };
    let waits = crate::model::VaultRow { state: deleted(1, 80), ..vault(9, "waits") };
    must(&store, change([Write::Vault(sealed(marked.clone())), Write::Vault(sealed(waits))])).await;
    assert_eq!(store.vault(&vault_name("marked")).await.expect("read"), Some(sealed(marked)));
    assert_eq!(vaults(7).await, [vault_name("marked")]);
    assert_eq!(vaults(80).await, [vault_name("waits"), vault_name("marked")]);
    must(&store, change([Write::RemoveVault([8; 16])])).await;
    assert_eq!(vaults(80).await, [vault_name("waits")]);
}

fn telling(events: impl IntoIterator<Item = EventRow>) -> Change {
    Change { events: events.into_iter().map(sealed).collect(), ..change([]) }
}

/// All events after a place, once so many are there: what others do on a shared database holds them up.
async fn told(store: &AnyStore, after: EventPlace, count: usize) -> Vec<(EventPlace, Option<Sealed<EventRow>>)> {
    for _ in 0..1_000 {
        let found = store.events(after, 100).await.expect("read");
        if found.len() >= count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("events do not come");
}

pub(crate) async fn events_come_in_the_order_of_their_changes(store: AnyStore) {
    let (begin, _) = store.event_bounds().await.expect("read");
    must(&store, telling([event(1, "dev"), event(2, "dev")])).await;
    must(&store, telling([event(3, "prod")])).await;
    let found = told(&store, begin, 3).await;
    let ids = found.iter().flat_map(|(_, event)| event).map(|event| event.unchecked().id[0]);
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(found[1].1, Some(sealed(event(2, "dev"))));
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(store.events(found[0].0, 1).await.expect("read"), found[1..2]);
    assert_eq!(store.events(found[2].0, 9).await.expect("read"), []);
    let (_, end) = store.event_bounds().await.expect("read");
    assert!(found[2].0 < end && store.events(end, 9).await.expect("read").is_empty());
    // An event of a change that is refused is none, and an id is one event's.
    conflict(&store, Change { events: vec![sealed(event(4, "dev"))], ..change([Write::RemoveKey([9; 16])]) }).await;
    exists(&store, telling([event(3, "dev")])).await;
    assert_eq!(store.events(begin, 9).await.expect("read").len(), 3);
}

pub(crate) async fn old_events_are_forgotten_but_those_that_wait(store: AnyStore) {
    let (begin, _) = store.event_bounds().await.expect("read");
    must(&store, telling((1..=4).map(|n| event(n, "dev")))).await;
    let found = told(&store, begin, 4).await;
    let places: Vec<EventPlace> = found.iter().map(|(place, _)| *place).collect();
    store.queue("ops", None, begin, Vec::new()).await.expect("begun");
    store.queue("ops", Some(begin), places[3], places[..3].to_vec()).await.expect("queued");
    let hour = Duration::from_secs(3600);
    assert_eq!(store.forget_events(hour, hour).await.expect("nothing to forget"), Forgotten::default());
    assert_eq!(store.events(begin, 9).await.expect("read").len(), 4);
    assert_eq!(store.forget_events(Duration::ZERO, hour).await.expect("forgotten"), Forgotten::default());
    assert_eq!(store.events(begin, 9).await.expect("read"), found[..3], "they wait");
    assert_eq!(store.event_bounds().await.expect("read").0, places[3]);
    let failed = vec![Undelivered { place: places[0], failure: "no".to_owned(), retry_after: None }];
    store.settle_deliveries("ops", vec![places[1]], failed).await.expect("settled");
    assert_eq!(store.forget_events(Duration::ZERO, hour).await.expect("forgotten"), Forgotten::default());
    let left = [found[0].clone(), found[2].clone()];
    assert_eq!(store.events(begin, 9).await.expect("read"), left, "what is delivered waits for nothing any more");
    // One is dead and one is pending: nobody takes either.
    let both = Forgotten { deliveries: 2, more: false };
    assert_eq!(store.forget_events(Duration::ZERO, Duration::ZERO).await.expect("forgotten"), both);
    assert_eq!(store.events(begin, 9).await.expect("read"), []);
    assert_eq!(store.webhooks().await.expect("read"), [WebhookState { name: "ops".to_owned(), pending: 0, dead: 0 }]);
}

pub(crate) async fn old_events_are_forgotten_some_at_a_time(store: AnyStore) {
    let (begin, _) = store.event_bounds().await.expect("read");
    let numbered = |n: u16| {
        let mut event = event(1, "dev");
        event.id[..2].copy_from_slice(&n.to_be_bytes());
        event
    };
    must(&store, telling((0..1_010).map(numbered))).await;
    // Another moment of the store's clock.
    tokio::time::sleep(Duration::from_millis(20)).await;
    must(&store, telling((2_000..2_003).map(numbered))).await;
    let first = told(&store, begin, 1).await[0].0;
    let found = told(&store, EventPlace { number: 1_009, ..first }, 3).await;
    let forget = async || store.forget_events(Duration::ZERO, Duration::from_secs(3600)).await.expect("forgotten");
    assert!(forget().await.more, "those of one moment, more than are taken at once, go together");
    assert_eq!(store.events(begin, 9).await.expect("read"), found);
    assert_eq!(forget().await, Forgotten::default());
    assert_eq!(store.events(begin, 9).await.expect("read"), []);
    assert_eq!(store.event_bounds().await.expect("read").0, found[2].0);
}

pub(crate) async fn deliveries_are_queued_settled_and_replayed(store: AnyStore) {
    let (begin, _) = store.event_bounds().await.expect("read");
    must(&store, telling([event(1, "dev"), event(2, "dev"), event(3, "dev")])).await;
    let found = told(&store, begin, 3).await;
    let places: Vec<EventPlace> = found.iter().map(|(place, _)| *place).collect();
    assert_eq!(store.webhook("ops").await.expect("read"), None);
    store.queue("ops", None, begin, Vec::new()).await.expect("begun");
    store.queue("ops", Some(begin), places[2], places.clone()).await.expect("queued");
    for from in [None, Some(begin)] {
        let again = store.queue("ops", from, places[2], places.clone()).await;
        assert!(matches!(again, Err(CommitError::Conflict)), "{again:?}");
    }
    assert_eq!(store.webhook("ops").await.expect("read"), Some(places[2]));
    let due = store.deliveries("ops", 9).await.expect("read");
    assert_eq!(due.iter().map(|delivery| delivery.place).collect::<Vec<_>>(), places);
    assert!(
        due.iter().all(|delivery| delivery.attempts == 0)
            && store.deliveries("other", 9).await.expect("read").is_empty()
    );
    let failed = |place, retry_after| Undelivered { place, failure: "no".to_owned(), retry_after };
    let later = failed(places[1], Some(Duration::from_secs(600)));
    store.settle_deliveries("ops", vec![places[0]], vec![later, failed(places[2], None)]).await.expect("settled");
    assert_eq!(store.deliveries("ops", 9).await.expect("read"), []);
    let state = WebhookState { name: "ops".to_owned(), pending: 1, dead: 1 };
    assert_eq!(store.webhooks().await.expect("read"), [state]);
    let dead = store.dead_letters("ops", begin, 9).await.expect("read");
    assert_eq!((dead.len(), dead[0].place, dead[0].attempts, dead[0].failure.as_str()), (1, places[2], 1, "no"));
    assert!(found[2].1.as_ref() == Some(&dead[0].event) && dead[0].age < Duration::from_secs(60));
    assert_eq!(store.dead_letters("ops", places[2], 9).await.expect("read"), []);
    assert_eq!(store.replay("ops", Some([9; 16])).await.expect("none"), 0);
    assert_eq!(store.replay("ops", Some([3; 16])).await.expect("one"), 1);
    assert_eq!(store.replay("ops", None).await.expect("none left"), 0);
    let due = store.deliveries("ops", 9).await.expect("read");
    assert_eq!((due.len(), due[0].place, due[0].attempts), (1, places[2], 0));
}

pub(crate) async fn the_clock_is_set_by_one(store: AnyStore) {
    assert_eq!(store.clock().await.expect("read"), None);
    store.put_clock(sealed(clock(7, 1))).await.expect("set");
    let again = store.put_clock(sealed(clock(8, 1))).await;
    assert!(matches!(again, Err(CommitError::Conflict)), "{again:?}");
    store.put_clock(sealed(clock(9, 2))).await.expect("set");
    let stale = store.put_clock(sealed(clock(10, 2))).await;
    assert!(matches!(stale, Err(CommitError::Conflict)), "{stale:?}");
    assert_eq!(store.clock().await.expect("read"), Some(sealed(clock(9, 2))));
}

pub(crate) async fn uses_add_up(store: AnyStore) {
    furnish(&store).await;
    let (dev, root) = (vault_name("dev"), key_name("root"));
    let used = |n, at, uses| Use { version: version_id(n), used: Timestamp(at), uses };
    store.note_uses(vec![used(2, 50, 3), used(9, 50, 1)]).await.expect("noted");
    store.note_uses(vec![used(2, 40, 4)]).await.expect("noted");
    let known = vec![(version_id(2), Activity { used: Timestamp(50), uses: 7 })];
    assert_eq!(store.activity(&dev, &root, None, 9).await.expect("read"), known);
    assert_eq!(store.activity(&dev, &root, Some(1), 9).await.expect("read"), []);
    assert_eq!(store.all_activity(None, 9).await.expect("read"), known, "nothing of what is not there");
    assert!(store.activity_since().await.expect("read") > Timestamp(1_700_000_000));
}
