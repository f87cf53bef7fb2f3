//! Sites as earlier releases left them: the store, the token and the audit logs. This release takes over while clients
//! work, and everything that was made before still does what it did.
//!
//! `tests/fixtures/sites/postgres-N` is one for each schema. `UPDATE_EXPECT=1` makes the one of this release, if it is
//! missing.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tonic::transport::Channel;

use super::{
    cluster::{Cluster, NAMES},
    recording::Recording,
    upgrade::Load,
};
use crate::{dev::text, postgres::Server};

/// What a site is besides its database.
const FOLDERS: [&str; 4] = ["tokens", "audit-a", "audit-b", "audit-c"];
/// What is kept beside it, to be verified and decrypted: made by the earlier release.
const MESSAGE: &str = "kept by an earlier release\n";

fn sites() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sites")
}

/// Copies a folder with what is in it, for its owner only.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("sets");
    for entry in fs::read_dir(from).expect("reads").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copies");
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("sets");
        }
    }
}

/// Makes the fixture of this release.
fn make(cluster: &mut Cluster, folder: &Path) {
    let message = cluster.site.path("message");
    fs::write(&message, MESSAGE).expect("writes");
    fs::create_dir_all(folder).expect("makes");
    (1..NAMES.len()).for_each(|n| cluster.stop(n));
    cluster.ok(0, &["key", "create", "signs", "--type", "EC"]);
    cluster.ok(0, &["key", "create", "encrypts", "--type", "oct"]);
    cluster.ok(0, &["key", "create", "stays", "--type", "EC", "--residency", "token"]);
    cluster.ok(0, &["key", "create", "off", "--type", "EC"]);
    cluster.ok(0, &["key", "update", "off", "--disable"]);
    cluster.ok(0, &["key", "create", "gone", "--type", "EC"]);
    cluster.ok(0, &["key", "delete", "gone"]);
    for key in ["signs", "stays"] {
        let out = folder.join(format!("{key}.sig"));
        let sign = ["key", "sign", key, "--algorithm", "ES256", "--in", text(&message), "--out", text(&out)];
        cluster.ok(0, &sign);
    }
    let out = folder.join("encrypted");
    cluster
        .ok(0, &["key", "encrypt", "encrypts", "--algorithm", "A256GCM", "--in", text(&message), "--out", text(&out)]);
    cluster.stop(0);
    fs::write(folder.join("store.sql"), cluster.postgres.dump("postgres", "strongroom")).expect("writes");
    for name in FOLDERS {
        copy(&cluster.site.path(name), &folder.join(name));
    }
}

/// That site again, on a database of its own; nobody serves yet.
fn restored(folder: &Path) -> Option<Cluster> {
    let postgres = Server::new()?;
    postgres.load("postgres", &folder.join("store.sql"));
    let cluster = Cluster::prepared(postgres, &[]);
    for name in FOLDERS {
        copy(&folder.join(name), &cluster.site.path(name));
    }
    fs::write(cluster.site.path("message"), MESSAGE).expect("writes");
    Some(cluster)
}

/// What was made before does what it did.
fn is_as_it_was(cluster: &Cluster, folder: &Path) {
    let message = cluster.site.path("message");
    for key in ["signs", "stays"] {
        let signature = folder.join(format!("{key}.sig"));
        let verify = ["key", "verify", key, "--algorithm", "ES256", "--in", text(&message)];
        cluster.ok(1, &[&verify[..], &["--signature", text(&signature)]].concat());
    }
    let (encrypted, out) = (folder.join("encrypted"), cluster.site.path("decrypted"));
    cluster.ok(2, &["key", "decrypt", "encrypts", "--in", text(&encrypted), "--out", text(&out)]);
    assert_eq!(fs::read_to_string(&out).expect("reads"), MESSAGE);
    let sign = ["key", "sign", "off", "--algorithm", "ES256", "--in", text(&message), "--out", text(&out)];
    let refused = cluster.run(0, &sign);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("disabled"), "{refused:?}");
    cluster.ok(0, &["key", "recover", "gone"]);
}

async fn takes_over(folder: &Path) {
    let Some(mut cluster) = restored(folder) else { return };
    cluster.serve(0);
    let channels: Vec<Channel> = (0..3).map(|n| cluster.channel(n)).collect();
    let load = Load::begin(&cluster, cluster.client().await).await;
    let recording = Recording::begin(&cluster, &channels[..1]);
    (1..NAMES.len()).for_each(|n| cluster.serve(n));
    is_as_it_was(&cluster, folder);
    load.end().await;
    recording.end(&channels).await;
    cluster.end_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sites_of_earlier_releases_go_on() {
    let Some(mut cluster) = Cluster::start() else { return };
    let schema = cluster.postgres.sql("SELECT version FROM strongroom.strongroom_schema");
    let own = sites().join(format!("postgres-{schema}"));
    if !own.exists() {
        assert!(std::env::var_os("UPDATE_EXPECT").is_some(), "{}: make it with UPDATE_EXPECT=1", own.display());
        make(&mut cluster, &own);
    }
    drop(cluster);
    for n in 1..=schema.parse::<u32>().expect("a number") {
        takes_over(&sites().join(format!("postgres-{n}"))).await;
    }
}
