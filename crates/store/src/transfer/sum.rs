//! What two sides of a move compare: how many rows, and a sum over them in which neither their order counts nor that of members of a
//! document, since neither is kept.

use serde_json::Value as Json;

use super::{Part, Row};
use crate::error::StoreError;
use crate::streams::LogRecord;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    pub(crate) sum: u64,
}

impl Sum {
    /// The column of the document is the one before the last, of records alone.
    pub(crate) fn add(&mut self, part: Part, row: &Row) -> Result<(), StoreError> {
        let document = match part {
            Part::Records(table) if table.queried().is_some() => Some(row.len() - 2),
            Part::Records(_) | Part::Counters => None,
        };
        let mut digest = Digest::new();
        for (at, field) in row.iter().enumerate() {
            match field {
                None => digest.add(b"-"),
                Some(text) if document == Some(at) => {
                    let json = serde_json::from_str(text);
                    let json = json.map_err(|error| StoreError::Corrupt(format!("a document: {error}")))?;
                    digest.add(&of_json(&json).to_le_bytes());
                }
                Some(text) => digest.add(text.as_bytes()),
            }
        }
        self.rows += 1;
        self.sum = self.sum.wrapping_add(digest.0);
        Ok(())
    }

    pub(crate) fn add_record(&mut self, record: &LogRecord) {
        let mut digest = Digest::new();
        for number in [record.sequence, record.offset, record.time.ticks().cast_unsigned()] {
            digest.add(&number.to_le_bytes());
        }
        for bytes in [record.key.as_bytes(), &record.headers, &record.body] {
            digest.add(bytes);
        }
        self.rows += 1;
        self.sum = self.sum.wrapping_add(digest.0);
    }

    /// What counts without being a row.
    pub(crate) fn add_numbers(&mut self, numbers: &[u64]) {
        let mut digest = Digest::new();
        for number in numbers {
            digest.add(&number.to_le_bytes());
        }
        self.sum = self.sum.wrapping_add(digest.0);
    }
}

/// FNV-1a: the same on every machine, in every version.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Fields end, so that what moves from one into the next shows.
    fn add(&mut self, field: &[u8]) {
        let length = (field.len() as u64).to_le_bytes();
        for byte in field.iter().chain(&length) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn of_json(json: &Json) -> u64 {
    let mut digest = Digest::new();
    match json {
        Json::Object(members) => {
            let of_member = |(name, value): (&String, &Json)| {
                let mut digest = Digest::new();
                digest.add(name.as_bytes());
                digest.add(&of_json(value).to_le_bytes());
                digest.0
            };
            let sum = members.iter().map(of_member).fold(0_u64, u64::wrapping_add);
            digest.add(b"{");
            digest.add(&sum.to_le_bytes());
        }
        Json::Array(items) => {
            digest.add(b"[");
            for item in items {
                digest.add(&of_json(item).to_le_bytes());
            }
        }
        scalar => digest.add(scalar.to_string().as_bytes()),
    }
    digest.0
}
