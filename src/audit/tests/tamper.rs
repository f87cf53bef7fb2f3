//! What somebody else did to the files is found, and nothing of it is repaired.

use super::*;

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn edit_lines(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<String> = std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
}

#[tokio::test]
async fn any_flipped_byte_is_found() {
    let (_dir, path) = temporary();
    filled(&path, 1 << 20, 3).await;
    let segment = segments(&path).remove(0);
    let whole = std::fs::read(&segment).unwrap();
    // But for the very last one, without which the line is torn.
    for at in 0..whole.len() - 1 {
        edit(&segment, |bytes| bytes[at] ^= 1);
        damage(verify(&path));
        damage(Log::open(&path, options(1 << 20), INSTANCE));
        let now = std::fs::read(&segment).unwrap();
        assert_eq!(now.len(), whole.len(), "nothing is repaired");
        std::fs::write(&segment, &whole).unwrap();
    }
    verify(&path).unwrap();
}

#[tokio::test]
async fn a_removed_line_and_swapped_lines_are_found() {
    let (_dir, path) = temporary();
    filled(&path, 1 << 20, 4).await;
    let segment = segments(&path).remove(0);
    let whole = std::fs::read(&segment).unwrap();
    edit_lines(&segment, |lines| drop(lines.remove(2)));
    let missing = (3, Damage::Index { expected: 1, found: 2 });
    assert_eq!(damage(verify(&path)), missing);
    assert_eq!(damage(Log::open(&path, options(1 << 20), INSTANCE)), missing);
    std::fs::write(&segment, &whole).unwrap();
    edit_lines(&segment, |lines| lines.swap(2, 3));
    assert_eq!(damage(verify(&path)), missing);
    std::fs::write(&segment, &whole).unwrap();
    edit_lines(&segment, |lines| lines[2] = lines[2].replace("ES256", "RS256"));
    assert_eq!(damage(verify(&path)), (3, Damage::Leaf));
    std::fs::write(&segment, &whole).unwrap();
    edit_lines(&segment, |lines| lines.insert(2, "garbage".to_owned()));
    assert_eq!(damage(Log::open(&path, options(1 << 20), INSTANCE)), (3, Damage::Malformed));
}

#[tokio::test]
async fn an_unknown_field_or_an_empty_line_is_found() {
    let (_dir, path) = temporary();
    filled(&path, 1 << 20, 1).await;
    let segment = segments(&path).remove(0);
    let whole = std::fs::read(&segment).unwrap();
    let more = |line: &str| line.replace(r#""time""#, r#""more":1,"time""#);
    edit_lines(&segment, |lines| lines[1] = more(&lines[1]));
    assert_eq!(damage(verify(&path)), (2, Damage::Leaf));
    std::fs::write(&segment, &whole).unwrap();
    edit_lines(&segment, |lines| lines[1] = under_its_leaf(&more(&lines[1])));
    assert_eq!(damage(verify(&path)), (2, Damage::Malformed));
    std::fs::write(&segment, &whole).unwrap();
    edit(&segment, |bytes| bytes.push(b'\n'));
    assert_eq!(damage(Log::open(&path, options(1 << 20), INSTANCE)), (3, Damage::Malformed));
}

#[tokio::test]
async fn a_removed_segment_is_found() {
    let (_dir, path) = temporary();
    filled(&path, 4096, 50).await;
    let paths = segments(&path);
    for gone in [0, 2] {
        let aside = path.join("aside");
        std::fs::rename(&paths[gone], &aside).unwrap();
        assert!(matches!(damage(verify(&path)), (0, Damage::Gap { .. } | Damage::Tile)));
        assert!(matches!(damage(Log::open(&path, options(4096), INSTANCE)), (0, Damage::Gap { .. } | Damage::Tile)));
        std::fs::rename(&aside, &paths[gone]).unwrap();
    }
    verify(&path).unwrap();
}

#[tokio::test]
async fn a_cut_end_of_an_inner_segment_is_found() {
    let (_dir, path) = temporary();
    filled(&path, 4096, 50).await;
    let inner = segments(&path).remove(1);
    let whole = std::fs::read(&inner).unwrap();
    edit_lines(&inner, |lines| drop(lines.pop()));
    assert!(matches!(damage(verify(&path)), (0, Damage::Gap { .. })));
    std::fs::write(&inner, &whole).unwrap();
    edit(&inner, |bytes| bytes.truncate(bytes.len() - 5));
    assert_eq!(damage(verify(&path)).1, Damage::Unterminated);
    edit(&inner, Vec::clear);
    assert_eq!(damage(verify(&path)), (1, Damage::Unterminated));
}

#[tokio::test]
async fn a_header_that_forgets_is_found() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 4096);
    log.append(intent(1), Durability::Write).await.unwrap();
    while segments(&path).len() < 2 {
        log.append(operation(1), Durability::Write).await.unwrap();
    }
    drop(log);
    let last = segments(&path).remove(1);
    edit_lines(&last, |lines| {
        lines.truncate(1);
        let open_at = lines[0].find(r#","open""#).unwrap();
        lines[0].replace_range(open_at.., "}");
        lines[0] = under_its_leaf(&lines[0]);
    });
    assert_eq!(damage(verify(&path)), (1, Damage::Standing));
}

