//! `age-plugin-strongroom`: the plugin by which any `age` encrypts for a key of Strongroom and decrypts with
//! one (<https://c2sp.org/age-plugin>). `age` starts it by its name and speaks to it over standard input and
//! output; where the server is, and who we are, is in the environment (`STRONGROOM_*`).

use std::{
    collections::{HashMap, HashSet},
    io,
    process::ExitCode,
};

use age_core::format::{FileKey, Stanza};
use age_plugin::{
    Callbacks, PluginHandler,
    identity::{self, IdentityPluginV1},
    recipient::{self, RecipientPluginV1},
};
use clap::Parser;
use strongroom_client::{
    Settings,
    file::{self, FileError, Identity, Recipient},
};
use tokio::runtime::Runtime;

use super::{
    EXIT_ERROR, connection,
    failure::{self, Failure},
    output::Format,
    usage,
};

/// The plugin by which age encrypts for keys of Strongroom, and decrypts with them.
#[derive(Debug, Parser)]
#[command(name = "age-plugin-strongroom", version, max_term_width = 100, after_help = AFTER_HELP)]
struct PluginArgs {
    /// What age asks for
    #[arg(long = "age-plugin", value_name = "STATE_MACHINE")]
    state_machine: String,
}

const AFTER_HELP: &str = "\
It is started by age, never by hand. Put it on PATH, load the settings (STRONGROOM_ENDPOINT, STRONGROOM_CA,
STRONGROOM_CERT, STRONGROOM_KEY; for development: . DIR/env), and:
  age -r \"$(strongroom file recipient --key NAME)\" -o FILE.age FILE
  strongroom file identity > identity.txt
  age -d -i identity.txt -o FILE FILE.age";

/// The plugin's program.
#[must_use]
pub fn main() -> ExitCode {
    let args = match PluginArgs::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    match age_plugin::run_state_machine(&args.state_machine, Plugin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failure::print(&anyhow::Error::new(error).context("cannot speak with age"), Format::Table);
            ExitCode::from(EXIT_ERROR)
        }
    }
}

struct Plugin;

impl PluginHandler for Plugin {
    type RecipientV1 = Keys;
    type IdentityV1 = Keys;

    fn recipient_v1(self) -> io::Result<Keys> {
        Ok(Keys::default())
    }

    fn identity_v1(self) -> io::Result<Keys> {
        Ok(Keys::default())
    }
}

/// The keys that `age` has named.
#[derive(Default)]
struct Keys {
    /// To encrypt for.
    recipients: Vec<String>,
    /// To decrypt with; `None` is any.
    identities: Vec<Option<String>>,
}

/// A connection, and what drives it.
struct Connected {
    runtime: Runtime,
    client: strongroom_client::Client,
}

impl Connected {
    /// Connects; else says why not, in one line.
    fn new() -> Result<Self, String> {
        let settings = Settings::from_environment().map_err(|error| in_one_line(&connection::explain(&error)))?;
        let settings = settings.with_user_agent(concat!("age-plugin-strongroom/", env!("CARGO_PKG_VERSION")));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let client = runtime.block_on(settings.connect()).map_err(|error| said(&error))?;
        Ok(Self { runtime, client })
    }
}

