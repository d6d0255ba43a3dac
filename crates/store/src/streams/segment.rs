//! One segment file: its header, the lanes at its start, and an index of its events that is made when first needed.
//! A sealed segment never changes again. Reading never trusts a byte whose checksum was not checked.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use base::Timestamp;
use parking_lot::Mutex;

use super::format::{self, Decoded, FRAME_BYTES, Frame, HEADER_BYTES, Kind};
use super::lane::{Lane, Lanes, Replay};
use super::medium::{LogFile, Medium};
use crate::error::StoreError;

const SUFFIX: &str = ".log";
/// A segment that is being made; it gets its name only once its opening is durable.
pub(crate) const UNFINISHED: &str = "unfinished";
/// Read from a file in one go.
pub(crate) const WINDOW_BYTES: usize = 256 * 1024;
/// The same, where only the opening of a segment is wanted.
const OPENING_BYTES: usize = 8 * 1024;

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
}

#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) next_sequence: u64,
    pub(crate) last_time: Timestamp,
}

/// Where each lane's events lie within the segment: 4 bytes an event.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) lanes: HashMap<u32, LaneIndex>,
    /// Where a sealed segment stops making sense.
    pub(crate) damage: Option<String>,
}

#[derive(Default)]
pub(crate) struct LaneIndex {
    pub(crate) first_sequence: u64,
    pub(crate) positions: Vec<u32>,
}

impl Index {
    pub(crate) fn add(&mut self, lane: u32, sequence: u64, position: u32) {
        let new = || LaneIndex { first_sequence: sequence, positions: Vec::new() };
        self.lanes.entry(lane).or_insert_with(new).positions.push(position);
    }
}

impl LaneIndex {
    /// Positions of the events from `sequence` on, at most `count`.
    pub(crate) fn from(&self, sequence: u64, count: usize) -> &[u32] {
        let skipped = usize::try_from(sequence.saturating_sub(self.first_sequence)).unwrap_or(usize::MAX);
        let rest = self.positions.get(skipped..).unwrap_or_default();
        &rest[..rest.len().min(count)]
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
    let begin = Frame {
        kind: Kind::Begin,
        lane: 0,
        sequence: count,
        time: Timestamp::UNIX_EPOCH,
        origin: None,
        key: &[],
        headers: &[],
        body: &lanes.next_number.to_le_bytes(),
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

    /// The index of a sealed segment; made on the first call.
    pub(crate) fn index(&self) -> Result<Arc<Index>, StoreError> {
        let mut cached = self.index.lock();
        if let Some(index) = &*cached {
            return Ok(Arc::clone(index));
        }
        let sealed = *self.sealed.get().expect("only a sealed segment is asked for its index");
        let (index, _, _) = self.replay(sealed)?;
        let index = Arc::new(index);
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

    /// Reads records from the start up to `length` or the first bad one: index, lanes, and where it stopped.
    pub(crate) fn replay(&self, length: u32) -> Result<(Index, Replay, u32), StoreError> {
        let (mut scanner, mut replay) = (Scanner::new(self, length, WINDOW_BYTES), Replay::default());
        let mut index = Index::default();
        loop {
            match scanner.next(&mut replay)? {
                Scanned::Record(Kind::Event, lane, sequence, position) => index.add(lane, sequence, position),
                Scanned::Record(..) => {}
                Scanned::End if scanner.position < length && self.sealed.get().is_some() => {
                    index.damage = Some(format!("{} ends at {}", self.name, scanner.position));
                    break;
                }
                Scanned::End => break,
                Scanned::Bad(why) => {
                    index.damage = Some(format!("{} at {}: {why}", self.name, scanner.position));
                    break;
                }
            }
        }
        Ok((index, replay, scanner.position))
    }
}

fn starts<'a>(lanes: impl Iterator<Item = &'a Lane>) -> HashMap<u32, Start> {
    let start = |lane: &Lane| Start { next_sequence: lane.next_sequence, last_time: lane.last_time };
    lanes.map(|lane| (lane.number, start(lane))).collect()
}

fn too_large(name: &str) -> StoreError {
    StoreError::Refused(format!("log segment {name} would pass 4 GiB"))
}

/// Goes through a segment record by record.
struct Scanner<'a> {
    window: Window<'a>,
    base: u64,
    position: u32,
}

enum Scanned {
    /// Kind, lane, sequence number and position.
    Record(Kind, u32, u64, u32),
    End,
    Bad(&'static str),
}

impl<'a> Scanner<'a> {
    fn new(segment: &'a Segment, length: u32, window_bytes: usize) -> Self {
        let window = Window::new(&segment.file, segment.base, length, window_bytes);
        Self { window, base: segment.base, position: u32::try_from(HEADER_BYTES).expect("20 bytes") }
    }

    fn next(&mut self, replay: &mut Replay) -> Result<Scanned, StoreError> {
        let (frame, length) = match self.window.decode(self.position)? {
            Decoded::Record(frame, length) => (frame, length),
            Decoded::Nothing => return Ok(Scanned::End),
            Decoded::Incomplete(_) => return Ok(Scanned::Bad("the file ends within a record")),
            Decoded::Bad(why) => return Ok(Scanned::Bad(why)),
        };
        if let Err(why) = replay.apply(&frame, self.base + u64::from(self.position)) {
            return Ok(Scanned::Bad(why));
        }
        let scanned = Scanned::Record(frame.kind, frame.lane, frame.sequence, self.position);
        let next = u32::try_from(length).ok().and_then(|length| self.position.checked_add(length));
        self.position = next.expect("a segment is shorter than 4 GiB");
        Ok(scanned)
    }
}

/// A stretch of a file in memory, moved as records are asked for.
pub(crate) struct Window<'a> {
    file: &'a LogFile,
    base: u64,
    /// No byte from here on is looked at.
    length: u32,
    /// Read at once.
    stretch_bytes: usize,
    start: u32,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a LogFile, base: u64, length: u32, stretch_bytes: usize) -> Self {
        Self { file, base, length, stretch_bytes, start: 0, bytes: Vec::new() }
    }

    /// The record at `position` of the file.
    pub(crate) fn decode(&mut self, position: u32) -> Result<Decoded<'_>, StoreError> {
        self.hold(position, FRAME_BYTES)?;
        if let Some(length) = format::record_len(&self.bytes[self.held(position)..]) {
            self.hold(position, length)?;
        }
        Ok(format::decode(&self.bytes[self.held(position)..], self.base + u64::from(position)))
    }

    /// Has `needed` bytes from `position` on in memory, or as many as the file has.
    fn hold(&mut self, position: u32, needed: usize) -> Result<(), StoreError> {
        if self.bytes.len() - self.held(position) >= needed {
            return Ok(());
        }
        let left = self.length.saturating_sub(position) as usize;
        self.bytes.resize(needed.max(self.stretch_bytes).min(left), 0);
        let count = self.file.read_at(&mut self.bytes, u64::from(position))?;
        self.bytes.truncate(count);
        self.start = position;
        Ok(())
    }

    /// Where `position` lies in the held bytes; their end when it lies outside.
    fn held(&self, position: u32) -> usize {
        match position.checked_sub(self.start) {
            Some(skip) if (skip as usize) < self.bytes.len() => skip as usize,
            _ => self.bytes.len(),
        }
    }
}
