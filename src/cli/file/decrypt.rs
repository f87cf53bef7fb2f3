//! `file decrypt`: the file says which version opens it.
//!
//! A block of plaintext is written when it has authenticated, and a file takes its place when the last one
//! has. A pipe gets its blocks at once; when a later one fails, what came before was right but is not all.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::{self, BufReader, Read},
    iter,
    path::PathBuf,
    rc::Rc,
};

use age::{DecryptError, Decryptor, armor::ArmoredReader, stream::StreamReader};
use clap::Args;
use strongroom_client::file::Identity;

use super::{
    Client, ConnectionArgs, Failure, FormatArgs, InOutArgs,
    copy::{Broken, Progress, copy},
    explain_io, report,
};
use crate::cli::files::{self, Content, Out};

/// A header is never longer: 32 recipients of RSA-4096 take less than 30 KiB. It is held in memory, and a
/// hostile one has no end.
const HEADER_BYTES_MAX: u64 = 64 * 1024;

/// What `file decrypt` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct DecryptArgs {
    #[command(flatten)]
    files: InOutArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Decrypts a file.
pub(super) async fn run(connection: &ConnectionArgs, args: DecryptArgs) -> anyhow::Result<()> {
    let input = files::open(&args.files.input)?;
    let out = Out::prepare(&args.files.output, Content::Secret)?;
    let client = connection.connect_for_long().await?;
    let identity = Identity::any(&client.api);
    let out_is_standard = out.is_standard();
    let work = Work { path: args.files.input, input, out, identity };
    let (version, bytes) = tokio::task::spawn_blocking(move || work.run(&client)).await??;
    report(args.format, out_is_standard, version.into_iter().collect(), bytes)
}

/// What is done on a thread that may block.
struct Work {
    path: PathBuf,
    input: File,
    out: Out,
    identity: Identity,
}

impl Work {
    fn run(self, client: &Client) -> anyhow::Result<(Option<String>, u64)> {
        let shown = files::shown(&self.path, "standard input");
        let progress = Progress::of(&self.input);
        let head = Rc::new(Head::default());
        let mut from = open(self.input, &progress, &head, &self.identity).map_err(|error| match error {
            _ if !head.may_be_age() => no_age_file(&shown),
            error => closed(error, &shown, client),
        })?;
        let (mut to, cannot) = (self.out.file()?, self.out.cannot());
        let copied = copy(&mut from, &mut to, |_| {}).map_err(|broken| match broken {
            Broken::Read(error) => {
                let failure = broken_off(&error, &shown);
                if self.out.is_seen_at_once() {
                    failure.hint("do not use what was written before this: it is not the whole file")
                } else {
                    failure.detail("nothing was written")
                }
                .into()
            }
            Broken::Write(error) => anyhow::Error::new(error).context(cannot),
        });
        let bytes = copied?;
        self.out.finish()?;
        Ok((self.identity.opened_by(), bytes))
    }
}

type Plaintext<'a> = StreamReader<ArmoredReader<BufReader<Input<'a>>>>;

fn open<'a>(
    file: File,
    progress: &'a Progress,
    head: &Rc<Head>,
    identity: &Identity,
) -> Result<Plaintext<'a>, DecryptError> {
    let input = Input { file, progress, head: Rc::clone(head) };
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(input))?;
    head.left.set(u64::MAX);
    decryptor.decrypt(iter::once(identity as &dyn age::Identity))
}

/// How age files begin.
const BEGINNINGS: [&[u8]; 2] = [b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----"];

/// What was read of the header.
struct Head {
    /// How many bytes may still be read before it ends.
    left: Cell<u64>,
    /// Its first bytes, as many as it takes to know an age file.
    begin: RefCell<Vec<u8>>,
}

impl Default for Head {
    fn default() -> Self {
        Self { left: Cell::new(HEADER_BYTES_MAX), begin: RefCell::default() }
    }
}

impl Head {
    fn saw(&self, bytes: &[u8]) {
        self.left.set(self.left.get().saturating_sub(bytes.len() as u64));
        let mut begin = self.begin.borrow_mut();
        let wanted = BEGINNINGS[1].len() - begin.len();
        begin.extend_from_slice(&bytes[..wanted.min(bytes.len())]);
    }

    /// Whether it begins as an age file does, as far as it goes.
    fn may_be_age(&self) -> bool {
        let begin = self.begin.borrow();
        BEGINNINGS.iter().any(|known| known.iter().zip(begin.iter()).all(|(known, found)| known == found))
    }
}

/// The file, counted for the progress bar, and bounded until the header is read.
struct Input<'a> {
    file: File,
    progress: &'a Progress,
    head: Rc<Head>,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.head.left.get() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its header does not end"));
        }
        let count = self.file.read(buffer)?;
        self.head.saw(&buffer[..count]);
        self.progress.add(count as u64);
        Ok(count)
    }
}

/// Why a file does not open.
fn closed(error: DecryptError, shown: &str, client: &Client) -> Failure {
    let doing = format!("decrypt {shown}");
    match error {
        DecryptError::NoMatchingKeys => {
            Failure::new(format!("cannot {doing}: it is not encrypted for a key of Strongroom"))
                .hint(format!("open it with age and the identity it was made for: age -d -i IDENTITY {shown}"))
        }
        DecryptError::InvalidHeader
        | DecryptError::UnknownFormat
        | DecryptError::InvalidMac
        | DecryptError::DecryptionFailed => {
            Failure::new(format!("cannot {doing}: its header was altered")).hint("take another copy of the file")
        }
        DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => broken_off(&error, shown),
        DecryptError::Io(error) => explain_io(error, &doing, Some(client)),
        other => Failure::new(format!("cannot {doing}: {other}")),
    }
}

fn no_age_file(shown: &str) -> Failure {
    Failure::new(format!("cannot decrypt {shown}: it is no age file"))
        .hint("what `strongroom key encrypt` wrote is opened by `strongroom key decrypt`")
}

/// Why a file that opened does not go on. `age` says it by the kind; what reads a file uses neither kind.
fn broken_off(error: &io::Error, shown: &str) -> Failure {
    let another = "take another copy of the file";
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Failure::new(format!("cannot decrypt {shown}: it is cut off, its end is missing")).hint(another)
        }
        io::ErrorKind::InvalidData => Failure::new(format!(
            "cannot decrypt {shown}: it was altered or cut off, or its parts are not in order: a block does not \
             authenticate"
        ))
        .hint(another),
        _ => Failure::new(format!("cannot read {shown}: {error}")),
    }
}
