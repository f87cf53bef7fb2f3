//! Segments: their size, and what the last one knows of those before it.

use super::*;

#[tokio::test]
async fn segments_end_at_their_limit() {
    let (_dir, path) = temporary();
    filled(&path, 4096, 50).await;
    let paths = segments(&path);
    assert!(paths.len() > 4);
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.len() <= 4096);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["operation"], "log.segment");
        assert_eq!(first["resource"], format!("instances/{INSTANCE}"));
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            format!("{:020}.jsonl", first["index"].as_u64().unwrap())
        );
    }
    assert_eq!(verify(&path).unwrap().records, 50);
}

#[tokio::test]
async fn a_limit_under_the_size_of_a_record_still_takes_one_per_segment() {
    let (_dir, path) = temporary();
    filled(&path, 1, 3).await;
    assert_eq!(verify(&path).unwrap().records, 3);
    assert_eq!(segments(&path).len(), 3);
}

#[tokio::test]
async fn open_intents_and_heads_are_found_over_segments() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 4096);
    let lost = log.append(intent(1), Durability::Fsync).await.unwrap();
    let settled = log.append(intent(2), Durability::Fsync).await.unwrap();
    log.append(outcome(lost + 1000, vec![head(0, 5), head(1, 9)]), Durability::Write).await.unwrap();
    log.append(outcome(lost + 1000, vec![head(1, 8)]), Durability::Write).await.unwrap();
    for n in 0..40 {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
    log.append(outcome(settled, vec![head(0, 6)]), Durability::Write).await.unwrap();
    for n in 0..400 {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
    drop(log);
    assert!(segments(&path).len() > 5);
    // The journal's last segment is enough for it: the others have left the journal for the tiles.
    let log = open(&path, 4096).0;
    tree::checkpoint(&log).await;
    drop(log);
    assert_ne!(segments(&path)[0].file_name().unwrap(), "00000000000000000000.jsonl");
    let (log, recovered) = open(&path, 4096);
    assert_eq!(recovered.open_intents, [(lost, intent(1))]);
    let heads: Vec<HeadMark> = recovered.heads.into_values().collect();
    assert_eq!(heads, [head(0, 6), head(1, 9)]);
    log.append(outcome(lost, Vec::new()), Durability::Write).await.unwrap();
    drop(log);
    assert_eq!(open(&path, 4096).1.open_intents, []);
    assert_eq!(verify(&path).unwrap().open, []);
}

#[tokio::test]
async fn a_header_of_many_heads_does_not_fill_every_segment() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 4096);
    let heads = (0..100).map(|scope| head(scope, 1)).collect();
    log.append(outcome(0, heads), Durability::Write).await.unwrap();
    for n in 0..100 {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
    assert!(segments(&path).len() < 8, "{}", segments(&path).len());
    verify(&path).unwrap();
}
