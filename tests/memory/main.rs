//! Loads: a worker whose cache is too small loads keys all the time, and grows by no more than its module
//! leaks. A test program of its own: it counts the memory of all its children.

use std::{fs, time::Duration};

use strongroom::model::{Algorithm, KeySpec};

#[allow(dead_code, reason = "shared with tests/service, which uses all of it")]
#[path = "../service/estate.rs"]
mod estate;

use estate::{Estate, caller, key};
use strongroom::service::KeyRef;

/// A name in the vault of every estate.
fn named(name: &str) -> KeyRef {
    KeyRef { vault: "dev".parse().expect("right"), key: name.parse().expect("right"), version: None }
}

/// Resident memory of every worker of this process, in bytes.
fn resident() -> u64 {
    let of = |entry: fs::DirEntry| -> Option<u64> {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse::<u64>().ok()
        };
        (field("PPid:")? == u64::from(std::process::id())).then_some(field("VmRSS:")? * 1024)
    };
    fs::read_dir("/proc").expect("/proc").filter_map(Result::ok).filter_map(of).sum()
}

/// Each round loads each of three AES keys into a cache of two.
async fn rounds(service: &std::sync::Arc<strongroom::service::Service>, count: usize) {
    for _ in 0..count {
        for name in ["a", "b", "c"] {
            let input = vec![1; 16].into();
            service.wrap_key(&caller(), &named(name), Algorithm::A256Kw, input).await.expect("wraps");
        }
    }
}

#[tokio::test]
async fn memory_grows_by_at_most_300_bytes_a_load() {
    let estate = Estate::new().await;
    let mut profile = estate.profile();
    profile.cached_keys_max = 2;
    let service = estate.open_with(profile).await.expect("opens");
    for name in ["a", "b", "c"] {
        service.create_key(&caller(), key(name, KeySpec::Aes256), Default::default()).await.expect("made");
    }
    rounds(&service, 2_000).await;
    let before = resident();
    const ROUNDS: usize = 10_000;
    tokio::time::timeout(Duration::from_secs(120), rounds(&service, ROUNDS)).await.expect("in time");
    let grown = resident().saturating_sub(before);
    let loads = 3 * ROUNDS as u64;
    // A page-sized allowance for the allocators; what counts is the slope.
    assert!(grown <= 300 * loads + (1 << 20), "{grown} bytes in {loads} loads");
}
