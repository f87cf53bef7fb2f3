//! How often keys are used: budgets, and what is known of their last use; and putting old ciphertexts under new versions.

use std::sync::Arc;

use strongroom::{
    model::{Algorithm, BudgetAction, KeySpec, ManualClock, RotationPolicy, Timestamp, UseBudget},
    service::{
        ChangeOptions, Ciphertext, KeyFilter, KeyRef, Page, Service,
        asked::Asked,
        batch::{Destination, Done, Item},
        rotation::Round,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    ec,
    estate::{Estate, caller, key},
    named,
};

async fn budget(service: &Arc<Service>, name: &str, uses: u64, action: BudgetAction) {
    let policy = RotationPolicy { use_budget: Some(UseBudget { uses, action }), ..RotationPolicy::default() };
    let options = ChangeOptions::default();
    service.update_rotation_policy(&caller(), &named(name), policy, options).await.expect("set");
}

/// Signs so often; says how often it was allowed, and why not otherwise.
async fn signed(service: &Arc<Service>, name: &str, times: usize) -> (usize, Option<&'static str>) {
    let (mut done, mut refusal) = (0, None);
    for _ in 0..times {
        match service.sign(&caller(), &named(name), Algorithm::Es256, vec![7; 32].into()).await {
            Ok(_) => done += 1,
            Err(error) => refusal = Some(error.problem.reason()),
        }
    }
    (done, refusal)
}

#[tokio::test]
async fn a_version_signs_as_often_as_its_budget_says_and_verifies_for_ever() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    budget(&service, "k", 10, BudgetAction::Refuse).await;
    let name = named("k");
    let made = service.sign(&caller(), &name, Algorithm::Es256, vec![7; 32].into()).await.expect("signs");
    assert_eq!(signed(&service, "k", 12).await, (9, Some("USE_BUDGET_SPENT")));
    let verdict = service.verify(&caller(), &name, Algorithm::Es256, vec![7; 32].into(), made.signature).await;
    assert!(verdict.expect("verifies").1);
    // In a batch those for which there is some left are signed.
    service.rotate_key(&caller(), &name, ChangeOptions::default()).await.expect("rotated");
    let item = || Ok(Item::Sign(named("k"), Asked::sign(Algorithm::Es256, vec![7; 32].into())));
    let results = service.batch(&caller(), (0..15).map(|_| item()).collect()).await.expect("answered");
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    // A restart forgets at most what was reserved: never more than the budget.
    service.rotate_key(&caller(), &name, ChangeOptions::default()).await.expect("rotated");
    assert_eq!(signed(&service, "k", 5).await, (5, None));
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("opens");
    let (more, refusal) = signed(&service, "k", 10).await;
    assert!((1..=5).contains(&more) && refusal == Some("USE_BUDGET_SPENT"), "{more}");
}

#[tokio::test]
async fn a_key_rotates_when_its_version_was_used_often_enough() {
    let mut estate = Estate::new().await;
    let clock = Arc::new(ManualClock::at(Timestamp(1_798_761_600)));
    estate.clock = Arc::clone(&clock) as _;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    budget(&service, "k", 10, BudgetAction::Rotate).await;
    let pass = async || {
        clock.pass(2);
        service.do_what_is_due(&mut Round::default(), &CancellationToken::new()).await.expect("done");
        service.get_key(&caller(), &named("k")).await.expect("shown").version.ordinal
    };
    assert_eq!(signed(&service, "k", 9).await, (9, None));
    assert_eq!(pass().await, 1, "there is one left");
    assert_eq!(signed(&service, "k", 3).await, (3, None), "until it has rotated it goes on");
    assert_eq!(pass().await, 2);
    assert_eq!(pass().await, 2, "once");
    assert_eq!(signed(&service, "k", 10).await, (10, None));
    assert_eq!(pass().await, 3);
}

#[tokio::test]
async fn the_use_of_versions_is_noted_and_survives_a_restart() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first = service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made").version;
    assert_eq!(signed(&service, "k", 3).await.0, 3);
    service.rotate_key(&caller(), &named("k"), ChangeOptions::default()).await.expect("rotated");
    let known = async |service: &Arc<Service>| {
        let page = Page { size: 10, after: None, deleted: false };
        let found = service.list_versions(&caller(), &named("k"), page).await.expect("listed").0;
        found.into_iter().map(|view| (view.activity.map(|known| known.uses), view.since)).collect::<Vec<_>>()
    };
    service.keep_activity().await.expect("kept");
    let found = known(&service).await;
    assert_eq!((found[0].0, found[1].0), (None, Some(3)));
    assert!(found[1].1 >= first.created);
    assert_eq!(signed(&service, "k", 2).await.0, 2);
    // A refusal is no use.
    let wrong = service.sign(&caller(), &named("k"), Algorithm::Rs256, vec![7; 32].into()).await;
    assert!(wrong.is_err());
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("opens");
    let found = known(&service).await;
    assert_eq!((found[0].0, found[1].0), (Some(2), Some(3)));
}

