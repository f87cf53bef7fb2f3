//! The modules that the contract is held against, and which of them a test run is about.
//!
//! A run is about SoftHSM. A test binary whose tests are the contract of the seam runs itself again for
//! each other module ([`holds_on`]) with [`VARIABLE`] set, which is also how one of its tests is run alone:
//!
//! ```sh
//! STRONGROOM_TEST_MODULE=nss-softokn cargo test -p strongroom-hsm --test rows a_disabled_row
//! ```

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use strongroom_hsm::{Algorithm, KeySpec, Residency};

/// Names the module that a run is about.
const VARIABLE: &str = "STRONGROOM_TEST_MODULE";
/// Where it is set, a module that is not there is a failure. Else its tests say so and are skipped.
const REQUIRED: &str = "STRONGROOM_REQUIRE_TOOLS";

/// A PKCS#11 module of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    SoftHsm,
    NssSoftokn,
    OpenCryptoki,
}

impl Subject {
    pub const ALL: [Self; 3] = [Self::SoftHsm, Self::NssSoftokn, Self::OpenCryptoki];

    /// The one that this run is about.
    pub fn current() -> Self {
        match env::var(VARIABLE) {
            Ok(name) => Self::ALL.into_iter().find(|subject| subject.name() == name).expect("a module's name"),
            Err(_) => Self::SoftHsm,
        }
    }

    /// The name of its table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftHsm => "softhsm2",
            Self::NssSoftokn => "nss-softokn",
            Self::OpenCryptoki => "opencryptoki",
        }
    }

    /// Debian's package.
    const fn package(self) -> &'static str {
        match self {
            Self::SoftHsm => "softhsm2",
            Self::NssSoftokn => "libnss3",
            Self::OpenCryptoki => "opencryptoki",
        }
    }

    /// Where it is, on Debian and elsewhere.
    fn places(self) -> &'static [&'static str] {
        match self {
            Self::SoftHsm => &[
                "/usr/lib/softhsm/libsofthsm2.so",
                "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
                "/usr/lib64/softhsm/libsofthsm2.so",
                "/usr/local/lib/softhsm/libsofthsm2.so",
            ],
            Self::NssSoftokn => &[
                "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
                "/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
                "/usr/lib64/libsoftokn3.so",
            ],
            Self::OpenCryptoki => &[
                "/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so",
                "/usr/lib/aarch64-linux-gnu/pkcs11/libopencryptoki.so",
                "/usr/lib64/pkcs11/libopencryptoki.so",
            ],
        }
    }

    /// The shared library, where it is installed.
    pub fn module(self) -> Option<PathBuf> {
        self.places().iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned)
    }

    /// Whether its tests can run; says so where they cannot.
    pub fn can_be_tested(self) -> bool {
        if self.module().is_none() {
            let why = format!("{} is not installed (apt-get install {})", self.name(), self.package());
            assert!(env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and {why}");
            return skip(&why);
        }
        if self == Self::OpenCryptoki && super::home::namespaces().is_none() {
            return skip("opencryptoki needs a view of its folders, and this machine grants no namespaces (unshare)");
        }
        true
    }

    /// Whether a token is gone when its folder is renamed. NSS keeps its database open.
    pub fn goes_with_its_folder(self) -> bool {
        self == Self::SoftHsm
    }

    /// What it can do, by its published table.
    pub fn table(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/capabilities/{}.txt", self.name()))
    }
}

/// Says so past the capture of the test's output, which is thrown away when the test passes.
fn skip(why: &str) -> bool {
    writeln!(std::io::stderr().lock(), "skipped: {why}").unwrap();
    false
}

/// Runs every other test of this binary on another module.
pub fn holds_on(subject: Subject) {
    if !subject.can_be_tested() {
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--skip", "the_same_holds_on"])
        .env(VARIABLE, subject.name())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "on {}:\n{text}{}", subject.name(), String::from_utf8_lossy(&output.stderr));
    let summary = text.lines().rfind(|line| line.starts_with("test result")).expect("a summary");
    writeln!(std::io::stderr().lock(), "on {}: {summary}", subject.name()).unwrap();
}

/// The current module's own name and version, by its table.
pub fn library() -> String {
    let text = fs::read_to_string(Subject::current().table()).unwrap();
    let (library, _) = text[2..].split_once(", as the probe finds it").expect("the head of a table");
    library.to_owned()
}

/// The lines of the current module's table: what, whether it works, and what is said of it.
static TABLE: LazyLock<BTreeMap<String, (bool, String)>> = LazyLock::new(|| {
    let text = fs::read_to_string(Subject::current().table()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (what, note) = line[2..].split_once(": ").expect("a line of the table");
            (what.to_owned(), (line.starts_with('+'), note.to_owned()))
        })
        .collect()
});

fn line(what: &str) -> &'static (bool, String) {
    TABLE.get(what).unwrap_or_else(|| panic!("the table has no line for {what:?}"))
}

/// Whether the current module can do something, by its table.
pub fn can(what: &str) -> bool {
    line(what).0
}

/// What the table says of it.
pub fn note(what: &str) -> &'static str {
    &line(what).1
}

/// Whether it can make such a key.
pub fn can_make(spec: KeySpec, residency: Residency) -> bool {
    can(&format!("{} {}", spec.name(), residency.name()))
}

/// Whether it can use such a key so.
pub fn can_use(spec: KeySpec, residency: Residency, algorithm: Algorithm) -> bool {
    can_make(spec, residency) && can(&format!("{} {} {}", spec.name(), residency.name(), algorithm.name()))
}
