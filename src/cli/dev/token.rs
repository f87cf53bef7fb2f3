//! The development token's folder: SoftHSM's configuration and the PINs. The token itself is made by a
//! worker, which alone loads the module.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::place::{Place, write};
use crate::cli::{compose::sync_folder, failure::Failure};

/// Where packages put the module.
const MODULES: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm.so",
    "/usr/lib/libsofthsm2.so",
];

/// SoftHSM's module.
pub(in crate::cli) fn module() -> anyhow::Result<PathBuf> {
    let known = MODULES.iter().map(PathBuf::from);
    // `/usr/lib/{architecture}/softhsm`, where Debian has it.
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let architectures = folders.map(|entry| entry.path().join("softhsm/libsofthsm2.so"));
    known.chain(architectures).find(|path| path.is_file()).ok_or_else(|| {
        Failure::new("SoftHSM is not installed: libsofthsm2.so is in none of the usual places")
            .hint("on Debian and Ubuntu: apt-get install softhsm2")
            .hint("for another HSM: `strongroom init` and `strongroom serve`")
            .into()
    })
}

/// Writes configuration and PINs. Nothing of a token is there yet.
pub(super) fn make(place: &Place) -> anyhow::Result<()> {
    write_configuration(&place.token_conf(), &place.tokens())?;
    for path in [place.pin(), place.so_pin()] {
        write_pin(&path)?;
    }
    sync_folder(place.token_conf().parent().unwrap_or(place.path()))
}

/// Writes SoftHSM's configuration for tokens in that folder.
pub(in crate::cli) fn write_configuration(path: &Path, tokens: &Path) -> anyhow::Result<()> {
    write(path, configuration(tokens).as_bytes())
}

/// Writes a PIN that nobody guesses: 122 random bits of the operating system.
pub(in crate::cli) fn write_pin(path: &Path) -> anyhow::Result<()> {
    write(path, format!("{}\n", uuid::Uuid::new_v4().simple()).as_bytes())
}

fn configuration(tokens: &Path) -> String {
    format!(
        "# Made by `strongroom dev`.\n\
         directories.tokendir = {}\n\
         objectstore.backend = file\n\
         log.level = ERROR\n\
         slots.removable = false\n\
         slots.mechanisms = ALL\n\
         library.reset_on_fork = false\n",
        tokens.display()
    )
}
