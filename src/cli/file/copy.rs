//! From a reader to a writer in constant memory, with a progress bar where somebody looks.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write},
};

use indicatif::{ProgressBar, ProgressStyle};
use zeroize::Zeroizing;

/// As long as a block of `age`.
const BUFFER_BYTES: usize = 64 * 1024;

/// Which side failed.
#[derive(Debug)]
pub(super) enum Broken {
    Read(io::Error),
    Write(io::Error),
}

/// Copies to the end; how many bytes there were. The buffer is wiped.
pub(super) fn copy(from: &mut impl Read, to: &mut impl Write, mut each: impl FnMut(u64)) -> Result<u64, Broken> {
    let mut buffer = Zeroizing::new(vec![0; BUFFER_BYTES]);
    let mut total = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Read(error)),
        };
        to.write_all(&buffer[..count]).map_err(Broken::Write)?;
        let count = count as u64;
        total += count;
        each(count);
    }
}

/// A progress bar on standard error, gone when it is dropped; nothing where standard error is no terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of a file that is read. A pipe has no length: then it shows how much there was.
    pub(super) fn of(file: &File) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        let (bar, template) = match length {
            Some(length) => (
                ProgressBar::new(length),
                "{percent:>3} % {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes}, {binary_bytes_per_sec}"),
        };
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_copied_and_counted() {
        let from = vec![7; 200_001];
        let (mut to, mut counted) = (Vec::new(), 0);
        let total = copy(&mut &from[..], &mut to, |bytes| counted += bytes).expect("copied");
        assert_eq!((total, counted, to == from), (200_001, 200_001, true));
    }

    #[test]
    fn the_side_that_failed_is_known() {
        assert!(matches!(copy(&mut &b"x"[..], &mut Full, |_| {}), Err(Broken::Write(_))));
        let mut broken = io::BufReader::new(File::open("/").expect("a folder opens"));
        assert!(matches!(copy(&mut broken, &mut Vec::new(), |_| {}), Err(Broken::Read(_))));
    }
}
