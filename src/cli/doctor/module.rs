//! `strongroom doctor --module`: what a PKCS#11 module can do, tried where that costs nobody anything.
//!
//! A module in software gets a token in a folder that is thrown away. Of any other only the list of its
//! mechanisms is asked, which needs no login: to make a token on hardware, or to try a PIN, is not for a
//! doctor who was only shown the module. With a configuration it is tried on the token that is named there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use strongroom_hsm::{
    KeySpec, Profile, Residency, StartError,
    pool::{Provisioned, provision},
    profile::{Sandbox, TokenName},
    protocol::{Capability, Fault, HIERARCHY, Provision},
};

use super::{
    Checks, Verdict, compose, hsm,
    meaning::{self, Evidence},
};
use crate::cli::{
    failure::Failure,
    files::{Content, Out},
    output::{self, Rows},
};

/// What each sentence of what it means is listed under.
pub(super) const MEANING: &str = "what that means for keys";

/// The label of a token that is thrown away.
const TRIAL_LABEL: &str = "strongroom-doctor";

/// What an operator wants to know of which module.
pub(super) struct Asked {
    pub(super) module: PathBuf,
    pub(super) parameters: Option<String>,
    pub(super) config: Option<PathBuf>,
}

/// What was found.
pub(super) struct Report {
    /// The module's own name and version, and where it is.
    module: String,
    /// How it is known.
    how: String,
    tokens: Vec<TokenReport>,
}

/// What was found of one token.
struct TokenReport {
    /// Its name, where there may be several.
    name: Option<String>,
    lines: Vec<Capability>,
    meaning: Vec<String>,
}

/// How bad it is that something does not work.
pub(super) fn verdict(line: &Capability) -> Verdict {
    match (line.works, line.what == HIERARCHY) {
        (true, _) => Verdict::Ok,
        (false, true) => Verdict::Wrong,
        (false, false) => Verdict::Note,
    }
}

/// Asks a module what it can do.
pub(super) async fn examine(checks: &mut Checks, asked: Asked) -> anyhow::Result<Option<Report>> {
    let folder = tempfile::Builder::new().prefix("strongroom-doctor-").tempdir()?;
    let recipe = Recipe::of(&asked);
    let (profile, requests, how) = if let Some(path) = &asked.config {
        let config = compose::read(path)?;
        let Some(mut profile) = hsm::profile(checks, &config)? else { return Ok(None) };
        profile.module.clone_from(&asked.module);
        if asked.parameters.is_some() {
            profile.module_parameters.clone_from(&asked.parameters);
        }
        let how = format!("Tried on the token {}.", profile.token.label);
        (profile, vec![Provision::Probe], how)
    } else {
        let mut profile = trial(&asked.module, folder.path())?;
        if let Some(recipe) = recipe {
            recipe.apply(&mut profile, folder.path())?;
            let make = Provision::InitToken { so_pin_file: folder.path().join("so-pin") };
            (profile, vec![make, Provision::Probe], "Tried on a token of its own, which is gone again.".to_owned())
        } else {
            profile.module_parameters.clone_from(&asked.parameters);
            let how = "As the module lists it. `--config FILE` tries it on the token that FILE names.".to_owned();
            (profile, vec![Provision::List], how)
        }
    };
    let answers = provision(&profile, requests).await.map_err(|error| not_usable(&error));
    let path = asked.module.display();
    let Some(answers) = checks.of("module", answers, |_| format!("{path} loads")) else { return Ok(None) };
    let mut report = Report { module: path.to_string(), how, tokens: Vec::new() };
    for answer in answers {
        report.take(answer);
    }
    report.list(checks);
    Ok(Some(report))
}

/// Why a module could not be used, in its own words.
fn not_usable(error: &StartError) -> Failure {
    match error {
        StartError::Refused { source: fault @ Fault::Module { function, .. }, .. } => {
            let failure = Failure::new(fault.to_string());
            if function == "C_Initialize" {
                failure
                    .hint("does the daemon run that it needs? does it want to be told something (--module-parameters)?")
            } else {
                failure
            }
        }
        StartError::Refused { source, .. } => Failure::new(source.to_string()),
        other => hsm::hsm(other),
    }
}

/// How a module in software is given a token: known by the names of their files, because a module that was
/// never told where its tokens are cannot be asked.
#[derive(Clone, Copy)]
enum Recipe {
    SoftHsm,
    NssSoftokn,
}

impl Recipe {
    /// None for a module that is told something: it has its tokens already.
    fn of(asked: &Asked) -> Option<Self> {
        let name = asked.module.file_name()?.to_string_lossy();
        let known = [("softhsm", Self::SoftHsm), ("softokn", Self::NssSoftokn)];
        let found = known.into_iter().find(|(part, _)| name.contains(part)).map(|(_, recipe)| recipe);
        found.filter(|_| asked.parameters.is_none())
    }

    fn apply(self, profile: &mut Profile, folder: &Path) -> anyhow::Result<()> {
        let tokens = folder.join("tokens");
        fs::create_dir(&tokens)?;
        let tokens = tokens.display();
        match self {
            Self::SoftHsm => {
                let conf = folder.join("softhsm2.conf");
                let text = format!("directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n");
                fs::write(&conf, text)?;
                profile.environment.insert("SOFTHSM2_CONF".to_owned(), conf.display().to_string());
            }
            Self::NssSoftokn => {
                profile.module_parameters =
                    Some(format!("configdir='sql:{tokens}' dbTokenDescription='{TRIAL_LABEL}'"));
            }
        }
        Ok(())
    }
}

