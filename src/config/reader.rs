//! Reading a table of the configuration key by key, so that every fault is found in one go and named by
//! its key path. What is not asked for is a fault too: a mistyped key is not passed over (P9).

use std::{
    cell::RefCell,
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use toml::{Table, Value};

/// One fault of a configuration: where and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key path, for example `hsm.token.label`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub why: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key.is_empty() { f.write_str(&self.why) } else { write!(f, "{}: {}", self.key, self.why) }
    }
}

/// The faults found so far, shared by all sections of one file.
pub(super) type Faults = Rc<RefCell<Vec<Fault>>>;

/// A table of the file, read once.
pub(super) struct Section {
    path: String,
    table: Table,
    faults: Faults,
    folder: PathBuf,
}

impl Section {
    /// The file's own table; relative paths in it are relative to `folder`.
    pub(super) fn root(table: Table, folder: &Path, faults: Faults) -> Self {
        Self { path: String::new(), table, faults, folder: folder.to_owned() }
    }

    /// The key path of one of its keys.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes a fault.
    pub(super) fn fault(&self, name: &str, why: impl Into<String>) {
        self.faults.borrow_mut().push(Fault { key: self.key(name), why: why.into() });
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.table.remove(name)
    }

    /// A table in it; an empty one where there is none.
    pub(super) fn section(&mut self, name: &str) -> Self {
        let table = match self.take(name) {
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.fault(name, format!("is a table, not {}", kind(&other)));
                Table::new()
            }
            None => Table::new(),
        };
        Self { path: self.key(name), table, faults: Rc::clone(&self.faults), folder: self.folder.clone() }
    }

    /// The same section without its keys: to name faults of it after they were read.
    pub(super) fn same(&self) -> Self {
        let (path, faults, folder) = (self.path.clone(), Rc::clone(&self.faults), self.folder.clone());
        Self { path, table: Table::new(), faults, folder }
    }

    /// Whether the key is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Passes over keys, whatever they say.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// A number from 0 to 1.
    pub(super) fn fraction(&mut self, name: &str, default: f64) -> f64 {
        let value = match self.take(name) {
            None => return default,
            Some(Value::Float(value)) => value,
            Some(Value::Integer(0)) => 0.0,
            Some(Value::Integer(1)) => 1.0,
            Some(_) => f64::NAN,
        };
        if !(0.0..=1.0).contains(&value) {
            self.fault(name, "is a number from 0 to 1, for example 0.01");
            return default;
        }
        value
    }

    /// The tables of a list (`[[name]]`), if it is one.
    pub(super) fn tables(&mut self, name: &str) -> Vec<Self> {
        let values = self.list(name, "tables");
        let mut sections = Vec::with_capacity(values.len());
        for (at, value) in values.into_iter().enumerate() {
            match value {
                Value::Table(table) => sections.push(Self {
                    path: format!("{}[{at}]", self.key(name)),
                    table,
                    faults: Rc::clone(&self.faults),
                    folder: self.folder.clone(),
                }),
                other => self.fault(name, format!("is a list of tables; it holds {}", kind(&other))),
            }
        }
        sections
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self, name: &str) -> bool {
        self.table.get(name).is_some_and(Value::is_array)
    }

    /// A list; what it should hold is for the fault. Empty when the key is absent.
    fn list(&mut self, name: &str, of: &str) -> Vec<Value> {
        match self.take(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.fault(name, format!("is a list of {of}, not {}", kind(&other)));
                Vec::new()
            }
        }
    }

    /// A list, each of whose members is read from its text.
    pub(super) fn parsed<T>(&mut self, name: &str, of: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut parsed = Vec::new();
        for value in self.list(name, of) {
            match value {
                Value::String(text) => match parse(&text) {
                    Ok(value) => parsed.push(value),
                    Err(why) => self.fault(name, format!("{text:?} {why}")),
                },
                other => self.fault(name, format!("is a list of {of} in quotes; it holds {}", kind(&other))),
            }
        }
        parsed
    }

    /// A list of numbers of users or groups.
    pub(super) fn ids(&mut self, name: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for value in self.list(name, "numbers") {
            // The last one stands for "none" (POSIX chown).
            match value.as_integer().and_then(|number| u32::try_from(number).ok()).filter(|id| *id != u32::MAX) {
                Some(id) => ids.push(id),
                None => self.fault(name, format!("is a list of ids from 0 to {}", u32::MAX - 1)),
            }
        }
        ids
    }

    /// A path; absent when the key is.
    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(|text| self.folder.join(text))
    }

    /// All remaining keys with what they are set to.
    pub(super) fn values(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.table).into_iter().collect()
    }

    /// Whole seconds in a range.
    pub(super) fn seconds(
        &mut self,
        name: &str,
        default: Duration,
        range_s: std::ops::RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_secs(self.number(name, default.as_secs(), range_s))
    }

    /// Text; absent when the key is.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::String(_) => {
                self.fault(name, "is empty");
                None
            }
            other => {
                self.fault(name, format!("is text in quotes, not {}", kind(&other)));
                None
            }
        }
    }

    /// Text that must be there.
    pub(super) fn required_text(&mut self, name: &str) -> String {
        let is_there = self.table.contains_key(name);
        let text = self.text(name);
        if !is_there {
            self.fault(name, "is missing");
        }
        text.unwrap_or_default()
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, name: &str, default: bool) -> bool {
        match self.take(name) {
            None => default,
            Some(Value::Boolean(value)) => value,
            Some(other) => {
                self.fault(name, format!("is true or false, not {}", kind(&other)));
                default
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn number(&mut self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        match self.take(name) {
            None => default,
            Some(Value::Integer(value)) if u64::try_from(value).is_ok_and(|value| range.contains(&value)) => {
                value.unsigned_abs()
            }
            Some(other) => {
                let found = other.as_integer().map_or_else(|| kind(&other).to_owned(), |value| value.to_string());
                self.fault(name, format!("is a number from {} to {}, not {found}", range.start(), range.end()));
                default
            }
        }
    }

    /// As [`Self::number`], for counts.
    pub(super) fn count(&mut self, name: &str, default: usize, range: std::ops::RangeInclusive<u64>) -> usize {
        usize::try_from(self.number(name, default as u64, range)).unwrap_or(default)
    }

    /// Milliseconds in a range.
    pub(super) fn milliseconds(
        &mut self,
        name: &str,
        default: Duration,
        range_ms: std::ops::RangeInclusive<u64>,
    ) -> Duration {
        let default_ms = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.number(name, default_ms, range_ms))
    }

    /// A path that must be there, made absolute.
    pub(super) fn required_path(&mut self, name: &str) -> PathBuf {
        let text = self.required_text(name);
        self.folder.join(text)
    }

    /// A list of paths, made absolute.
    pub(super) fn paths(&mut self, name: &str) -> Vec<PathBuf> {
        let values = self.list(name, "paths");
        let mut paths = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::String(text) if !text.is_empty() => paths.push(self.folder.join(text)),
                other => self.fault(name, format!("is a list of paths in quotes; it holds {}", kind(&other))),
            }
        }
        paths
    }

    /// An address to listen on: host and port. A host name is resolved now.
    pub(super) fn address(&mut self, name: &str, default: Option<&str>) -> Option<SocketAddr> {
        let text = match (self.table.contains_key(name), default) {
            (false, Some(default)) => default.to_owned(),
            (false, None) => {
                self.fault(name, "is missing");
                return None;
            }
            (true, _) => self.text(name)?,
        };
        let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        if found.is_none() {
            self.fault(name, format!("{text:?} is not HOST:PORT, for example 127.0.0.1:8443 or [::1]:8443"));
        }
        found
    }

    /// One word of a closed set.
    pub(super) fn word<T: Copy>(&mut self, name: &str, default: T, words: &[(&str, T)]) -> T {
        if !self.table.contains_key(name) {
            return default;
        }
        let Some(text) = self.text(name) else { return default };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.fault(name, format!("{text:?} is none of {}", known.join(", ")));
        default
    }

    /// All remaining keys, each as a table.
    pub(super) fn sections(mut self) -> Vec<(String, Self)> {
        let names: Vec<String> = self.table.keys().cloned().collect();
        names.into_iter().map(|name| (name.clone(), self.section(&name))).collect()
    }

    /// All remaining keys, each as text: an environment.
    pub(super) fn texts(mut self) -> std::collections::BTreeMap<String, String> {
        let names: Vec<String> = self.table.keys().cloned().collect();
        names.into_iter().filter_map(|name| self.text(&name).map(|text| (name, text))).collect()
    }

    /// Ends the reading: what nobody asked for is not known.
    pub(super) fn finish(self) {
        for name in self.table.keys() {
            self.fault(name, "is not a key that this release knows");
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
