//! Strongroom with the official Rust SDK, unmodified. See README.md in the folder above.
#![expect(clippy::print_stdout, reason = "a program that prints what it checks")]

mod checks;
mod keys;
mod secrets;

use std::time::Duration;

use checks::{Checks, Vault};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (vault, mut checks) = (Vault::from_environment()?, Checks::default());
    let run = async {
        if !vault.skipped("keys") {
            keys::run(&vault, &mut checks).await?;
        }
        if !vault.skipped("secrets") {
            secrets::run(&vault, &mut checks).await?;
        }
        anyhow::Ok(())
    };
    // No check may hang.
    tokio::time::timeout(Duration::from_secs(240), run).await??;
    checks.finish()
}
