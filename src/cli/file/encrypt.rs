//! `file encrypt`.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    path::Path,
    str::FromStr as _,
};

use age::armor::{ArmoredWriter, Format};
use anyhow::Context as _;
use clap::{ArgGroup, Args};
use strongroom_client::file::{RECIPIENTS_MAX, Recipient, key_of_recipient_text};

use super::{
    Client, ConnectionArgs, Failure, FormatArgs, InOutArgs, KeyRef,
    copy::{Broken, Progress, copy},
    explain, explain_io, report,
};
use crate::cli::files::{self, Content, Out};

pub(super) const AFTER_HELP: &str = "\
The file is an age file (age-encryption.org/v1): `file decrypt` opens it, and so does any age with
age-plugin-strongroom. It says in its header which version of which key opens it.";

/// What `file encrypt` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("to").args(["key", "recipient"]).required(true).multiple(true))]
pub(in crate::cli) struct EncryptArgs {
    /// For whoever may unwrap with this key: a key in the current vault, or its full name, or that of a version.
    /// An AES or an RSA key; once for each
    #[arg(long, value_name = "NAME")]
    key: Vec<String>,
    /// For an age recipient (age1…); once for each
    #[arg(long, value_name = "RECIPIENT", value_parser = recipient)]
    recipient: Vec<RecipientArg>,
    /// Write text (PEM) rather than bytes
    #[arg(long)]
    armor: bool,
    #[command(flatten)]
    files: InOutArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// `--recipient`.
#[derive(Clone, Debug)]
enum RecipientArg {
    /// `age1…`
    X25519(age::x25519::Recipient),
    /// `age1strongroom1…`: the key's full name.
    Key(String),
}

fn recipient(text: &str) -> Result<RecipientArg, String> {
    if let Ok(key) = key_of_recipient_text(text) {
        return Ok(RecipientArg::Key(key));
    }
    age::x25519::Recipient::from_str(text).map(RecipientArg::X25519).map_err(|_| {
        "a recipient looks like age1…, or is what `strongroom file recipient` printed; for recipients of other \
         plugins take age"
            .to_owned()
    })
}

/// Recipients as `age` takes them.
type Recipients = Vec<Box<dyn age::Recipient + Send>>;

/// Encrypts a file.
pub(super) async fn run(connection: &ConnectionArgs, args: EncryptArgs) -> anyhow::Result<()> {
    let keys = args.keys(connection)?;
    if keys.len() + args.recipient.len() > RECIPIENTS_MAX {
        return Err(Failure::new(format!("a file has at most {RECIPIENTS_MAX} recipients")).into());
    }
    if !args.armor && files::is_standard(&args.files.output) && io::stdout().is_terminal() {
        return Err(Failure::new("an encrypted file is not for a terminal")
            .hint("name a file to write, or pass --armor for text")
            .into());
    }
    let input = files::open(&args.files.input)?;
    let out = Out::prepare(&args.files.output, Content::Public)?;
    let client = if keys.is_empty() { None } else { Some(connection.connect_for_long().await?) };
    let (mut recipients, mut versions): (Recipients, _) = (Vec::new(), Vec::new());
    for key in &keys {
        let recipient = of_key(client.as_ref().context("connected above")?, key).await?;
        versions.push(recipient.version().to_owned());
        recipients.push(Box::new(recipient));
    }
    for recipient in &args.recipient {
        if let RecipientArg::X25519(recipient) = recipient {
            recipients.push(Box::new(recipient.clone()));
        }
    }
    let out_is_standard = out.is_standard();
    let work = Work { path: args.files.input.clone(), input, out, recipients, armor: args.armor };
    let bytes = tokio::task::spawn_blocking(move || work.run(client.as_ref())).await??;
    report(args.format, out_is_standard, versions, bytes)
}

impl EncryptArgs {
    fn keys(&self, connection: &ConnectionArgs) -> anyhow::Result<Vec<KeyRef>> {
        let named = self.key.iter().map(|name| KeyRef::resolve(connection, name, None));
        let given = self.recipient.iter().filter_map(|recipient| match recipient {
            RecipientArg::Key(name) => Some(KeyRef::from_resource(name)),
            RecipientArg::X25519(_) => None,
        });
        named.chain(given).collect()
    }
}

async fn of_key(client: &Client, key: &KeyRef) -> anyhow::Result<Recipient> {
    let doing = format!("encrypt for {key}");
    let (action, name) = (super::action(doing.clone(), &key.to_string()), key.to_string());
    let found = client.call(&action, client.api.get_key(&name)).await?;
    let version = found.version.with_context(|| format!("the server sent no version of {key}"))?;
    Recipient::of_version(&client.api, version).map_err(|error| explain(error, &doing, Some(client)).into())
}

/// What is done on a thread that may block.
struct Work {
    path: std::path::PathBuf,
    input: File,
    out: Out,
    recipients: Recipients,
    armor: bool,
}

impl Work {
    fn run(mut self, client: Option<&Client>) -> anyhow::Result<u64> {
        let doing = format!("encrypt {}", files::shown(&self.path, "standard input"));
        let recipients = self.recipients.iter().map(|recipient| recipient.as_ref() as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(|error| match error {
            age::EncryptError::Io(error) => explain_io(error, &doing, client),
            other => Failure::new(format!("cannot {doing}: {other}")),
        })?;
        let cannot = self.out.cannot();
        let format = if self.armor { Format::AsciiArmor } else { Format::Binary };
        let armored = ArmoredWriter::wrap_output(self.out.file()?, format).context(cannot.clone())?;
        let mut to = encryptor.wrap_output(armored).context(cannot.clone())?;
        let progress = Progress::of(&self.input);
        let bytes = copy(&mut self.input, &mut to, |bytes| progress.add(bytes)).map_err(|broken| match broken {
            Broken::Read(error) => unreadable(&self.path, error),
            Broken::Write(error) => anyhow::Error::new(error).context(cannot.clone()),
        })?;
        to.finish().and_then(ArmoredWriter::finish).context(cannot)?;
        self.out.finish()?;
        Ok(bytes)
    }
}

fn unreadable(path: &Path, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot read {}", files::shown(path, "standard input")))
}

#[cfg(test)]
mod tests {
    use strongroom_client::file::recipient_text;

    use super::*;

    #[test]
    fn recipients_are_told_apart() {
        let key = "vaults/dev/keys/k";
        assert!(matches!(recipient(&recipient_text(key).expect("a key")), Ok(RecipientArg::Key(name)) if name == key));
        let plain = age::x25519::Identity::generate().to_public().to_string();
        assert!(matches!(recipient(&plain), Ok(RecipientArg::X25519(_))));
        for wrong in ["", "k", "age1yubikey1q", "AGE-SECRET-KEY-1Q", &plain[..plain.len() - 1]] {
            assert!(recipient(wrong).is_err(), "{wrong}");
        }
    }
}
