//! A store with one row of each kind, and everything that can be read of it.

use std::time::Duration;

use super::fixtures::*;
use crate::{
    model::{Scope, Timestamp},
    store::{Change, EventPlace, HeadScope, Position, Store, StoreError, Undelivered, Use, Write},
};

/// One row of each kind.
pub(crate) fn one_of_each() -> Change {
    let scope = Scope::Vault(vault_name("dev"));
    Change {
        heads: vec![bare(head(HeadScope::Service, 1, &[])), bare(head(HeadScope::Vault([1; 16]), 1, &[]))],
        request: Some(request(1, "spiffe://example.org/ci", 100)),
        events: vec![sealed(event(6, "dev")), sealed(event(7, "dev"))],
        ..change([
            Write::instance(sealed(instance())),
            Write::Vault(sealed(vault(1, "dev"))),
            Write::Key(sealed(with_policy(key(2, "dev", "Root")))),
            Write::Version(sealed(version(2, "dev", "Root", 1))),
            Write::Usage(sealed(usage(2, 1, 1))),
            Write::Known(sealed(known(2, 1))),
            Write::Secret(sealed(secret(8, "dev", "Db-Password"))),
            Write::SecretVersion(sealed(secret_version(9, "dev", "Db-Password", 1))),
            Write::Assignment(sealed(assignment(3, scope))),
            Write::Token(sealed(token(4))),
            Write::IssuerKey(sealed(issuer_key(5))),
            Write::RoleDefinition(sealed(role_definition(4, "Signer"))),
            Write::AccessPolicy(sealed(access_policy("dev", "a:b"))),
        ])
    }
}

/// Something in every table.
pub(crate) async fn fill(store: &dyn Store) {
    store.commit(one_of_each()).await.expect("committed");
    store.put_replica(sealed(replica(0, "main"))).await.expect("written");
    store.beat(beat("main", 1)).await.expect("kept");
    store.put_clock(sealed(clock(7, 1))).await.expect("set");
    let used = Use { version: version_id(2), used: Timestamp(1_700_000_001), uses: 3 };
    store.note_uses(vec![used]).await.expect("noted");
    let (begin, end) = store.event_bounds().await.expect("read");
    store.queue("ops", None, begin, Vec::new()).await.expect("begun");
    // What others have under way holds events of a shared database up.
    while store.events(begin, 9).await.expect("read").len() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = store.events(begin, 9).await.expect("read");
    let places: Vec<EventPlace> = found.into_iter().map(|(place, _)| place).collect();
    let dead = Undelivered { place: places[1], failure: "no".to_owned(), retry_after: None };
    store.queue("ops", Some(begin), end.max(begin), places).await.expect("queued");
    store.settle_deliveries("ops", Vec::new(), vec![dead]).await.expect("settled");
    store.take_lease("rotate", &replica_name("main"), Duration::from_secs(60)).await.expect("answered").expect("taken");
}

/// Everything that can be read, or the first error.
pub(crate) async fn read_all(store: &dyn Store) -> Result<usize, StoreError> {
    let (dev, root) = (vault_name("dev"), key_name("root"));
    let mut found = usize::from(store.instance().await?.is_some());
    found += usize::from(store.vault(&dev).await?.is_some());
    found += store.vaults(None, 9, true).await?.len();
    found += usize::from(store.key(&dev, &root).await?.is_some());
    found += store.keys(&dev, None, 9, true).await?.len();
    found += store.keys_due(Timestamp(i64::MAX), None, 9).await?.len();
    found += store.keys_with_policy(None, 9).await?.len();
    found += usize::from(store.version(&dev, version_id(2)).await?.is_some());
    found += store.versions(&dev, &root, None, 9).await?.len();
    found += usize::from(store.usage(version_id(2)).await?.is_some());
    found += usize::from(store.known([1; 16], [2; 16]).await?.is_some());
    found += store.all_known([1; 16], None, 9).await?.len();
    let password = key_name("db-password");
    found += usize::from(store.secret(&dev, &password).await?.is_some());
    found += store.secrets(&dev, None, 9, true).await?.len();
    found += store.secrets_due(Timestamp(i64::MAX), None, 9).await?.len();
    found += store.secrets_to_purge(Timestamp(i64::MAX), None, 9).await?.len();
    found += usize::from(store.secret_version(&dev, version_id(9)).await?.is_some());
    found += store.secret_versions(&dev, &password, None, 9).await?.len();
    found += store.assignments().await?.len();
    found += store.tokens().await?.len();
    found += store.issuer_keys().await?.len();
    found += store.role_definitions().await?.len();
    found += store.access_policies().await?.len();
    found += store.heads().await?.len();
    found += store.scope(&HeadScope::Service).await?.rows.len();
    found += store.scope(&HeadScope::Vault([1; 16])).await?.rows.len();
    found += usize::from(store.request("spiffe://example.org/ci", request_id(1), Timestamp(1)).await?.is_some());
    let heard = store.heard(None).await?;
    found += heard.heads.len() + usize::from(heard.position > Position(1));
    for scope in [HeadScope::Service, HeadScope::Vault([1; 16])] {
        found += store.way(&scope, 0).await?.map_or(0, |way| way.changes.len());
    }
    let replicas = store.replicas().await?;
    found += replicas.len() + replicas.iter().filter(|replica| replica.beat.is_some()).count();
    found += store.leases().await?.len();
    found += usize::from(store.clock().await?.is_some());
    found += store.activity(&dev, &root, None, 9).await?.len() + store.all_activity(None, 9).await?.len();
    found += store.events(EventPlace::default(), 9).await?.iter().filter(|(_, event)| event.is_some()).count();
    found += store.deliveries("ops", 9).await?.iter().filter(|delivery| delivery.event.is_some()).count();
    found += usize::from(store.webhook("ops").await?.is_some());
    found += store.webhooks().await?.len() + store.dead_letters("ops", EventPlace::default(), 9).await?.len();
    store.activity_since().await?;
    store.event_bounds().await?;
    Ok(found)
}

/// How much that is in a store that was filled.
pub(crate) const FOUND: usize = 55;
