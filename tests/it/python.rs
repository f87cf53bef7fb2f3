//! The example for Python, line by line as its README prints it.

use std::{fs, io::Write as _, path::Path, process::Command};

use crate::dev::{Dev, PROGRAM};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/client/examples/python");
const README: &str = include_str!("../../client/examples/python/README.md");

/// What a line of the README needs that may be missing on a developer's machine.
fn is_setup(line: &str) -> bool {
    line.contains("-m venv") || line.contains("pip install")
}

/// Says why the test cannot be done, and ends it, unless tools are required.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("STRONGROOM_REQUIRE_TOOLS").is_none(), "{why}");
    // Past the capture of the test's output, which is thrown away when the test passes.
    writeln!(std::io::stderr().lock(), "skipped: {why}").expect("writes");
}

fn in_folder(dev: &Dev, folder: &Path, line: &str) -> Command {
    let programs = Path::new(PROGRAM).parent().expect("in a folder").display();
    let mut command = dev.command("bash");
    command.args(["-c", line]).current_dir(folder);
    command.env("PATH", format!("{programs}:{}", std::env::var("PATH").expect("a path")));
    command
}

#[test]
fn the_python_example_works_as_printed() {
    let dev = Dev::new();
    let folder = dev.path("python");
    fs::create_dir(&folder).expect("made");
    for name in ["README.md", "requirements.txt", "sign.py"] {
        fs::copy(Path::new(FOLDER).join(name), folder.join(name)).expect("copied");
    }
    let (_, block) = README.split_once("```sh\n").expect("a block");
    let (block, _) = block.split_once("```").expect("an end");
    let mut said = String::new();
    for line in block.lines() {
        let output = in_folder(&dev, &folder, line).output().expect("bash");
        let error = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && is_setup(line) {
            return skip(&format!("{line}: {error} (apt-get install python3-venv; a reachable PyPI)"));
        }
        assert!(output.status.success(), "{line}: {error}");
        said = String::from_utf8(output.stdout).expect("text");
    }
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("signed by vaults/dev/keys/python-example/versions/"), "{said}");
    assert_eq!(lines[1..3], ["the signature is right", "for another file it is wrong"]);
    assert!(lines[3].starts_with("without the key: NOT_FOUND NOT_FOUND: "), "{said}");
}
