//! Copying a store into an empty one, of another kind perhaps.
//!
//! Rows are read and written as what they are, and keep their seals: nothing here can make one. Afterwards the copy is
//! held against the source: the same heads, each with the rows that its digest counts, and as many rows in every
//! table. Nobody may change the source meanwhile; if somebody does, that is found.

use super::{
    Batch, CommitError, EventPlace, FillingError, HeadRow, HeadScope, Sealed, Store, StoreError, Write, head::SetDigest,
};
use crate::model::{KeyName, KeyObjectRow, SecretName, VaultName, VaultRow};

/// How many rows are read, and written in one transaction.
const PAGE: u32 = 500;
/// How many values of secrets, which are long.
const VALUES: u32 = 50;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The target cannot be filled.
    #[error("the target cannot be filled")]
    Target(#[source] FillingError),
    /// The source could not be read.
    #[error("the source cannot be read")]
    Read(#[source] StoreError),
    /// The target could not be written.
    #[error("the target cannot be written")]
    Write(#[source] CommitError),
    /// The source holds other rows than its heads count.
    #[error("the rows of the scope {scope} are not those that its head counts")]
    Rows {
        /// Of which scope.
        scope: String,
    },
    /// The copy is not the same.
    #[error("the copy differs from the source in {what}: was the source changed meanwhile?")]
    Differs {
        /// In what.
        what: String,
    },
}

/// Copies everything but steps, signs of life and queued deliveries into an empty store; says how many rows of each table.
///
/// # Errors
/// [`CopyError::Target`] before anything is written. After any other the target stays unfinished.
pub async fn copy(source: &dyn Store, target: &dyn Store, anew: bool) -> Result<Vec<(&'static str, u64)>, CopyError> {
    target.begin_filling(anew).await.map_err(CopyError::Target)?;
    let heads = source.heads().await.map_err(CopyError::Read)?;
    fill(target, service_rows(source).await.map_err(CopyError::Read)?).await?;
    let mut after = None;
    loop {
        let vaults = source.vaults(after.as_ref(), PAGE, true).await.map_err(CopyError::Read)?;
        let Some(last) = vaults.last() else { break };
        after = Some(last.unchecked().name.clone());
        fill(target, vaults.iter().cloned().map(Write::Vault).collect()).await?;
        for vault in &vaults {
            copy_vault(source, target, vault).await?;
        }
    }
    let policies = source.access_policies().await.map_err(CopyError::Read)?;
    fill(target, policies.into_iter().map(Write::AccessPolicy).collect()).await?;
    copy_unscoped(source, target, &heads).await?;
    let counts = verify(source, target, &heads).await?;
    target.finish_filling().await.map_err(CopyError::Read)?;
    Ok(counts)
}

async fn fill(target: &dyn Store, writes: Vec<Write>) -> Result<(), CopyError> {
    put(target, Batch { writes, ..Batch::default() }).await
}

async fn put(target: &dyn Store, batch: Batch) -> Result<(), CopyError> {
    target.fill(batch).await.map_err(CopyError::Write)
}

/// The rows of the service's scope that are read as a whole and name no other.
async fn service_rows(source: &dyn Store) -> Result<Vec<Write>, StoreError> {
    let mut writes: Vec<Write> = source.instance().await?.into_iter().map(Write::instance).collect();
    writes.extend(source.assignments().await?.into_iter().map(Write::Assignment));
    writes.extend(source.role_definitions().await?.into_iter().map(Write::RoleDefinition));
    writes.extend(source.tokens().await?.into_iter().map(Write::Token));
    writes.extend(source.issuer_keys().await?.into_iter().map(Write::IssuerKey));
    Ok(writes)
}

async fn copy_vault(source: &dyn Store, target: &dyn Store, vault: &Sealed<VaultRow>) -> Result<(), CopyError> {
    copy_known(source, target, vault.unchecked().id).await?;
    let name = &vault.unchecked().name;
    copy_secrets(source, target, name).await?;
    let mut after: Option<KeyName> = None;
    loop {
        let keys = source.keys(name, after.as_ref(), PAGE, true).await.map_err(CopyError::Read)?;
        let Some(last) = keys.last() else { return Ok(()) };
        after = Some(last.unchecked().name.clone());
        fill(target, keys.iter().cloned().map(Write::Key).collect()).await?;
        for key in &keys {
            copy_key(source, target, name, key).await?;
        }
    }
}

async fn copy_secrets(source: &dyn Store, target: &dyn Store, vault: &VaultName) -> Result<(), CopyError> {
    let mut after: Option<SecretName> = None;
    loop {
        let secrets = source.secrets(vault, after.as_ref(), PAGE, true).await.map_err(CopyError::Read)?;
        let Some(last) = secrets.last() else { return Ok(()) };
        after = Some(last.unchecked().name.clone());
        fill(target, secrets.iter().cloned().map(Write::Secret).collect()).await?;
        for secret in &secrets {
            copy_secret(source, target, vault, &secret.unchecked().name).await?;
        }
    }
}

async fn copy_secret(
    source: &dyn Store,
    target: &dyn Store,
    vault: &VaultName,
    secret: &SecretName,
) -> Result<(), CopyError> {
    let mut before = None;
    loop {
        let page = source.secret_versions(vault, secret, before, VALUES).await.map_err(CopyError::Read)?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some(last.unchecked().ordinal);
        let mut writes = Vec::with_capacity(page.len());
        for version in page {
            // With its value. One that went meanwhile is missed when the heads are compared.
            let version = source.secret_version(vault, version.unchecked().version).await.map_err(CopyError::Read)?;
            writes.extend(version.map(Write::SecretVersion));
        }
        fill(target, writes).await?;
    }
}

async fn copy_known(source: &dyn Store, target: &dyn Store, vault: [u8; 16]) -> Result<(), CopyError> {
    let mut after = None;
    loop {
        let known = source.all_known(vault, after, PAGE).await.map_err(CopyError::Read)?;
        let Some(last) = known.last() else { return Ok(()) };
        after = Some(last.unchecked().id);
        fill(target, known.into_iter().map(Write::Known).collect()).await?;
    }
}

async fn copy_key(
    source: &dyn Store,
    target: &dyn Store,
    vault: &VaultName,
    key: &Sealed<KeyObjectRow>,
) -> Result<(), CopyError> {
    let mut before = None;
    loop {
        let page = source.versions(vault, &key.unchecked().name, before, PAGE).await.map_err(CopyError::Read)?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some(last.unchecked().ordinal);
        let mut writes = Vec::with_capacity(page.len());
        for version in page {
            let id = version.unchecked().version;
            writes.push(Write::Version(version));
            writes.extend(source.usage(id).await.map_err(CopyError::Read)?.map(Write::Usage));
        }
        fill(target, writes).await?;
    }
}

/// What is under no head, and the heads.
async fn copy_unscoped(source: &dyn Store, target: &dyn Store, heads: &[Sealed<HeadRow>]) -> Result<(), CopyError> {
    for heads in heads.chunks(PAGE as usize) {
        put(target, Batch { heads: heads.to_vec(), ..Batch::default() }).await?;
    }
    let mut after = None;
    loop {
        let last = after.as_ref().map(|(principal, id): &(String, _)| (principal.as_str(), *id));
        let requests = source.requests(last, PAGE).await.map_err(CopyError::Read)?;
        let Some(last) = requests.last() else { break };
        after = Some((last.principal.clone(), last.id));
        put(target, Batch { requests, ..Batch::default() }).await?;
    }
    let replicas = source.replicas().await.map_err(CopyError::Read)?.into_iter().map(|replica| replica.row).collect();
    let leases = source.leases().await.map_err(CopyError::Read)?.into_iter();
    let leases = leases.map(|(lease, holder, _)| (lease, holder)).collect();
    let clock = source.clock().await.map_err(CopyError::Read)?;
    put(target, Batch { replicas, leases, clock, ..Batch::default() }).await?;
    copy_events(source, target).await?;
    copy_activity(source, target).await
}

/// Events in their order; every webhook is told of them anew, since places are a store's own.
async fn copy_events(source: &dyn Store, target: &dyn Store) -> Result<(), CopyError> {
    let mut after = EventPlace::default();
    loop {
        let found = source.events(after, PAGE).await.map_err(CopyError::Read)?;
        let Some((last, _)) = found.last() else { break };
        after = *last;
        // A copy without some of them would be none; why they cannot be read is in the log.
        let events = found.into_iter().map(|(_, event)| event).collect::<Option<_>>();
        let events = events.ok_or(CopyError::Read(StoreError::Inconsistent { table: "events", column: "any" }))?;
        put(target, Batch { events, ..Batch::default() }).await?;
    }
    let webhooks = source.webhooks().await.map_err(CopyError::Read)?.into_iter().map(|webhook| webhook.name).collect();
    put(target, Batch { webhooks, ..Batch::default() }).await
}

async fn copy_activity(source: &dyn Store, target: &dyn Store) -> Result<(), CopyError> {
    let since = source.activity_since().await.map_err(CopyError::Read)?;
    let mut after = None;
    loop {
        let known = source.all_activity(after, PAGE).await.map_err(CopyError::Read)?;
        let Some((last, _)) = known.last() else { return Ok(()) };
        after = Some(*last);
        put(target, Batch { activity: Some((known, since)), ..Batch::default() }).await?;
    }
}

async fn verify(
    source: &dyn Store,
    target: &dyn Store,
    heads: &[Sealed<HeadRow>],
) -> Result<Vec<(&'static str, u64)>, CopyError> {
    check_heads(target, heads).await?;
    // The source's heads once more: whoever changed it meanwhile changed one.
    let (now, copied) = (source.heads().await, target.heads().await);
    if now.map_err(CopyError::Read)? != heads || copied.map_err(CopyError::Read)? != heads {
        return Err(differs("its heads"));
    }
    let counts = source.counts().await.map_err(CopyError::Read)?;
    if counts != target.counts().await.map_err(CopyError::Read)? {
        return Err(differs("the number of rows"));
    }
    Ok(counts)
}

/// Whether a store has exactly these heads' rows, scope by scope.
///
/// # Errors
/// [`CopyError::Rows`] when it holds others, [`CopyError::Differs`] when it has another head.
pub async fn check_heads(store: &dyn Store, heads: &[Sealed<HeadRow>]) -> Result<(), CopyError> {
    for head in heads {
        let scope = head.unchecked().scope;
        let found = store.scope(&scope).await.map_err(CopyError::Read)?;
        if found.head.as_ref() != Some(head) {
            return Err(differs(&format!("the head {scope}")));
        }
        let mut digest = SetDigest::default();
        for (id, revision, seal) in &found.rows {
            digest.insert(id, *revision, seal);
        }
        if digest != head.unchecked().digest || found.rows.len() as u64 != head.unchecked().rows {
            return Err(CopyError::Rows { scope: name_of(scope) });
        }
    }
    Ok(())
}

fn differs(what: &str) -> CopyError {
    CopyError::Differs { what: what.to_owned() }
}

fn name_of(scope: HeadScope) -> String {
    match scope {
        HeadScope::Service => "service".to_owned(),
        HeadScope::Vault(_) => scope.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::Scope,
        store::{
            Change, HeadChange,
            contract::fixtures::*,
            postgres::{PostgresStore, tests::temporary_settings},
            sqlite::SqliteStore,
        },
    };

    /// A store with rows of every kind, some of them changed before, under heads that count them.
    async fn fill_source(store: &dyn Store) {
        let first = [
            Write::instance(sealed(instance())),
            Write::Vault(sealed(vault(1, "dev"))),
            Write::Vault(sealed(vault(2, "prod"))),
            Write::Key(sealed(key(2, "dev", "Root"))),
            Write::Assignment(sealed(assignment(3, Scope::Service))),
            Write::Token(sealed(token(4))),
            Write::IssuerKey(sealed(issuer_key(5))),
            Write::RoleDefinition(sealed(role_definition(4, "Signer"))),
            Write::AccessPolicy(sealed(access_policy("dev", "a:b"))),
            Write::Usage(sealed(usage(10, 1, 1))),
            Write::Known(sealed(known(2, 1))),
            Write::Known(sealed(known(30, 1))),
            Write::Secret(sealed(secret(40, "dev", "Db-Password"))),
            Write::SecretVersion(sealed(secret_version(41, "dev", "Db-Password", 1))),
        ];
        let versions = (0..20).map(|n| Write::Version(sealed(version(10 + n, "dev", "Root", u64::from(n)))));
        store.commit(change(first.into_iter().chain(versions))).await.expect("committed");
        let (mut dev, mut newer) = (vault(1, "dev"), usage(10, 7, 2));
        (dev.revision, dev.tags) = (2, odd_tags());
        newer.revision = 2;
        store.commit(change([Write::Vault(sealed(dev)), Write::Usage(sealed(newer))])).await.expect("committed");
        for scope in [HeadScope::Service, HeadScope::Vault([1; 16])] {
            for revision in 1..=2 {
                let rows = store.scope(&scope).await.expect("read").rows;
                let head = HeadChange { head: sealed(head(scope, revision, &rows)), steps: vec![step(1, revision)] };
                store.commit(Change { heads: vec![head], ..change([]) }).await.expect("committed");
            }
        }
        let with = |n| Change { request: Some(request(n, "spiffe://example.org/ci", 100)), ..change([]) };
        store.commit(with(1)).await.expect("committed");
        store.commit(with(2)).await.expect("committed");
        store.put_replica(sealed(replica(0, "main"))).await.expect("written");
        store.beat(beat("main", 1)).await.expect("kept");
        store.take_lease("rotate", &replica_name("main"), Duration::ZERO).await.expect("answered");
        store.take_lease("rotate", &replica_name("main"), Duration::ZERO).await.expect("answered");
    }

    async fn same(one: &dyn Store, other: &dyn Store) {
        assert_eq!(one.instance().await.expect("read"), other.instance().await.expect("read"));
        assert_eq!(one.heads().await.expect("read"), other.heads().await.expect("read"));
        for scope in [HeadScope::Service, HeadScope::Vault([1; 16])] {
            let mut rows = [one.scope(&scope).await.expect("read"), other.scope(&scope).await.expect("read")];
            rows.iter_mut().for_each(|rows| rows.rows.sort());
            assert_eq!(rows[0].rows, rows[1].rows);
        }
        let (dev, root) = (vault_name("dev"), key_name("root"));
        assert_eq!(one.vaults(None, 9, true).await.expect("read"), other.vaults(None, 9, true).await.expect("read"));
        assert_eq!(
            one.versions(&dev, &root, None, 99).await.expect("read"),
            other.versions(&dev, &root, None, 99).await.expect("read")
        );
        assert_eq!(one.usage(version_id(10)).await.expect("read"), other.usage(version_id(10)).await.expect("read"));
        let known = (one.all_known([1; 16], None, 9).await, other.all_known([1; 16], None, 9).await);
        assert_eq!(known.0.expect("read"), known.1.expect("read"));
        let newest = version_id(41);
        let value = (one.secret_version(&dev, newest).await, other.secret_version(&dev, newest).await);
        assert_eq!(value.0.expect("read"), value.1.expect("read"));
        assert_eq!(one.access_policies().await.expect("read"), other.access_policies().await.expect("read"));
        assert_eq!(one.requests(None, 9).await.expect("read"), other.requests(None, 9).await.expect("read"));
        assert_eq!(one.replicas().await.expect("read")[0].row, other.replicas().await.expect("read")[0].row);
        let (had, has) = (one.leases().await.expect("read"), other.leases().await.expect("read"));
        assert_eq!((had[0].0.token, &had[0].1), (has[0].0.token, &has[0].1));
        assert_eq!(has[0].2, Duration::ZERO, "nobody has it");
    }

    async fn file(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        (folder, path)
    }

    #[tokio::test]
    async fn a_copy_holds_the_same_and_goes_on() {
        let (_source, source) = SqliteStore::temporary().await;
        fill_source(&source).await;
        let (_folder, path) = file("copy.db").await;
        let target = SqliteStore::open_unfinished(&path).await.expect("opens");
        let counts = copy(&source, &target, false).await.expect("copied");
        assert!(counts.contains(&("versions", 20)) && counts.contains(&("requests", 2)), "{counts:?}");
        target.close().await;
        let target = SqliteStore::open(&path).await.expect("it is whole");
        same(&source, &target).await;
        let head = bare(head(HeadScope::Service, 3, &[]));
        target.commit(Change { heads: vec![head], ..change([]) }).await.expect("committed");
        assert_eq!(target.way(&HeadScope::Service, 1).await.expect("read"), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_copy_goes_to_postgres_and_back() {
        let Some(settings) = temporary_settings().await else { return };
        let (_source, source) = SqliteStore::temporary().await;
        fill_source(&source).await;
        let there = PostgresStore::open_unfinished(settings.clone()).await.expect("opens");
        copy(&source, &there, false).await.expect("copied");
        there.close().await;
        let there = PostgresStore::open(settings).await.expect("it is whole");
        same(&source, &there).await;
        let (_folder, path) = file("back.db").await;
        let back = SqliteStore::open_unfinished(&path).await.expect("opens");
        copy(&there, &back, false).await.expect("copied");
        same(&source, &back).await;
    }

    async fn refuses_then_begins_anew(source: &dyn Store, target: &dyn Store) {
        // Half of it, as if killed.
        target.begin_filling(false).await.expect("is empty");
        let writes = vec![Write::Vault(sealed(vault(1, "dev"))), Write::Key(sealed(key(2, "dev", "Root")))];
        target.fill(Batch { writes, ..Batch::default() }).await.expect("written");
        let result = copy(source, target, false).await;
        assert!(matches!(result, Err(CopyError::Target(FillingError::Unfinished))), "{result:?}");
        copy(source, target, true).await.expect("copied");
        same(source, target).await;
        for anew in [false, true] {
            let result = copy(source, target, anew).await;
            assert!(matches!(result, Err(CopyError::Target(FillingError::NotEmpty { .. }))), "{result:?}");
        }
        let result = target.fill(Batch::default()).await;
        assert!(matches!(result, Err(CommitError::Conflict)), "it is filled no more: {result:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn half_a_copy_is_not_opened_and_is_begun_anew() {
        let (_source, source) = SqliteStore::temporary().await;
        fill_source(&source).await;
        let (_folder, path) = file("copy.db").await;
        let target = SqliteStore::open_unfinished(&path).await.expect("opens");
        target.begin_filling(false).await.expect("is empty");
        let result = SqliteStore::open(&path).await;
        assert!(matches!(result, Err(StoreError::Unfinished)), "{result:?}");
        target.begin_filling(true).await.expect("anew");
        target.finish_filling().await.expect("finished");
        refuses_then_begins_anew(&source, &target).await;
        if let Some(settings) = temporary_settings().await {
            let there = PostgresStore::open_unfinished(settings).await.expect("opens");
            refuses_then_begins_anew(&source, &there).await;
        }
    }

    #[tokio::test]
    async fn a_source_with_other_rows_than_its_heads_count_is_found() {
        let (_source, source) = SqliteStore::temporary().await;
        fill_source(&source).await;
        source.commit(change([Write::Assignment(sealed(assignment(9, Scope::Service)))])).await.expect("committed");
        let (_folder, path) = file("copy.db").await;
        let target = SqliteStore::open_unfinished(&path).await.expect("opens");
        let result = copy(&source, &target, false).await;
        assert!(matches!(&result, Err(CopyError::Rows { scope }) if scope == "service"), "{result:?}");
        target.close().await;
        assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::Unfinished)));
    }
}