#[tokio::test]
async fn what_is_under_an_old_version_is_put_under_the_newest_in_one_and_in_many() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), key("k", KeySpec::Aes256), ChangeOptions::default()).await.expect("made");
    service.create_key(&caller(), key("r", KeySpec::Rsa2048), ChangeOptions::default()).await.expect("made");
    let (name, algorithm) = (named("k"), Algorithm::A256Gcm);
    let text = |n: u8| vec![n; 20];
    let mut old = Vec::new();
    for n in 0..3 {
        let sealed = service.encrypt(&caller(), &name, algorithm, text(n).into(), Vec::new(), b"aad".to_vec()).await;
        old.push(sealed.expect("encrypted"));
    }
    let newest = service.rotate_key(&caller(), &name, ChangeOptions::default()).await.expect("rotated").version;
    let source = |n: usize| KeyRef { version: Some(old[n].version.version), ..named("k") };
    let input = |n: usize| Ciphertext {
        ciphertext: old[n].ciphertext.clone(),
        iv: old[n].iv.clone(),
        tag: old[n].tag.clone(),
        additional_data: b"aad".to_vec(),
    };
    let to = |name, algorithm, additional_data| Destination { name, algorithm, iv: Vec::new(), additional_data };
    let items = vec![
        Ok(Item::ReEncrypt(source(0), Asked::decrypt(algorithm, input(0)), to(named("k"), algorithm, b"new".to_vec()))),
        Ok(Item::Sign(named("r"), Asked::sign(Algorithm::Ps256, vec![7; 32].into()))),
        Ok(Item::ReEncrypt(
            source(1),
            Asked::decrypt(algorithm, Ciphertext { tag: vec![0; 16], ..input(1) }),
            to(named("k"), algorithm, Vec::new()),
        )),
        Ok(Item::ReEncrypt(
            source(2),
            Asked::decrypt(algorithm, input(2)),
            to(named("r"), Algorithm::RsaOaep256, Vec::new()),
        )),
        Ok(Item::ReEncrypt(
            source(2),
            Asked::decrypt(algorithm, input(2)),
            to(named("r"), Algorithm::A256Gcm, Vec::new()),
        )),
    ];
    let results = service.batch(&caller(), items).await.expect("answered");
    let [
        Ok(Done::ReEncrypted(from, first)),
        Ok(Done::Signed(_)),
        Err(broken),
        Ok(Done::ReEncrypted(_, rsa)),
        Err(wrong),
    ] = &results[..]
    else {
        panic!("{results:?}")
    };
    assert_eq!((from.version, first.version.version), (old[0].version.version, newest.version));
    assert_eq!((broken.problem.reason(), wrong.problem.reason()), ("DECRYPTION_FAILED", "WRONG_ALGORITHM"));
    let opened = |sealed: &strongroom::service::Encrypted, additional_data: &[u8]| Ciphertext {
        ciphertext: sealed.ciphertext.clone(),
        iv: sealed.iv.clone(),
        tag: sealed.tag.clone(),
        additional_data: additional_data.to_vec(),
    };
    let plain = service.decrypt(&caller(), &name, algorithm, opened(first, b"new")).await.expect("decrypts").1;
    assert_eq!(plain.expose_secret(), text(0));
    let plain =
        service.decrypt(&caller(), &named("r"), Algorithm::RsaOaep256, opened(rsa, b"")).await.expect("decrypts").1;
    assert_eq!(plain.expose_secret(), text(2));
}

#[tokio::test]
async fn lists_show_what_is_asked_for_and_page_on_while_keys_come_and_go() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    for n in 0..12 {
        let spec = if n % 3 == 0 { KeySpec::P256 } else { KeySpec::Aes256 };
        service.create_key(&caller(), key(&format!("k{n:02}"), spec), ChangeOptions::default()).await.expect("made");
    }
    let vault = "dev".parse().expect("right");
    let filter = KeyFilter { algorithm: Some(Algorithm::Es256), ..KeyFilter::default() };
    let mut page = Page { size: 5, after: None, deleted: false };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let (items, last) = service.list_keys(&caller(), &vault, &filter, page.clone()).await.expect("listed");
        found.extend(items.iter().map(|view| view.key.name.to_string()));
        pages += 1;
        if pages == 1 {
            // Those before the page's end are not looked at again, those after it are.
            service.delete_key(&caller(), &named("k09"), ChangeOptions::default()).await.expect("deleted");
            for name in ["a", "z"] {
                service.create_key(&caller(), ec(name), ChangeOptions::default()).await.expect("made");
            }
        }
        let Some(last) = last else { break };
        page.after = Some(last);
    }
    assert_eq!(found, ["k00", "k03", "k06", "z"]);
    assert_eq!(pages, 3);
}
