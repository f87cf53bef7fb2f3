//! What goes to standard output. Tables have lines on a terminal only, so that a pipe gets plain
//! columns; text that others wrote (tags, principals) cannot send control characters to a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde::Serialize;

/// How a result is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// `-o`, the same on every command.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct FormatArgs {
    /// How to show the result
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) format: Format,
}

/// The format that a command line asks for, for what goes wrong: `table` where the command has no choice.
pub(super) fn asked(matches: &clap::ArgMatches) -> Format {
    let mut leaf = matches;
    while let Some((_, deeper)) = leaf.subcommand() {
        leaf = deeper;
    }
    // By its text: `key show` has more formats, of a type of its own.
    let named = leaf.try_get_raw("format").ok().flatten().and_then(|mut values| values.next_back());
    if named.is_some_and(|name| name == "json") { Format::Json } else { Format::Table }
}

/// Something that can be shown as a table.
pub(super) trait Rows {
    /// The table's head; none for a list of fields.
    fn head(&self) -> Vec<&'static str>;
    /// Its lines.
    fn rows(&self) -> Vec<Vec<String>>;
}

/// Shows a result.
pub(super) fn show<T: Rows + Serialize>(format: Format, value: &T) -> anyhow::Result<()> {
    match format {
        Format::Json => json(value),
        Format::Table => line(&table(value, io::stdout().is_terminal())),
    }
}

/// A table as it would be shown, for what consists of several.
pub(super) fn text(value: &impl Rows) -> String {
    table(value, io::stdout().is_terminal())
}

/// Shows a value as JSON.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Shows a value as JSON on one line: for a command that goes on, and whose reader waits for the line's end.
pub(super) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Prints text and a line's end on standard output.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    quiet(out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Prints text and a line's end on standard error: what accompanies a result on standard output.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks on standard error: the answer comes on the same line.
pub(super) fn ask(question: &str) {
    let mut out = io::stderr().lock();
    let _ = write!(out, "{question} ").and_then(|()| out.flush());
}

/// Who closes a pipe early (`| head`) has read enough.
fn quiet(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
        Ok(()) => Ok(()),
    }
}

/// Text without control characters: they could move a terminal's cursor or hide what follows.
pub(super) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn table(value: &impl Rows, terminal: bool) -> String {
    let mut table = Table::new();
    if terminal {
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty().load_style(presets::NOTHING);
    }
    let head = value.head();
    if !head.is_empty() {
        table.set_header(head.into_iter().map(|title| emphasised(title, terminal)));
    }
    for row in value.rows() {
        table.add_row(row.iter().map(|cell| Cell::new(printable(cell))));
    }
    if !terminal {
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// <https://no-color.org>: set and not empty means no styling.
fn emphasised(title: &str, terminal: bool) -> Cell {
    let styled = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if styled { Cell::new(title).add_attribute(Attribute::Bold) } else { Cell::new(title) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Rows for Two {
        fn head(&self) -> Vec<&'static str> {
            vec!["NAME", "STATE"]
        }

        fn rows(&self) -> Vec<Vec<String>> {
            vec![vec!["a-long-name".into(), "active".into()], vec!["b\u{1b}[2J".into(), String::new()]]
        }
    }

    #[test]
    fn a_pipe_gets_plain_columns() {
        let expected = "NAME         STATE\na-long-name  active\nb\\u{1b}[2J";
        assert_eq!(table(&Two, false), expected);
    }
}
