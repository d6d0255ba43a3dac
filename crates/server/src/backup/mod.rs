//! A backup: one tar file that holds everything a server needs to go on elsewhere, its keys included. Made by the running
//! server (`make`), fetched by `commands/backup.rs`, unpacked by `unpack`.
//!
//! In order: `READ-ME.txt` · `backup.json` · `records.db` · `log/…` · `blobs/…` · keys · `checksums.txt`, which comes last, so
//! that a file that was cut off lacks it.

mod make;
pub(crate) mod unpack;

use std::io::{self, Read};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

pub(crate) use make::{Source, remove_leftovers};
pub(crate) use unpack::refuse_half_restored;

/// Raised whenever an older `twinhub restore` could not read what is written.
const FORMAT: u32 = 3;
const READ_ME: &str = "READ-ME.txt";
const MANIFEST: &str = "backup.json";
const RECORDS: &str = "records.db";
const LOG: &str = "log/";
const BLOBS: &str = "blobs/";
const CHECKSUMS: &str = "checksums.txt";
/// Files of the data directory beside the store's. Those that a start makes anew are not among them. Roots come before their keys,
/// which are written first: a root that is made meanwhile is not kept without its key.
const KEPT: [&str; 5] = ["admin.key", "ca.pem", "ca-key.pem", "ca-rsa.pem", "ca-rsa-key.pem"];

const WARNING: &str = "This file holds the keys, connection strings and certificate authority of a twinhub server.\n\
    Whoever can read it can pose as the server and as each of its devices. Keep it as safe as the server's data.\n\
    `twinhub restore FILE --data-dir DIRECTORY` puts it into an empty directory.\n";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    format: u32,
    made_by: String,
    made_at: base::Timestamp,
}

/// Passes on what is read, and counts and sums it.
struct Summed<T> {
    inner: T,
    bytes: u64,
    sum: digest::Context,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self { inner, bytes: 0, sum: digest::Context::new(&digest::SHA256) }
    }

    /// A line of [`CHECKSUMS`].
    fn line(self, name: &str) -> String {
        let hex: String = self.sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex} {} {name}\n", self.bytes)
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sum.update(bytes);
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.take_in(&buffer[..count]);
        Ok(count)
    }
}
