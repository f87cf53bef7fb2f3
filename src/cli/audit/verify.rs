//! `strongroom audit verify`: a log is what was written, as far as signatures, hashes and kept checkpoints can say.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    place::{self, PlaceArgs},
    signers::{self, SignerView},
    vkey::{self, KeysArg},
    wrong,
};
use crate::{
    audit::{
        self, Against, Damage, Handover, OpenError, Progress, Verified,
        tlog::{Checkpoint, KeyKind, SignedNote, VerifierKey, note::NOTE_BYTES_MAX},
    },
    cli::{
        compose::failure,
        failure::Failure,
        files::{self, Limit},
        output::{self, Format, FormatArgs, Rows},
    },
    config::StoreChoice,
    model::ReplicaName,
};

pub(super) const AFTER_HELP: &str = "\
What is checked: every record against the tree, the tree against the log's checkpoint and every one that is given \
with --against, and their signatures. What cannot be found by that is in docs/audit.md.
An auditor keeps a key (strongroom audit key) and checkpoints of his own, and gives them here: a key out of the store \
is only as good as the store.
Exit codes: 0 the log is what was written, 1 it is not, 2 that could not be found out.";

/// A log that is in use moves on while it is read: so often it is begun anew.
const TRIES_MAX: u32 = 5;

/// What `audit verify` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A key to verify signatures with, or a file of some: of the log, or of witnesses [default: the log's, out of the store]
    #[arg(long, value_name = "VKEY|FILE")]
    key: Vec<KeysArg>,
    /// A checkpoint of the log that was kept: the log must be an extension of it
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Check everything but signatures: then whoever can write the log could have made all of it
    #[arg(long, conflicts_with = "key")]
    unsigned: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What a log was found to be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct LogView {
    /// Its folder.
    pub(in crate::cli) log: String,
    /// The instance that wrote it.
    pub(in crate::cli) instance: String,
    /// How many records there are, those that were pruned among them.
    pub(in crate::cli) records: String,
    /// The index of the first that is there.
    pub(in crate::cli) first_available: String,
    /// So many are under the log's own checkpoint.
    pub(in crate::cli) signed: String,
    /// Who has signed that.
    pub(in crate::cli) signed_by: Vec<String>,
    /// Where the log's key came from: `given`, `store`, `none`.
    pub(in crate::cli) keys_from: &'static str,
    /// The keys that signatures were checked with.
    pub(in crate::cli) keys: Vec<String>,
    /// Where one key of the log handed over to the next.
    pub(in crate::cli) handovers: Vec<HandoverView>,
    /// The kept checkpoints that the log is an extension of.
    pub(in crate::cli) held: Vec<HeldView>,
    /// The intents without an outcome.
    pub(in crate::cli) open_intents: Vec<String>,
    /// A last line that is not whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) torn: Option<TornView>,
}

/// One key hands over to the next.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct HandoverView {
    /// So many records are under the old key.
    pub(in crate::cli) size: String,
    /// The old key.
    pub(in crate::cli) from: String,
    /// The new one.
    pub(in crate::cli) to: String,
}

impl From<&Handover> for HandoverView {
    fn from(handover: &Handover) -> Self {
        Self {
            size: handover.checkpoint.size().to_string(),
            from: handover.from.to_string(),
            to: handover.to.to_string(),
        }
    }
}

/// A kept checkpoint.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct HeldView {
    /// Its file.
    pub(in crate::cli) file: String,
    /// The size of its tree.
    pub(in crate::cli) size: String,
    /// Who has signed it.
    pub(in crate::cli) signers: Vec<SignerView>,
}

/// A line that is not whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct TornView {
    /// The segment of the journal.
    pub(in crate::cli) file: String,
    /// Where the line begins.
    pub(in crate::cli) offset: String,
    /// Its bytes.
    pub(in crate::cli) bytes: String,
}

/// What signatures are checked with.
struct Keys {
    keys: Vec<VerifierKey>,
    from: &'static str,
}

