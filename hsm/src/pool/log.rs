//! What a worker, or the vendor's library in it, writes to standard error: into our log, line by line.
//!
//! The pipe is always read, else a chatty library would stop in the middle of an operation; but only so
//! many lines a second are logged, each cut to a length, and without control characters.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};

const LINE_BYTES_MAX: usize = 512;
const LINES_A_SECOND_MAX: u32 = 20;

/// Logs until the other end closes.
pub(super) async fn follow(mut source: impl AsyncRead + Unpin, lane: &'static str, worker: usize) {
    let mut lines = Lines::default();
    let mut limit = Limit { since: Instant::now(), lines: 0, dropped: 0 };
    let mut buffer = [0; 4096];
    loop {
        let length = match source.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        lines.push(&buffer[..length], |line| {
            if let Some(dropped) = limit.permits(Instant::now()) {
                tracing::info!(lane, worker, dropped, "worker says: {line}");
            }
        });
    }
}

/// A text that came from a worker, fit for logs and health: bounded, without control characters.
pub(super) fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(LINE_BYTES_MAX).map(clean).collect()
}

/// Bytes to lines of bounded length.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' {
                if !self.line.is_empty() {
                    each(&String::from_utf8_lossy(&self.line).escape_debug().to_string());
                }
                self.line.clear();
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(*byte);
            }
        }
    }
}

/// So many lines a second.
struct Limit {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl Limit {
    /// Whether one more line may be logged; if so, how many were dropped before it.
    fn permits(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.lines = 0;
        }
        if self.lines >= LINES_A_SECOND_MAX {
            self.dropped += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_cleaned() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        lines.push(b"one\n\ntw", |line| seen.push(line.to_owned()));
        lines.push(b"o\x1b[2J\n", |line| seen.push(line.to_owned()));
        lines.push(&[b'x'; 10_000], |line| seen.push(line.to_owned()));
        lines.push(b"\n", |line| seen.push(line.to_owned()));
        assert_eq!(seen[..2], ["one".to_owned(), "two\\u{1b}[2J".to_owned()]);
        assert_eq!(seen[2].len(), LINE_BYTES_MAX);
    }

    #[test]
    fn what_a_worker_says_of_itself_is_bounded_and_clean() {
        assert_eq!(printable("C_Sign\n\u{1b}[2J").chars().filter(|c| c.is_control()).count(), 0);
        assert_eq!(printable(&"x".repeat(90_000)).len(), LINE_BYTES_MAX);
    }

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let now = Instant::now();
        let mut limit = Limit { since: now, lines: 0, dropped: 0 };
        let logged = (0..1000).filter(|_| limit.permits(now).is_some()).count();
        assert_eq!(logged, LINES_A_SECOND_MAX as usize);
        let later = now + Duration::from_secs(2);
        assert_eq!(limit.permits(later), Some(1000 - u64::from(LINES_A_SECOND_MAX)));
    }
}
