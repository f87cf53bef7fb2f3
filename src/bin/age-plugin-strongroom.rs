//! The plugin for `age`. See `strongroom::cli::plugin`.

use std::process::ExitCode;

fn main() -> ExitCode {
    strongroom::cli::plugin::main()
}
