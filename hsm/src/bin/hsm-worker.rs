//! A worker and nothing else, for the tests and benches of this crate. What is shipped is
//! `strongroom hsm-worker`, which is the same function.

use std::process::ExitCode;

fn main() -> ExitCode {
    strongroom_hsm::worker::main()
}