#[tokio::test]
async fn the_log_of_another_instance_is_found() {
    let (_dir, path) = temporary();
    filled(&path, 4096, 50).await;
    let foreign = damage(Log::open(&path, options(4096), "ff00"));
    assert_eq!(foreign, (1, Damage::Instance { found: format!("instances/{INSTANCE}") }));
    // A segment of the same name and length, but of another instance.
    let (_other_dir, other) = temporary();
    let (log, _) = Log::open(&other, options(4096), &"f".repeat(INSTANCE.len())).unwrap();
    for n in 0..50 {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
    drop(log);
    let (ours, theirs) = (segments(&path), segments(&other));
    assert_eq!(ours[2].file_name(), theirs[2].file_name());
    std::fs::copy(&theirs[2], &ours[2]).unwrap();
    assert_eq!(
        damage(verify(&path)),
        (1, Damage::Instance { found: format!("instances/{}", "f".repeat(INSTANCE.len())) })
    );
}

#[tokio::test]
async fn a_segment_of_a_wrong_name_is_found() {
    let (_dir, path) = temporary();
    filled(&path, 1 << 20, 3).await;
    let segment = segments(&path).remove(0);
    std::fs::write(disk::journal(&path).join("notes.txt"), "not ours").unwrap();
    verify(&path).unwrap();
    for name in ["1.jsonl", "0000000000000000000x.jsonl", "99999999999999999999.jsonl", "+0000000000000000001.jsonl"] {
        std::fs::copy(&segment, disk::journal(&path).join(name)).unwrap();
        assert_eq!(damage(Log::open(&path, options(1 << 20), INSTANCE)), (0, Damage::Name));
        std::fs::remove_file(disk::journal(&path).join(name)).unwrap();
    }
    std::fs::rename(&segment, disk::journal(&path).join(disk::segment_name(1))).unwrap();
    assert_eq!(damage(Log::open(&path, options(1 << 20), INSTANCE)).1, Damage::Tile);
}

#[tokio::test]
async fn text_of_a_caller_stays_in_its_field() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    let evil = "x\",\"outcome\":\"done\"}\n{\"index\":2,\"prev\":\"\u{1b}]0;\u{7}\u{9b}31m\u{202e}\u{0}\r";
    let record = Record {
        principal: Some(evil.to_owned()),
        resource: Some(evil.to_owned()),
        outcome: Outcome::Refused,
        ..operation(1)
    };
    log.append(record, Durability::Write).await.unwrap();
    drop(log);
    let bytes = std::fs::read(&segments(&path)[0]).unwrap();
    assert!(bytes.iter().all(|byte| *byte == b'\n' || (b' '..=b'~').contains(byte)));
    assert_eq!(verify(&path).unwrap().records, 1);
    assert_eq!(lines(&path)[1]["principal"], evil);
    assert_eq!(lines(&path)[1]["outcome"], "refused");
}