/// `age` shows a message as it is, behind the plugin's name.
fn in_one_line(failure: &Failure) -> String {
    failure.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

fn said(error: &strongroom_client::Error) -> String {
    match error {
        strongroom_client::Error::Settings(error) => in_one_line(&connection::explain(error)),
        strongroom_client::Error::Connection { endpoint, cause } => {
            in_one_line(&super::cause::explain(cause, endpoint))
        }
        strongroom_client::Error::NoServer(failed) => in_one_line(&super::cause::explain_all(failed)),
        other => other.to_string(),
    }
}

impl RecipientPluginV1 for Keys {
    fn add_recipient(&mut self, index: usize, _: &str, bytes: &[u8]) -> Result<(), recipient::Error> {
        let key = file::key_of_recipient(bytes)
            .map_err(|error| recipient::Error::Recipient { index, message: error.to_string() })?;
        self.recipients.push(key);
        Ok(())
    }

    fn add_identity(&mut self, index: usize, _: &str, bytes: &[u8]) -> Result<(), recipient::Error> {
        let error = |message: String| recipient::Error::Identity { index, message };
        let key = file::key_of_identity(bytes).map_err(|why| error(why.to_string()))?;
        let key = key.ok_or_else(|| {
            error("this identity is for any key, so it does not say which one to encrypt for: take a recipient".into())
        })?;
        self.recipients.push(key);
        Ok(())
    }

    fn labels(&mut self) -> HashSet<String> {
        HashSet::new()
    }

    fn wrap_file_keys(
        &mut self,
        file_keys: Vec<FileKey>,
        _: impl Callbacks<recipient::Error>,
    ) -> io::Result<Result<Vec<Vec<Stanza>>, Vec<recipient::Error>>> {
        let wrapped = Connected::new()
            .and_then(|connected| connected.runtime.block_on(wrap(&connected.client, &self.recipients, &file_keys)));
        Ok(wrapped.map_err(|message| vec![recipient::Error::Internal { message }]))
    }
}

async fn wrap(
    client: &strongroom_client::Client,
    keys: &[String],
    file_keys: &[FileKey],
) -> Result<Vec<Vec<Stanza>>, String> {
    let mut recipients = Vec::new();
    for key in keys {
        let recipient = Recipient::of_key(client, key).await;
        recipients.push(recipient.map_err(|error| format!("cannot encrypt for {key}: {error}"))?);
    }
    let mut wrapped = Vec::new();
    for file_key in file_keys {
        let mut stanzas = Vec::new();
        for recipient in &recipients {
            let stanza = recipient.stanza(file_key).await;
            stanzas
                .push(stanza.map_err(|error| format!("cannot encrypt for {}: {}", recipient.version(), said(&error)))?);
        }
        wrapped.push(stanzas);
    }
    Ok(wrapped)
}

impl IdentityPluginV1 for Keys {
    fn add_identity(&mut self, index: usize, _: &str, bytes: &[u8]) -> Result<(), identity::Error> {
        let key = file::key_of_identity(bytes)
            .map_err(|error| identity::Error::Identity { index, message: error.to_string() })?;
        self.identities.push(key);
        Ok(())
    }

    fn unwrap_file_keys(
        &mut self,
        files: Vec<Vec<Stanza>>,
        _: impl Callbacks<identity::Error>,
    ) -> io::Result<HashMap<usize, Result<FileKey, Vec<identity::Error>>>> {
        let internal = |message: String| vec![identity::Error::Internal { message }];
        let connected = match Connected::new() {
            Ok(connected) => connected,
            Err(message) => return Ok((0..files.len()).map(|index| (index, Err(internal(message.clone())))).collect()),
        };
        let opened = connected.runtime.block_on(async {
            let mut opened = HashMap::new();
            for (index, stanzas) in files.iter().enumerate() {
                if let Some(file_key) = unwrap(&connected.client, &self.identities, stanzas).await {
                    opened.insert(index, file_key.map_err(|error| internal(format!("cannot decrypt with {error}"))));
                }
            }
            opened
        });
        Ok(opened)
    }
}

/// With the first of the identities that opens it; `None` when no stanza is for any of them.
async fn unwrap(
    client: &strongroom_client::Client,
    identities: &[Option<String>],
    stanzas: &[Stanza],
) -> Option<Result<FileKey, FileError>> {
    let mut failed = None;
    for key in identities {
        let identity = match key {
            Some(key) => Identity::of_key(client, key),
            None => Identity::any(client),
        };
        match identity.file_key(stanzas).await {
            Some(Ok(file_key)) => return Some(Ok(file_key)),
            Some(Err(error)) => failed = failed.or(Some(Err(error))),
            None => {}
        }
    }
    failed
}
