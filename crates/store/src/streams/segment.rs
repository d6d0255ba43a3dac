//! One segment file: its header, the lanes at its start, and an index of its events that is made when first needed.
//! A sealed segment never changes again, but may be replaced by one that lacks what is forgotten (`condense`). Reading never trusts a byte whose checksum was not checked.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use base::{Timestamp, caps};
use parking_lot::Mutex;

use super::format::{self, Frame, HEADER_BYTES, Kind};
use super::index::Index;
use super::lane::{Lane, Lanes, Replay};
use super::medium::{LogFile, Medium};
use super::scan::{Scanned, Scanner};
use crate::error::StoreError;

const SUFFIX: &str = ".log";
/// A segment that is being made; it gets its name only once its opening is durable.
pub(crate) const UNFINISHED: &str = "unfinished";
/// Read from a file in one go.
pub(crate) const WINDOW_BYTES: usize = 256 * 1024;
/// The same, where only the opening of a segment is wanted.
const OPENING_BYTES: usize = 8 * 1024;

/// A segment that was read from start to end.
pub(crate) struct Replayed {
    pub(crate) index: Index,
    pub(crate) lanes: Replay,
    /// Behind the last record that is whole.
    pub(crate) end: u32,
    /// Whether the search behind damage was given up before the end.
    pub(crate) gave_up: bool,
}

pub(crate) struct Segment {
    pub(crate) name: String,
    /// The position of the file's first byte in the whole log.
    pub(crate) base: u64,
    pub(crate) file: LogFile,
    /// Where records begin behind the opening states.
    pub(crate) begin: u32,
    /// Per lane number, what it was at the start.
    pub(crate) start: HashMap<u32, Start>,
    /// The length in bytes, once nothing is appended any more.
    pub(crate) sealed: OnceLock<u32>,
    index: Mutex<Option<Arc<Index>>>,
    /// Events that were kept when it was last condensed, or is about to be.
    pub(crate) condensed_to: AtomicU64,
}

#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) next_sequence: u64,
    pub(crate) last_time: Timestamp,
}

impl Replayed {
    pub(crate) fn is_damaged(&self) -> bool {
        self.gave_up || !self.index.places.is_empty()
    }
}

pub(crate) fn name_of(base: u64) -> String {
    format!("{base:020}{SUFFIX}")
}

/// The base that a file's name tells, if it is a segment's.
pub(crate) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// The header and opening states of a segment.
pub(crate) fn opening(base: u64, lanes: &Lanes) -> Vec<u8> {
    let mut bytes = format::header(base).to_vec();
    let mut count = 0;
    for lane in lanes.iter() {
        let body = lane.encode();
        lane.frame(&body).encode(base + bytes.len() as u64, &mut bytes);
        count += 1;
    }
    let mut body = lanes.next_number.to_le_bytes().to_vec();
    body.extend_from_slice(&lanes.sequence_floor.to_le_bytes());
    let begin = Frame {
        kind: Kind::Begin,
        lane: 0,
        sequence: count,
        time: Timestamp::UNIX_EPOCH,
        origin: None,
        key: &[],
        headers: &[],
        body: &body,
    };
    begin.encode(base + bytes.len() as u64, &mut bytes);
    bytes
}

impl Segment {
    /// Makes the segment that follows, durable before it has its name. `spare` is a file of zeros under [`UNFINISHED`].
    pub(crate) fn create(
        medium: &Medium,
        base: u64,
        lanes: &Lanes,
        spare: Option<LogFile>,
    ) -> Result<Self, StoreError> {
        let bytes = opening(base, lanes);
        let file = match spare {
            Some(file) => file,
            None => medium.create(UNFINISHED)?,
        };
        file.write_at(&bytes, 0)?;
        file.sync()?;
        let name = name_of(base);
        medium.rename(UNFINISHED, &name)?;
        medium.sync_names()?;
        let begin = u32::try_from(bytes.len()).map_err(|_| too_large(&name))?;
        Ok(Self {
            name,
            base,
            file,
            begin,
            start: starts(lanes.iter()),
            sealed: OnceLock::new(),
            index: Mutex::default(),
            condensed_to: AtomicU64::new(u64::MAX),
        })
    }

