//! Raw PKCS#11, for benchmarks: the module in this process, one session, one operation after the other, by the
//! workers' own mechanisms and with nothing around them: no seal, no cache of keys, no messages, no lane. What
//! everything else is measured against.

use std::path::Path;

use super::{
    engine::{Engine, Trouble},
    generate::{Fresh, PublicPart, statement_of},
    module::Library,
    operate::{self, Half},
    sandbox, start,
};
use crate::{
    algorithms::KeySpec,
    protocol::{Damage, Fault, Hello, NewVersion, Operation, Output},
    statement::{KeyStatement, Residency},
};

/// A logged-in module with keys of its own, all session objects: nothing is left on the token.
pub struct Raw {
    engine: Engine,
    library: String,
}

/// A key of [`Raw`]: sensitive and private, as the workers' keys are.
pub struct RawKey {
    statement: KeyStatement,
    fresh: Fresh,
}

impl RawKey {
    /// SubjectPublicKeyInfo (DER); empty for a secret key.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.statement.public
    }
}

/// `C_Initialize` of a module that its caller has loaded and keeps loaded, with the parameters that cryptoki
/// cannot give: for tests that go on with cryptoki.
///
/// # Errors
/// When the module fails.
pub fn initialize(module: &Path, parameters: Option<&str>) -> Result<(), Fault> {
    Library::load(module, parameters)?.initialize().map_err(|failed| failed.fault(Damage::Token))
}

impl Raw {
    /// Shuts this process in as a worker of that module is, then opens the module. For good: only for a
    /// process that does nothing else.
    ///
    /// # Errors
    /// As a worker's start.
    pub fn shut_in(hello: &Hello) -> Result<Self, Fault> {
        sandbox::enter(hello.sandbox)?;
        Self::open(hello)
    }

    /// Loads the module and logs in.
    ///
    /// # Errors
    /// As a worker's start.
    pub fn open(hello: &Hello) -> Result<Self, Fault> {
        let _line = start::lock(&hello.state_dir)?;
        let logged_in = start::log_in(hello)?;
        // Nothing is wrapped or unwrapped here, so there is no root.
        let engine = Engine::new(logged_in.token, None).map_err(|failed| failed.fault(Damage::Token))?;
        Ok(Self { engine, library: logged_in.ready.library })
    }

    /// The module's own name and version.
    #[must_use]
    pub fn library(&self) -> &str {
        &self.library
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When the module fails.
    pub fn key(&mut self, spec: KeySpec) -> Result<RawKey, Fault> {
        let fresh = self.engine.make(spec, Residency::Wrapped, &[]);
        let fresh = fresh.map_err(|trouble| self.fault(trouble))?;
        let public = match &fresh.public {
            PublicPart::Object(public) => {
                self.engine.read_public(spec, *public).map_err(|trouble| self.fault(trouble))?
            }
            PublicPart::Known(_) | PublicPart::Nothing => Vec::new(),
        };
        let statement =
            statement_of(&NewVersion::new(spec, Residency::Wrapped, [0; 16]), Vec::new(), public, Vec::new());
        Ok(RawKey { statement, fresh })
    }

    /// One operation. Lengths and permissions are checked as a worker checks them.
    ///
    /// # Errors
    /// As a worker's.
    pub fn run(&mut self, key: &RawKey, operation: &Operation) -> Result<Output, Fault> {
        let handle = match operate::check(&key.statement, operation)? {
            Half::Public => match key.fresh.public {
                PublicPart::Object(public) => public,
                PublicPart::Known(_) | PublicPart::Nothing => key.fresh.private,
            },
            Half::Private => key.fresh.private,
        };
        self.engine.operate(&key.statement, handle, operation).map_err(|trouble| self.fault(trouble))
    }

    fn fault(&mut self, trouble: Trouble) -> Fault {
        match trouble {
            Trouble::Fault(fault) => fault,
            Trouble::Failed(failed) => self.engine.diagnose(failed),
        }
    }
}