/// Workers for a trial, whose state and PINs are in a folder that is removed afterwards.
fn trial(module: &Path, folder: &Path) -> anyhow::Result<Profile> {
    for name in ["pin", "so-pin"] {
        let pin = uuid::Uuid::new_v4().simple().to_string();
        Out::prepare(&folder.join(name), Content::Secret)?.commit(pin.as_bytes())?;
    }
    Ok(Profile {
        module: module.to_owned(),
        module_parameters: None,
        environment: std::collections::BTreeMap::new(),
        token: TokenName { label: TRIAL_LABEL.to_owned(), serial: None },
        pin_file: folder.join("pin"),
        state_dir: folder.to_owned(),
        sync_dirs: Vec::new(),
        sandbox: Sandbox::Strict,
        lanes: Profile::softhsm_lanes(1),
        cached_keys_max: 16,
        loads_max: 1_000_000,
        canary_every: Duration::from_secs(60),
        worker_program: compose::program()?,
        worker_arguments: vec!["hsm-worker".to_owned()],
        faults: std::collections::BTreeMap::new(),
    })
}

impl Report {
    fn take(&mut self, answer: Provisioned) {
        match answer {
            Provisioned::Capabilities(found) => {
                self.module = format!("{} ({})", found.library, self.module);
                self.tokens.push(TokenReport::new(None, found.lines, Evidence::Tried));
            }
            Provisioned::Offers(offers) => {
                self.module = format!("{} ({})", offers.library, self.module);
                self.tokens.extend(offers.tokens.into_iter().map(|offer| {
                    let state = if offer.is_initialised { "" } else { ", not initialised" };
                    let name = format!("{} (serial number {}{state})", offer.label, offer.serial);
                    TokenReport::new(Some(name), offer.lines, Evidence::Listed)
                }));
            }
            Provisioned::Done | Provisioned::Hierarchy(_) | Provisioned::Root(_) | Provisioned::LogKey(_) => {}
        }
    }

    /// One check for each finding.
    fn list(&self, checks: &mut Checks) {
        checks.ok("library", self.module.clone());
        checks.ok("evidence", self.how.clone());
        if self.tokens.is_empty() {
            checks.note("tokens", "the module shows none");
        }
        for token in &self.tokens {
            if let Some(name) = &token.name {
                checks.ok("token", name.clone());
            }
            for line in &token.lines {
                // One token that can carry the service is enough.
                let verdict = match verdict(line) {
                    Verdict::Wrong if self.tokens.iter().any(TokenReport::carries) => Verdict::Note,
                    verdict => verdict,
                };
                checks.add(line.what.clone(), verdict, line.note.clone());
            }
            for sentence in &token.meaning {
                checks.note(MEANING, sentence.clone());
            }
        }
    }

    /// The same for people: in groups, each key in a line.
    pub(super) fn text(&self) -> String {
        let mut parts = vec![format!("{}\n{}", self.module, self.how)];
        if self.tokens.is_empty() {
            parts.push("It shows no token.".to_owned());
        }
        for token in &self.tokens {
            parts.extend(token.name.as_ref().map(|name| format!("Token {name}")));
            parts.push(output::text(&Properties(&token.lines)));
            parts.push(output::text(&Keys(&token.lines)));
            parts.push(format!("What that means for keys\n{}", token.meaning.join("\n")));
        }
        parts.join("\n\n")
    }
}

impl TokenReport {
    fn new(name: Option<String>, lines: Vec<Capability>, evidence: Evidence) -> Self {
        let meaning = meaning::sentences(&lines, evidence);
        Self { name, lines, meaning }
    }

    fn carries(&self) -> bool {
        self.lines.iter().any(|line| line.what == HIERARCHY && line.works)
    }
}

/// What the service's own keys need, and what protects the others.
struct Properties<'a>(&'a [Capability]);

impl Rows for Properties<'_> {
    fn head(&self) -> Vec<&'static str> {
        vec!["THE MODULE", "", "FOUND"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let properties = self.0.iter().filter(|line| line.cell.is_none());
        let word = |works| if works { "ok" } else { "no" };
        properties.map(|line| vec![line.what.clone(), word(line.works).to_owned(), line.note.clone()]).collect()
    }
}

/// Each kind of key in each residency, with its algorithms.
struct Keys<'a>(&'a [Capability]);

impl Rows for Keys<'_> {
    fn head(&self) -> Vec<&'static str> {
        vec!["KEY", "RESIDENCY", "", "ALGORITHMS"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = KeySpec::ALL.into_iter().flat_map(|spec| [(spec, Residency::Wrapped), (spec, Residency::Token)]);
        cells.filter_map(|(spec, residency)| self.row(spec, residency)).collect()
    }
}

impl Keys<'_> {
    fn row(&self, spec: KeySpec, residency: Residency) -> Option<Vec<String>> {
        let of_it = || {
            let lines = self.0.iter().filter_map(|line| line.cell.map(|cell| (cell, line)));
            lines.filter(|(cell, _)| cell.spec == spec && cell.residency == residency)
        };
        let (_, made) = of_it().find(|(cell, _)| cell.algorithm.is_none())?;
        let row = |word: &str, text: String| {
            Some(vec![spec.name().to_owned(), residency.name().to_owned(), word.to_owned(), text])
        };
        if !made.works {
            return row("no", made.note.clone());
        }
        let (mut can, mut cannot) = (Vec::new(), Vec::new());
        for (cell, line) in of_it() {
            let Some(algorithm) = cell.algorithm else { continue };
            if line.works {
                can.push(algorithm.name().to_owned());
            } else {
                cannot.push(format!("not {} ({})", algorithm.name(), line.note));
            }
        }
        let word = if cannot.is_empty() { "ok" } else { "part" };
        can.extend(cannot);
        row(word, can.join(" "))
    }
}