/// Verifies a log.
pub(super) async fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let place = args.place.place()?;
    let keys = keys(args, place.store.as_ref(), &place.replica).await?;
    let checkpoints = args.against.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let against = Against { keys: keys.keys.clone(), checkpoints };
    let format = args.format.format;
    let verified = match verified(&place.log, &against) {
        Ok(verified) => verified,
        Err(error) => return refused(&error, format),
    };
    if verified.signed == 0 && !keys.keys.is_empty() {
        return Ok(wrong(never_signed(&place.log, &verified), format));
    }
    let view = view(&place.log, &keys, &against, verified)?;
    output::show(format, &view)?;
    if keys.keys.is_empty() {
        output::note(
            "No signature was checked: whoever can write these files could have made all of them. Pass --key.",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys that were given; without one of a log among them, the store's.
async fn keys(args: &VerifyArgs, store: Option<&StoreChoice>, replica: &ReplicaName) -> anyhow::Result<Keys> {
    let mut keys = vkey::all(&args.key);
    if args.unsigned {
        return Ok(Keys { keys, from: "none" });
    }
    if keys.iter().any(|key| key.kind() != KeyKind::Cosignature) {
        return Ok(Keys { keys, from: "given" });
    }
    let Some(store) = store else {
        return Err(Failure::new("there is no key of the log to check its signatures with")
            .hint("--key VKEY: `strongroom audit key --config FILE` prints it where the server is")
            .hint("--unsigned checks everything else: it shows that the files agree, not who made them")
            .into());
    };
    keys.extend(place::keys(store, replica).await?);
    Ok(Keys { keys, from: "store" })
}

fn read(path: &Path) -> anyhow::Result<(String, SignedNote)> {
    let hint = "a checkpoint is the file `checkpoint` of a log, or what a witness keeps";
    let bytes = files::read(path, Limit { bytes_max: NOTE_BYTES_MAX, hint })?;
    let name = files::shown(path, "standard input");
    let note = SignedNote::parse(&bytes);
    let note = note.map_err(|error| failure(format!("{name} is not a checkpoint"), &error).hint(hint))?;
    Ok((name, note))
}

/// Shared with `prune`: a log that is in use gives up segments of its journal while it is read.
pub(super) fn verified(log: &Path, against: &Against) -> Result<Verified, OpenError> {
    let bar = progress();
    let seen = |Progress { records, signed }: Progress| {
        bar.set_length(signed);
        bar.set_position(records);
    };
    let mut tries = 1;
    let verified = loop {
        match audit::verify_watched(log, against, &seen) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && tries < TRIES_MAX => {
                tries += 1;
            }
            other => break other,
        }
    };
    bar.finish_and_clear();
    verified
}

fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{percent:>3} % {wide_bar} {pos} of {len} records, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn view(log: &Path, keys: &Keys, against: &Against, verified: Verified) -> anyhow::Result<LogView> {
    let held = against.checkpoints.iter().map(|(file, note)| held(file, note, &verified.keys));
    Ok(LogView {
        log: log.display().to_string(),
        instance: verified.instance,
        records: verified.records.to_string(),
        first_available: verified.first.to_string(),
        signed: verified.signed.to_string(),
        signed_by: verified.signed_by,
        keys_from: keys.from,
        keys: keys.keys.iter().map(ToString::to_string).collect(),
        handovers: verified.handovers.iter().map(HandoverView::from).collect(),
        held: held.collect::<anyhow::Result<_>>()?,
        open_intents: verified.open.iter().map(|(index, _)| index.to_string()).collect(),
        torn: verified.torn.map(|torn| TornView {
            file: torn.file.display().to_string(),
            offset: torn.offset.to_string(),
            bytes: torn.bytes.to_string(),
        }),
    })
}

/// It was checked with the log: here it is read again for who signed it.
fn held(file: &str, note: &SignedNote, keys: &[VerifierKey]) -> anyhow::Result<HeldView> {
    let (checkpoint, signers) =
        if keys.is_empty() { (Checkpoint::parse(note.text())?, Vec::new()) } else { Checkpoint::open(note, keys)? };
    Ok(HeldView {
        file: file.to_owned(),
        size: checkpoint.size().to_string(),
        signers: signers.iter().map(SignerView::from).collect(),
    })
}

/// Damage is a finding; that the log could not be read is an error.
fn refused(error: &OpenError, format: Format) -> anyhow::Result<ExitCode> {
    let shown = failure("the log cannot be verified", error);
    match error {
        OpenError::Damaged { file, line, what } => Ok(wrong(damaged(file, *line, what), format)),
        OpenError::Missing(_) => {
            Err(shown.hint("--log DIR names the folder with `checkpoint`, `tile` and `journal`").into())
        }
        _ => Err(shown.hint("it is read as its owner: the service's user, or root").into()),
    }
}

fn damaged(file: &Path, line: u64, what: &Damage) -> Failure {
    // Line 0 is the file as a whole.
    let line = if line == 0 { String::new() } else { format!(", line {line}") };
    let shown = Failure::new(format!("the log is not what was written: {}{line}: {what}", file.display()));
    let shown = shown.detail(meaning(what));
    let shown = match what {
        Damage::Signature(_) => shown.hint(
            "is --key the key of this log, from somebody you trust? `strongroom recover` makes a new one: then pass both",
        )
        .hint("after `own-keys rotate-log` the new one is found by the old one's note in the log's folder `keys`: copy that too"),
        Damage::Form => return shown,
        _ => shown,
    };
    shown
        .hint("nothing was changed. Keep a copy of log, store and kept checkpoints before anything else")
        .hint("then find out who could write to these files; docs/audit.md says what each finding shows")
}

/// What damage shows, in words for whoever has to act on it.
fn meaning(what: &Damage) -> &'static str {
    match what {
        Damage::Cut { .. } => "records that a signed checkpoint vouches for are gone from the end",
        Damage::Checkpoint { .. } => {
            "records were changed before that point; or this is another history than the one that the checkpoint was signed for"
        }
        Damage::Signature(_) => "somebody else made the checkpoint or changed it, or the key is not the right one",
        Damage::Origin { .. } | Damage::Instance { .. } => "files of another log were put in place of this one's",
        Damage::Heads => "the checkpoint was signed for another state of the store than the records tell of",
        Damage::Gap { .. } | Damage::Index { .. } => "records were removed or put in another order",
        Damage::Tile => {
            "a bundle or tile was changed, cut or taken away; pruned records are missing from the first on, without a gap"
        }
        Damage::NotACheckpoint => "the file that should hold a signed checkpoint holds something else",
        Damage::NoJournal => "the newest records are gone",
        Damage::Form => "a log of a version before the Merkle log",
        Damage::Name | Damage::Header | Damage::Standing | Damage::Root => {
            "a segment of the journal was changed or replaced"
        }
        Damage::Leaf | Damage::Malformed | Damage::Unterminated => "the record was changed by somebody else",
    }
}

