//! `strongroom exec`: a command that finds secrets in its environment. It takes the place of this program, so that signals, exit
//! code and process id are its own, and the values are in its memory and in no other.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::{Command, ExitCode},
};

use clap::Args;

use super::{fetch::Values, names};
use crate::{
    cli::{connection::ConnectionArgs, failure::Failure},
    service::secrets::SecretRef,
};

pub(in crate::cli) const AFTER_HELP: &str = "\
Every secret is read before anything runs; when one cannot be read, nothing does. The values are in the environment of the command, \
byte for byte, and in no file. Whoever may read that environment (/proc/PID/environ: the same user and root) reads them, and what the \
command starts inherits them. Without =ENVVAR the variable is the secret's name in capitals, with _ for -: db-password is DB_PASSWORD. \
Exit code: the command's own; 2 when it could not be run.";

/// What `exec` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExecArgs {
    /// A secret of the vault (or its full name, or strongroom://VAULT/NAME), and the variable it is put into; once for each
    #[arg(long = "secret", value_name = "NAME[=ENVVAR]", value_parser = wanted, required = true)]
    secrets: Vec<Wanted>,
    /// The command and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A secret and the variable that it is put into.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    variable: String,
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let (name, variable) = match text.split_once('=') {
        Some((name, variable)) => (name, variable.to_owned()),
        None => (text, variable_of(text)),
    };
    if is_variable(&variable) {
        return Ok(Wanted { name: name.to_owned(), variable });
    }
    Err(format!(
        "{variable:?} is no name of a variable: a letter or _, then letters, digits and _ (say it: {name}=ENVVAR)"
    ))
}

/// The variable that is meant where none is said: the name of the secret, without vault and version.
fn variable_of(name: &str) -> String {
    let parts: Vec<&str> = name.strip_prefix(names::SCHEME).unwrap_or(name).split('/').collect();
    let name = match parts[..] {
        ["vaults", _, "secrets", secret, ..] => secret,
        [_, secret, ..] => secret,
        _ => name,
    };
    name.to_ascii_uppercase().replace('-', "_")
}

fn is_variable(text: &str) -> bool {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

impl ExecArgs {
    /// Which secret is put where. No variable is set twice.
    fn wanted(&self, connection: &ConnectionArgs) -> anyhow::Result<Vec<(SecretRef, &str)>> {
        let mut found: Vec<(SecretRef, &str)> = Vec::with_capacity(self.secrets.len());
        for Wanted { name, variable } in &self.secrets {
            if found.iter().any(|(_, known)| known == variable) {
                return Err(Failure::new(format!("two secrets are to be put into {variable}"))
                    .hint("say where each goes: --secret NAME=ENVVAR")
                    .into());
            }
            found.push((names::resolve(connection, name, None)?, variable));
        }
        Ok(found)
    }
}

/// Runs the command in the place of this program.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let wanted = args.wanted(connection)?;
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::new("no command was named").hint("name it after --").into());
    };
    let mut command = Command::new(program);
    command.args(rest);
    let mut values = Values::of(connection.connect().await?);
    for (secret, variable) in wanted {
        let value = values.get(&secret).await?;
        if value.contains(&0) {
            return Err(Failure::new(format!("the value of {secret} has a zero byte, which no variable can hold"))
                .hint("write it to a file: strongroom secret value NAME --out FILE")
                .into());
        }
        command.env(variable, OsStr::from_bytes(value));
    }
    // Comes back only when it cannot be run.
    let error = command.exec();
    Err(Failure::new(format!("cannot run {}: {error}", program.display())).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_where_it_is_said_or_under_its_own_name() {
        let version = "0123456789abcdef0123456789abcdef";
        for (text, name, variable) in [
            ("db-password".to_owned(), "db-password", "DB_PASSWORD"),
            ("db=PGPASSWORD".to_owned(), "db", "PGPASSWORD"),
            ("strongroom://dev/db".to_owned(), "strongroom://dev/db", "DB"),
            (format!("vaults/dev/secrets/a-b/versions/{version}"), "", "A_B"),
            (format!("strongroom://dev/a-b/{version}"), "", "A_B"),
        ] {
            let read = wanted(&text).expect("is read");
            assert_eq!((read.name == name || read.name == text, read.variable.as_str()), (true, variable), "{text}");
        }
        for wrong in ["1st", "db=", "db=A B", "db=A=B", "", "db=é", "db=1A"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }
}