    /// Reads header and opening states. A finished segment always has them, so anything else is damage.
    pub(crate) fn open(medium: &Medium, name: &str, base: u64) -> Result<Self, StoreError> {
        let file = medium.open(name)?;
        let mut header = [0; HEADER_BYTES];
        let count = file.read_at(&mut header, 0)?;
        if format::parse_header(&header[..count]) != Some(base) {
            return Err(StoreError::Corrupt(format!("the header of log segment {name}")));
        }
        let mut segment = Self {
            name: name.to_owned(),
            base,
            file,
            begin: 0,
            start: HashMap::new(),
            sealed: OnceLock::new(),
            index: Mutex::default(),
            condensed_to: AtomicU64::new(u64::MAX),
        };
        let (begin, start) = {
            let (mut scanner, mut replay) =
                (Scanner::new(&segment, u32::MAX, OPENING_BYTES), Replay::default());
            while !replay.begun {
                match scanner.next(&mut replay)? {
                    Scanned::Record(..) => {}
                    Scanned::End | Scanned::Bad(_) => {
                        return Err(StoreError::Corrupt(format!("the opening of log segment {name}")));
                    }
                }
            }
            (scanner.position, starts(replay.iter()))
        };
        (segment.begin, segment.start) = (begin, start);
        Ok(segment)
    }

    /// The same file, which is about to get this name.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The index of a sealed segment; made on the first call.
    pub(crate) fn index(&self) -> Result<Arc<Index>, StoreError> {
        let mut cached = self.index.lock();
        if let Some(index) = &*cached {
            return Ok(Arc::clone(index));
        }
        let sealed = *self.sealed.get().expect("only a sealed segment is asked for its index");
        let index = Arc::new(self.replay(sealed)?.index);
        *cached = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Nothing follows `length` any more; the index is known.
    pub(crate) fn seal(&self, length: u32, index: Index) {
        self.sealed.get_or_init(|| length);
        *self.index.lock() = Some(Arc::new(index));
    }

    /// Frees the index; it can be made again.
    pub(crate) fn drop_index(&self) {
        *self.index.lock() = None;
    }

    /// Reads every record that is whole, up to `length`, and notes the places between them that are damaged.
    pub(crate) fn replay(&self, length: u32) -> Result<Replayed, StoreError> {
        let (mut scanner, mut lanes) = (Scanner::new(self, length, WINDOW_BYTES), Replay::default());
        let (mut index, mut tried_bytes) = (Index::default(), 0);
        loop {
            let why = match scanner.next(&mut lanes)? {
                Scanned::Record(Kind::Event, lane, sequence, position) => {
                    index.add(lane, sequence, position);
                    continue;
                }
                Scanned::Record(..) => continue,
                Scanned::End => "records end",
                Scanned::Bad(why) => why,
            };
            let end = scanner.position;
            if index.places.len() < caps::LOG_DAMAGED_PLACES_MAX
                && let Some(next) = scanner.next_whole(&mut tried_bytes)?
            {
                lanes.lose(u64::from(next - end));
                index.damaged(end, next, why);
                scanner.position = next;
                continue;
            }
            if let Some(sealed) = self.sealed.get().filter(|sealed| end < **sealed) {
                index.damaged(end, *sealed, why);
            }
            let gave_up = index.places.len() >= caps::LOG_DAMAGED_PLACES_MAX
                || tried_bytes > caps::LOG_SALVAGE_BYTES_MAX;
            return Ok(Replayed { index, lanes, end, gave_up });
        }
    }
}

fn starts<'a>(lanes: impl Iterator<Item = &'a Lane>) -> HashMap<u32, Start> {
    let start = |lane: &Lane| Start { next_sequence: lane.next_sequence, last_time: lane.last_time };
    lanes.map(|lane| (lane.number, start(lane))).collect()
}

fn too_large(name: &str) -> StoreError {
    StoreError::Refused(format!("log segment {name} would pass 4 GiB"))
}
