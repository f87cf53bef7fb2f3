//! `strongroom completions` and `strongroom man`: made from the definition that reads the command line,
//! so they know every command and flag, and none that is not there.

use std::{fs, process::ExitCode};

use clap::{Command, CommandFactory as _};

use super::{
    Cli,
    compose::failure,
    operate::{CompletionsArgs, ManArgs},
    output,
};

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    let mut program = visible(&Cli::command());
    clap_complete::generate(args.shell, &mut program, "strongroom", &mut script);
    output::line(String::from_utf8(script)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for each command. The folder and its pages are for everyone to read.
pub(super) fn pages(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let written = fs::create_dir_all(&args.out).and_then(|()| clap_mangen::generate_to(Cli::command(), &args.out));
    written.map_err(|error| failure(format!("cannot write manual pages to {}", args.out.display()), &error))?;
    Ok(ExitCode::SUCCESS)
}

/// A command without what is hidden in it: completions would offer it.
fn visible(command: &Command) -> Command {
    let shown = Command::new(command.get_name().to_owned())
        .about(command.get_about().cloned().unwrap_or_default())
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()))
        .subcommands(command.get_subcommands().filter(|below| !below.is_hide_set()).map(visible));
    match command.get_version() {
        Some(version) => shown.version(version.to_owned()),
        None => shown,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeSet, process::Command as Process};

    use clap::ValueEnum as _;

    use super::*;

    /// Every visible command with the words that lead to it: `key create`. The program itself is the empty one.
    pub(in crate::cli) fn commands() -> Vec<(String, Command)> {
        fn walk(words: &str, command: &Command, found: &mut Vec<(String, Command)>) {
            found.push((words.to_owned(), command.clone()));
            for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
                walk(format!("{words} {}", below.get_name()).trim_start(), below, found);
            }
        }
        let mut found = Vec::new();
        let mut program = Cli::command();
        program.build();
        walk("", &program, &mut found);
        found
    }

    fn flags(command: &Command) -> BTreeSet<&str> {
        command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(clap::Arg::get_long).collect()
    }

    fn script(shell: clap_complete::Shell) -> String {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut visible(&Cli::command()), "strongroom", &mut script);
        String::from_utf8(script).expect("text")
    }

    #[test]
    fn every_shell_is_told_every_command_and_flag_and_nothing_hidden() {
        for shell in clap_complete::Shell::value_variants() {
            let script = script(*shell);
            for (words, command) in commands() {
                let name = words.rsplit(' ').next().unwrap_or_default();
                assert!(script.contains(name), "{shell}: {words}");
                // Fish is told flags of commands of two words only.
                let is_deep = words.split(' ').count() > 2 && *shell == clap_complete::Shell::Fish;
                for flag in flags(&command).into_iter().filter(|_| !is_deep) {
                    let long =
                        if *shell == clap_complete::Shell::Fish { format!("-l {flag}") } else { format!("--{flag}") };
                    assert!(script.contains(&long), "{shell}: {words} {long}");
                }
            }
            assert!(!script.contains("hsm-worker"), "{shell}");
        }
    }

    #[test]
    fn bash_completes_every_command() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("completions");
        fs::write(&file, script(clap_complete::Shell::Bash)).expect("writes");
        let mut asked = format!(". '{}'\n", file.display());
        let wanted: Vec<String> = commands().into_iter().map(|(words, _)| words).filter(|w| !w.is_empty()).collect();
        for words in &wanted {
            let (before, last) = words.rsplit_once(' ').unwrap_or(("", words));
            let count = before.split_whitespace().count() + 1;
            asked += &format!(
                "COMP_WORDS=(strongroom {words}); COMP_CWORD={count}; _strongroom strongroom {last} x; echo \"${{COMPREPLY[*]}}\"\n"
            );
        }
        let output = Process::new("bash").args(["-c", &asked]).output().expect("bash");
        let said = String::from_utf8(output.stdout).expect("text");
        assert_eq!(said.lines().count(), wanted.len(), "{}", String::from_utf8_lossy(&output.stderr));
        for (words, offered) in wanted.iter().zip(said.lines()) {
            let last = words.rsplit(' ').next().unwrap_or_default();
            assert!(offered.split(' ').any(|word| word == last), "{words}: {offered}");
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_flags() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("man1");
        pages(&ManArgs { out: out.clone() }).expect("writes");
        let mut wanted = BTreeSet::new();
        for (words, command) in commands() {
            let name = format!("strongroom {words}").trim_end().replace(' ', "-") + ".1";
            let page = fs::read_to_string(out.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            for flag in flags(&command) {
                assert!(page.contains(&format!(r"\-\-{}", flag.replace('-', r"\-"))), "{name}: {flag}");
            }
            wanted.insert(name);
        }
        let written = fs::read_dir(&out).expect("lists").map(|entry| entry.expect("an entry").file_name());
        let written: BTreeSet<String> = written.map(|name| name.to_string_lossy().into_owned()).collect();
        let is_help = |name: &&String| name.contains("-help");
        assert_eq!(written.difference(&wanted).filter(|name| !is_help(name)).count(), 0, "{written:?}");
    }
}
