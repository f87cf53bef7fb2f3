//! The one program: server, worker, and command line. See `strongroom::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    strongroom::cli::main()
}
