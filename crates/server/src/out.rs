//! Standard output of every command. `println!` panics when the reader has gone (`twinhub env | head -1`); here that is its affair.

use std::fmt::Display;
use std::io::Write;

/// Writes a line.
pub fn line(text: impl Display) {
    write(format_args!("{text}\n"));
}

/// Writes as it stands, and at once.
pub fn write(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}
