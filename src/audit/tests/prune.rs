//! Old records leave, and what is left verifies.

use super::{
    super::prune::{self, Before, PruneError},
    tree::{check, signed},
    *,
};

/// 2001 records; the journal begins somewhere behind 1600.
async fn log() -> (TempDir, PathBuf, String) {
    let (dir, path) = temporary();
    let note = signed(&path, 32 << 10, 2000).await;
    (dir, path, note)
}

fn plan(dir: &Path, before: Before) -> std::ops::Range<u64> {
    prune::plan(dir, &check(dir, &[]).unwrap(), before).unwrap()
}

#[tokio::test]
async fn only_whole_bundles_before_the_journal_leave() {
    let (_dir, path, _) = log().await;
    let journal = disk::segments(&disk::journal(&path)).unwrap()[0].0;
    assert_eq!(plan(&path, Before::Index(255)), 0..0);
    assert_eq!(plan(&path, Before::Index(256)), 0..256);
    assert_eq!(plan(&path, Before::Index(600)), 0..512);
    assert_eq!(plan(&path, Before::Index(u64::MAX)), 0..journal - journal % 256);
    assert_eq!(plan(&path, Before::Time(1_700_000_000)), 0..0, "all records are of that second");
    assert_eq!(plan(&path, Before::Time(1_700_000_001)), 0..journal - journal % 256);
}

#[tokio::test]
async fn archived_records_leave_a_log_that_verifies_and_come_back() {
    let (dir, path, note) = log().await;
    let archive = dir.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let before = std::fs::read(path.join("tile/entries/001")).unwrap();
    prune::prune(&path, plan(&path, Before::Index(600)), Some(&archive)).unwrap();
    assert_eq!(check(&path, &[&note]).unwrap().first, 512);
    assert_eq!(std::fs::read(archive.join("tile/entries/001")).unwrap(), before);
    assert_eq!(plan(&path, Before::Index(1000)), 512..768);
    prune::prune(&path, plan(&path, Before::Index(1000)), Some(&archive)).unwrap();
    for bundle in ["000", "001", "002"] {
        let name = Path::new("tile/entries").join(bundle);
        std::fs::copy(archive.join(&name), path.join(&name)).unwrap();
    }
    assert_eq!(check(&path, &[&note]).unwrap().first, 0);
}

#[tokio::test]
async fn an_interrupted_run_is_gone_on_with() {
    let (dir, path, note) = log().await;
    let archive = dir.path().join("archive");
    std::fs::create_dir_all(archive.join("tile/entries")).unwrap();
    std::fs::copy(path.join("tile/entries/000"), archive.join("tile/entries/000")).unwrap();
    std::fs::write(archive.join("tile/entries/001.new"), "torn").unwrap();
    prune::prune(&path, 0..512, Some(&archive)).unwrap();
    assert_eq!(check(&path, &[&note]).unwrap().first, 512);
    assert!(!archive.join("tile/entries/001.new").exists());
}

#[tokio::test]
async fn what_is_not_what_the_tree_says_does_not_leave() {
    let (dir, path, _) = log().await;
    let archive = dir.path().join("archive");
    std::fs::create_dir_all(archive.join("tile/entries")).unwrap();
    let taken = archive.join("tile/entries/000");
    std::fs::write(&taken, "another log's").unwrap();
    assert!(matches!(prune::prune(&path, 0..256, Some(&archive)), Err(PruneError::Taken(found)) if found == taken));
    std::fs::remove_file(&taken).unwrap();
    let bundle = path.join("tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    assert!(matches!(prune::prune(&path, 0..256, Some(&archive)), Err(PruneError::Altered(found)) if found == bundle));
    assert!(bundle.exists() && !taken.exists());
}
