//! 64 clients on mixed operations: no error, and memory that grows by no more than 300 bytes a key load.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use strongroom_proto::v1::{
    CreateKeyRequest, DecryptRequest, EncryptRequest, KeyVersion, SignRequest, UnwrapKeyRequest, VerifyRequest,
    WrapKeyRequest, crypto_client::CryptoClient, keys_client::KeysClient, sign_request, verify_request,
};
use tonic::transport::Channel;

use crate::{
    dev::{Dev, Start},
    rpc::connect,
};

/// A minute, as the promise says.
const LOAD_FOR: Duration = Duration::from_secs(60);
const CLIENTS: usize = 64;

/// Resident memory of a process, in bytes.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("reads");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kilobytes * 1024
}

async fn create(channel: &Channel, name: &str, key_type: i32) -> String {
    let version = KeyVersion { key_type, ..KeyVersion::default() };
    let request = CreateKeyRequest {
        parent: "vaults/dev".to_owned(),
        key_id: name.to_owned(),
        version: Some(version),
        ..CreateKeyRequest::default()
    };
    let key = KeysClient::new(channel.clone()).create_key(request).await.expect("made").into_inner();
    key.version.expect("a version").name
}

struct Names {
    rsa: String,
    ec: String,
    aes: String,
}

async fn one_round(client: &mut CryptoClient<Channel>, names: &Names, n: usize) -> Result<(), tonic::Status> {
    let digest = vec![u8::try_from(n % 256).expect("a byte"); 32];
    match n % 4 {
        0 | 1 => {
            let (name, algorithm) = if n.is_multiple_of(8) { (&names.rsa, "PS256") } else { (&names.ec, "ES256") };
            let request = SignRequest {
                name: name.clone(),
                algorithm: algorithm.to_owned(),
                input: Some(sign_request::Input::Digest(digest.clone())),
                input_crc32c: None,
            };
            let signed = client.sign(request).await?.into_inner();
            let request = VerifyRequest {
                name: signed.name,
                algorithm: algorithm.to_owned(),
                input: Some(verify_request::Input::Digest(digest)),
                signature: signed.signature,
                ..VerifyRequest::default()
            };
            assert!(client.verify(request).await?.into_inner().valid);
        }
        2 => {
            let request = EncryptRequest {
                name: names.aes.clone(),
                algorithm: "A256GCM".to_owned(),
                plaintext: digest.repeat(32),
                ..EncryptRequest::default()
            };
            let sealed = client.encrypt(request).await?.into_inner();
            let request = DecryptRequest {
                name: sealed.name,
                algorithm: "A256GCM".to_owned(),
                ciphertext: sealed.ciphertext,
                iv: sealed.iv,
                tag: sealed.tag,
                ..DecryptRequest::default()
            };
            assert_eq!(client.decrypt(request).await?.into_inner().plaintext, digest.repeat(32));
        }
        _ => {
            let request = WrapKeyRequest {
                name: names.aes.clone(),
                algorithm: "A256KW".to_owned(),
                key: digest.clone(),
                key_crc32c: None,
            };
            let wrapped = client.wrap_key(request).await?.into_inner();
            let request = UnwrapKeyRequest {
                name: wrapped.name,
                algorithm: "A256KW".to_owned(),
                wrapped_key: wrapped.wrapped_key,
                wrapped_key_crc32c: None,
            };
            assert_eq!(client.unwrap_key(request).await?.into_inner().key, digest);
        }
    }
    Ok(())
}

async fn load(channels: &[Channel], names: &Arc<Names>, until: Instant) -> usize {
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (channel, names) = (channels[client % channels.len()].clone(), Arc::clone(names));
            tokio::spawn(async move {
                let mut client = CryptoClient::new(channel);
                let mut done = 0;
                while Instant::now() < until {
                    one_round(&mut client, &names, done).await.expect("no error");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("no panic");
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_for_a_minute_see_no_error_and_memory_stays() {
    let mut dev = Dev::new();
    dev.stop();
    dev.start(Start::default());
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(connect(&dev).await);
    }
    let names = Arc::new(Names {
        rsa: create(&channels[0], "rsa", 1).await,
        ec: create(&channels[0], "ec", 2).await,
        aes: create(&channels[0], "aes", 3).await,
    });
    // Buffers and caches reach their size first.
    load(&channels, &names, Instant::now() + Duration::from_secs(10)).await;
    let processes: Vec<u32> = dev.workers();
    let before: u64 = processes.iter().map(|worker| resident(*worker)).sum();
    let done = load(&channels, &names, Instant::now() + LOAD_FOR).await;
    assert_eq!(dev.workers(), processes, "no worker was replaced");
    let after: u64 = processes.iter().map(|worker| resident(*worker)).sum();
    // All keys were loaded before: what the workers grow by is not from loads. 2 MiB is the allocators' noise.
    assert!(after.saturating_sub(before) < 2 << 20, "{done} rounds: {before} -> {after} bytes");
    assert!(done > 100);
}
