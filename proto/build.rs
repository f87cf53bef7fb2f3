//! Compiles `strongroom/v1/*.proto` without a protoc install.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 14] = [
    "strongroom/v1/access.proto",
    "strongroom/v1/audit.proto",
    "strongroom/v1/backups.proto",
    "strongroom/v1/common.proto",
    "strongroom/v1/crypto.proto",
    "strongroom/v1/events.proto",
    "strongroom/v1/keys.proto",
    "strongroom/v1/own_keys.proto",
    "strongroom/v1/replicas.proto",
    "strongroom/v1/roles.proto",
    "strongroom/v1/rotation.proto",
    "strongroom/v1/secrets.proto",
    "strongroom/v1/tokens.proto",
    "strongroom/v1/vaults.proto",
];

/// Messages that carry plaintext, keys, secrets, random bytes or tokens: they get a `Debug` that shows none of it (see `lib.rs`).
const SECRET: [&str; 12] = [
    ".strongroom.v1.EncryptRequest",
    ".strongroom.v1.DecryptResponse",
    ".strongroom.v1.SignRequest",
    ".strongroom.v1.VerifyRequest",
    ".strongroom.v1.WrapKeyRequest",
    ".strongroom.v1.UnwrapKeyResponse",
    ".strongroom.v1.GenerateRandomBytesResponse",
    ".strongroom.v1.GenerateDataKeyResponse",
    ".strongroom.v1.ImportKeyRequest",
    ".strongroom.v1.CreateTokenResponse",
    ".strongroom.v1.SetSecretRequest",
    ".strongroom.v1.GetSecretValueResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=strongroom");
    println!("cargo:rerun-if-changed=google");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(SECRET);
    // The type that clients' libraries for error details take.
    config.extern_path(".google.rpc.Status", "::tonic_types::Status");
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    fs::write(out.join("sources.rs"), sources()?)?;
    Ok(())
}

/// Every `.proto` of this folder by its path and with its text, as Rust.
fn sources() -> Result<String, Box<dyn Error>> {
    let (mut folders, mut found) = (vec![PathBuf::from("strongroom"), PathBuf::from("google")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "proto") {
                found.push(path);
            }
        }
    }
    found.sort();
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let line = |path: &PathBuf| format!("({:?}, include_str!({:?})),\n", path, PathBuf::from(&root).join(path));
    Ok(format!("&[\n{}]", found.iter().map(line).collect::<String>()))
}
