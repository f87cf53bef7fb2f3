//! A PIN that somebody types: asked for without showing it, and held where workers read it as they read a file. And other
//! secrets that are typed.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsRawFd as _,
    path::PathBuf,
};

use rustix::{
    fs::{MemfdFlags, Mode},
    io::Errno,
    stdio::stdin,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    compose::{Ending, failure},
    failure::Failure,
    output,
};

/// The longest line that is taken. A terminal hands over 4,095 bytes at most.
const LINE_BYTES_MAX: usize = 1024;

/// A PIN in memory that has a descriptor. Workers inherit it, so it is a file to them, and to nobody else; it is gone
/// with this and them.
pub(super) struct TypedPin(File);

impl TypedPin {
    /// Asks for it. Where standard input is no terminal, it is its first line.
    pub(super) async fn ask(question: &str) -> anyhow::Result<Self> {
        let pin = hidden(question).await?;
        if pin.is_empty() {
            return Err(Failure::new("no PIN was given")
                .hint("type it at the terminal, or give it as the first line of standard input")
                .into());
        }
        Ok(Self::in_memory(&pin).map_err(|error| failure("the PIN cannot be handed to the workers", &error))?)
    }

    /// Asks for a new one: twice at a terminal, where nobody sees what was typed.
    pub(super) async fn ask_new() -> anyhow::Result<Self> {
        let new = Self::ask("New PIN: ").await?;
        if !io::stdin().is_terminal() {
            return Ok(new);
        }
        let again = Self::ask("New PIN again: ").await?;
        let same = new.read().and_then(|new| Ok(*new == *again.read()?));
        if same.map_err(|error| failure("what was typed cannot be compared", &error))? {
            return Ok(new);
        }
        Err(Failure::new("nothing was changed: the two were not the same").into())
    }

    fn read(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut buffer = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
        let length = rustix::io::pread(&self.0, &mut buffer[..], 0)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    fn in_memory(pin: &[u8]) -> io::Result<Self> {
        // Not closed on exec: that is how workers get it.
        let mut file = File::from(rustix::fs::memfd_create("pin", MemfdFlags::empty())?);
        rustix::fs::fchmod(&file, Mode::RUSR)?;
        file.write_all(pin)?;
        Ok(Self(file))
    }

    /// Where workers find it.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Asks for a line without showing what is typed.
pub(super) async fn hidden(question: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let silence = Silence::begin().map_err(|error| failure("the terminal cannot hide what is typed", &error))?;
    output::ask(question);
    let typed = line().await;
    drop(silence);
    typed
}

/// Asks for a line that may be seen.
pub(super) async fn answer(question: &str) -> anyhow::Result<String> {
    output::ask(question);
    Ok(String::from_utf8_lossy(&line().await?).into_owned())
}

/// While it lives, the terminal does not show what is typed.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> io::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // What was typed before the question was asked is forgotten.
        tcsetattr(stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may have gone meanwhile.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
            // The end of the line was not shown either.
            output::note("");
        }
    }
}

/// The next line of standard input, without its end. A signal ends the waiting, so that the terminal comes back as
/// it was.
async fn line() -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut ending = Ending::listen()?;
    let (sender, line) = oneshot::channel();
    // A thread of its own: nobody waits for it when a signal comes first.
    std::thread::spawn(move || sender.send(read_line()));
    let line = tokio::select! {
        line = line => line?,
        signal = ending.wait() => return Err(Failure::new(format!("ended by {signal}")).into()),
    };
    Ok(line.map_err(|error| failure("standard input cannot be read", &error))?)
}

/// Reads without buffers that nobody wipes. Of a pipe it may read more than the line, and forgets it.
fn read_line() -> io::Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new([0; LINE_BYTES_MAX + 1]);
    let mut length = 0;
    while length < buffer.len() && !buffer[..length].contains(&b'\n') {
        match rustix::io::read(stdin(), &mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let line = buffer[..length].split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() > LINE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
    }
    Ok(Zeroizing::new(line.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_pin_in_memory_is_a_file_that_can_be_read_more_than_once_and_by_its_owner_only() {
        let pin = TypedPin::in_memory(b"246810").expect("memory");
        for _ in 0..2 {
            assert_eq!(std::fs::read(pin.path()).expect("reads"), b"246810");
        }
        let mode = std::fs::metadata(pin.path()).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
    }
}