fn never_signed(log: &Path, verified: &Verified) -> Failure {
    Failure::new(format!("nothing of the log {} is signed: it has no checkpoint", log.display()))
        .detail(format!("its {} records agree with each other, and anybody could have made them", verified.records))
        .hint("a server makes a checkpoint about once a second: unless this log has only just begun, it was taken away")
}

impl Rows for LogView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            ("log", format!("{} of instance {}", self.log, self.instance)),
            ("records", self.records.clone()),
            ("first available", self.pruned()),
            ("under a checkpoint", self.signatures()),
            ("after it", self.after()),
        ];
        rows.push(("key", self.key()));
        for HandoverView { size, from, to } in &self.handovers {
            rows.push(("key handed over", format!("at {size} records, by its own signature: {from} to {to}")));
        }
        for held in &self.held {
            let by = if held.signers.is_empty() { "NOT CHECKED".to_owned() } else { signers::text(&held.signers) };
            rows.push(("is an extension of", format!("{}: {} records, signed by {by}", held.file, held.size)));
        }
        if !self.open_intents.is_empty() {
            let open = self.open_intents.join(", ");
            rows.push(("open intents", format!("{open}: under way, or a crash that the next start settles")));
        }
        if let Some(TornView { file, offset, bytes }) = &self.torn {
            let what = "a record is being written, or a crash cut it off";
            rows.push(("torn end", format!("{bytes} bytes at {offset} of {file}: {what}")));
        }
        rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
    }
}

impl LogView {
    fn pruned(&self) -> String {
        match self.first_available.as_str() {
            "0" => "0: nothing was pruned".to_owned(),
            first => format!("{first}: those before it were pruned; their hashes are there and checked"),
        }
    }

    fn signatures(&self) -> String {
        match self.keys_from {
            "none" => format!("{}; the signature was NOT CHECKED", self.signed),
            _ => format!("{}, signed by {}", self.signed, self.signed_by.join(", ")),
        }
    }

    fn after(&self) -> String {
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        match number(&self.records).saturating_sub(number(&self.signed)) {
            0 => "0".to_owned(),
            after => format!("{after}: in the journal, in order, and not yet signed"),
        }
    }

    fn key(&self) -> String {
        match self.keys_from {
            "store" => format!("{} (out of the store: as good as the store is)", self.keys.join(", ")),
            "given" => self.keys.join(", "),
            _ => "NONE: whoever can write these files could have made all of them".to_owned(),
        }
    }
}
