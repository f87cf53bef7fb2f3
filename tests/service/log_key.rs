//! Another log key in the log key's place: whoever holds only the first one follows, wherever it was interrupted.

use std::{fs, path::PathBuf, sync::Arc};

use strongroom::{
    audit::{
        self, Against, Damage, OpenError, Verified, handover,
        tlog::{SignedNote, VerifierKey},
    },
    service::{ChangeOptions, Service, ServiceError},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ec,
    estate::{Estate, caller},
    rows::shut,
};

async fn rotate(service: &Arc<Service>) -> Result<VerifierKey, ServiceError> {
    let made = service.rotate_log_key(&caller(), ChangeOptions::default()).await?;
    assert!(made.change.is_some());
    Ok(made.key.parse().expect("a key"))
}

/// Does what the job does, until the old one is gone.
async fn end(service: &Arc<Service>) {
    service.end_log_change(&CancellationToken::new()).await.expect("goes on");
    assert_eq!(service.instance().log_keys.change, None);
}

async fn key(service: &Arc<Service>) -> VerifierKey {
    service.own_keys(&caller()).await.expect("shown").log_key.key.parse().expect("a key")
}

fn log(estate: &Estate) -> PathBuf {
    estate.folder().join("log")
}

fn verify(estate: &Estate, key: &VerifierKey, against: &[String]) -> Result<Verified, OpenError> {
    let note = |text: &String| ("kept".to_owned(), SignedNote::parse(text.as_bytes()).expect("a note"));
    audit::verify(&log(estate), &Against { keys: vec![key.clone()], checkpoints: against.iter().map(note).collect() })
}

fn checkpoint(estate: &Estate) -> String {
    fs::read_to_string(log(estate).join("checkpoint")).expect("a checkpoint")
}

#[tokio::test]
async fn whoever_holds_the_first_key_follows_through_two_rotations() {
    let estate = Estate::new().await;
    let (service, kept) = (estate.open().await.expect("opens"), checkpoint(&estate));
    let first = key(&service).await;
    let second = rotate(&service).await.expect("made");
    assert_ne!(first, second);
    let again = rotate(&service).await.expect_err("one at a time");
    assert_eq!(again.problem.reason(), "LOG_KEY_IN_ROTATION");
    end(&service).await;
    service.create_key(&caller(), ec("between"), ChangeOptions::default()).await.expect("made");
    shut(service).await;
    let second_kept = checkpoint(&estate);
    let service = estate.open().await.expect("opens");
    assert_eq!(key(&service).await, second);
    let third = rotate(&service).await.expect("made");
    end(&service).await;
    service.create_key(&caller(), ec("later"), ChangeOptions::default()).await.expect("made");
    assert_eq!(service.instance().log_keys.former.len(), 2);
    shut(service).await;

    let verified = verify(&estate, &first, &[kept.clone(), second_kept.clone()]).expect("is what was written");
    assert_eq!(verified.keys, [first.clone(), second.clone(), third.clone()]);
    let handovers: Vec<_> = verified.handovers.iter().map(|handover| (&handover.from, &handover.to)).collect();
    assert_eq!(handovers, [(&first, &second), (&second, &third)]);
    assert!(verified.open.is_empty() && verified.signed == verified.records);
    verify(&estate, &third, &[]).expect("the newest is enough");
    // Who holds a later key does not know what an earlier one has signed.
    let refused = verify(&estate, &third, &[kept]).expect_err("no key for it");
    assert!(matches!(refused, OpenError::Damaged { what: Damage::Signature(_), .. }), "{refused}");
    let text = estate.log_text();
    for wanted in ["next log key", "done: the old log key is destroyed", &third.to_string(), "which it has signed"] {
        assert!(text.contains(wanted), "{wanted}");
    }
    // Without the old one's note nobody else's word is taken.
    fs::remove_file(log(&estate).join(handover::file_of(&second))).expect("removed");
    assert!(verify(&estate, &first, &[]).is_err());
    estate.open().await.expect("the sealed row knows them all");
}

#[tokio::test]
async fn it_goes_on_wherever_it_was_interrupted() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first = key(&service).await;
    // In the store, and the log has not gone over.
    let second = rotate(&service).await.expect("made");
    shut(service).await;
    assert!(verify(&estate, &first, &[]).expect("by the first").handovers.is_empty());
    let by_first = checkpoint(&estate);
    let service = estate.open().await.expect("goes over");
    assert_eq!(service.instance().log_keys.change.as_ref().map(|change| change.old.id), Some(None));
    let _ = service.close().await;
    drop(service);
    assert_eq!(verify(&estate, &first, &[]).expect("follows").keys, [first.clone(), second.clone()]);
    // The note is there, and no checkpoint by the next one yet.
    fs::write(log(&estate).join("checkpoint"), &by_first).expect("put back");
    let service = estate.open().await.expect("goes over again");
    assert_eq!(
        verify(&estate, &first, std::slice::from_ref(&by_first)).expect("follows").keys,
        [first.clone(), second.clone()]
    );
    // Destroyed, and the row says that it is there.
    let keys = service.instance().worker_keys();
    let destroy = strongroom_hsm::protocol::Provision::DestroyLogKey { keys, id: None };
    strongroom_hsm::pool::provision(&estate.profile(), vec![destroy]).await.expect("destroyed");
    shut(service).await;
    let service = estate.open().await.expect("opens without it");
    end(&service).await;
    shut(service).await;
    // A log that was away all the time: its old key is gone and names nobody, and the row vouches for the next one.
    fs::write(log(&estate).join("checkpoint"), &by_first).expect("put back");
    fs::remove_dir_all(log(&estate).join("keys")).expect("removed");
    let service = estate.open().await.expect("opens");
    shut(service).await;
    verify(&estate, &second, &[]).expect("by the next one");
    assert!(verify(&estate, &first, &[]).is_err(), "nothing leads there");
    assert!(estate.log_text().contains("without its signature, for it is gone"));
}

#[tokio::test]
async fn what_the_old_key_signs_after_it_has_handed_over_is_not_believed() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first = key(&service).await;
    rotate(&service).await.expect("made");
    end(&service).await;
    service.create_key(&caller(), ec("more"), ChangeOptions::default()).await.expect("made");
    shut(service).await;
    // A later one of its own: here by the note of an earlier handover in the place of the one that is there.
    let file = log(&estate).join(handover::file_of(&first));
    let note = fs::read_to_string(&file).expect("a note");
    fs::write(log(&estate).join("checkpoint"), &note).expect("put there");
    let verified = verify(&estate, &first, &[]).expect("the last that it has signed is its own");
    assert!(verified.signed < verified.records);
    fs::write(&file, note.replace("strongroom-next-key", "strongroom-nobody")).expect("altered");
    let refused = verify(&estate, &first, &[]);
    assert!(refused.is_ok_and(|verified| verified.handovers.is_empty()), "an altered note leads nowhere");
}
