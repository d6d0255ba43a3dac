//! Going through the bytes of one segment: record by record, and from a bad one to the next that is whole.

use base::caps;

use super::format::{self, Decoded, FRAME_BYTES, Frame, HEADER_BYTES, Kind, RECORD_BYTES_MIN};
use super::lane::Replay;
use super::medium::LogFile;
use super::segment::{Segment, WINDOW_BYTES};
use crate::error::StoreError;

/// Goes through a segment record by record.
pub(crate) struct Scanner<'a> {
    window: Window<'a>,
    base: u64,
    pub(crate) position: u32,
}

pub(crate) enum Scanned {
    /// Kind, lane, sequence number and position.
    Record(Kind, u32, u64, u32),
    End,
    Bad(&'static str),
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(segment: &'a Segment, length: u32, window_bytes: usize) -> Self {
        let window = Window::new(&segment.file, segment.base, length, window_bytes);
        Self { window, base: segment.base, position: u32::try_from(HEADER_BYTES).expect("20 bytes") }
    }

    /// Over bytes without a header; `base` is the position of the first in the whole log.
    pub(crate) fn over(file: &'a LogFile, base: u64) -> Self {
        Self { window: Window::new(file, base, u32::MAX, WINDOW_BYTES), base, position: 0 }
    }

    /// The record here, if it is whole; moves behind it.
    pub(crate) fn whole(&mut self) -> Result<Option<Frame<'_>>, StoreError> {
        let Decoded::Record(frame, length) = self.window.decode(self.position)? else { return Ok(None) };
        self.position += u32::try_from(length).expect("a record is far below 4 GiB");
        Ok(Some(frame))
    }

    pub(crate) fn next(&mut self, replay: &mut Replay) -> Result<Scanned, StoreError> {
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
        let length = match frame.kind {
            // Never back, whatever it says.
            Kind::Skip => frame.sequence.max(length as u64),
            _ => length as u64,
        };
        let next = u32::try_from(length).ok().and_then(|length| self.position.checked_add(length));
        let Some(next) = next else { return Ok(Scanned::Bad("more is skipped than a segment has")) };
        self.position = next;
        Ok(scanned)
    }

    /// Where the next whole record begins behind a bad one. A checksum covers the position of its record, so that one that holds
    /// is no chance. `tried_bytes` counts what was tried and bounds it.
    pub(crate) fn next_whole(&mut self, tried_bytes: &mut usize) -> Result<Option<u32>, StoreError> {
        // Mostly one record is damaged, and not in its length.
        if let Some(length) = self.window.record_len(self.position)?
            && let Some(behind) =
                u32::try_from(length).ok().and_then(|length| self.position.checked_add(length))
            && self.is_whole(behind, tried_bytes)?
        {
            return Ok(Some(behind));
        }
        let mut position = self.position.saturating_add(1);
        while *tried_bytes <= caps::LOG_SALVAGE_BYTES_MAX {
            let bytes = self.window.view(position, RECORD_BYTES_MIN)?;
            let Some(last) = bytes.len().checked_sub(RECORD_BYTES_MIN) else { return Ok(None) };
            let may_begin = |at: &usize| format::may_begin_record(&bytes[*at..]);
            let found = if bytes[0] == 0 && is_zero(bytes, tried_bytes) {
                // A file that was made longer ahead has many megabytes of them.
                None
            } else {
                (0..=last).find(may_begin)
            };
            let (skip, found) = (found.unwrap_or(last + 1), found.is_some());
            position += u32::try_from(skip).expect("a window is far below 4 GiB");
            if found && self.is_whole(position, tried_bytes)? {
                return Ok(Some(position));
            }
            position = position.saturating_add(u32::from(found));
        }
        Ok(None)
    }

    fn is_whole(&mut self, position: u32, tried_bytes: &mut usize) -> Result<bool, StoreError> {
        *tried_bytes += self.window.record_len(position)?.unwrap_or(0);
        Ok(matches!(self.window.decode(position)?, Decoded::Record(..)))
    }
}

fn is_zero(bytes: &[u8], tried_bytes: &mut usize) -> bool {
    *tried_bytes += bytes.len();
    // Without a way out in between, which makes it many times faster.
    bytes.iter().fold(0, |sum, byte| sum | byte) == 0
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

    /// The length that the record at `position` claims, if it is a possible one.
    fn record_len(&mut self, position: u32) -> Result<Option<usize>, StoreError> {
        Ok(format::record_len(self.view(position, FRAME_BYTES)?))
    }

    /// What is in memory from `position` on: `needed` bytes, or as many as the file has, or more.
    fn view(&mut self, position: u32, needed: usize) -> Result<&[u8], StoreError> {
        self.hold(position, needed)?;
        Ok(&self.bytes[self.held(position)..])
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
