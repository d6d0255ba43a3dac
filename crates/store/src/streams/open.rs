//! From files to a log that can be appended to. The last segment is read whole. Bytes at its end behind which nothing is whole
//! are what a crash tears of a write that was not acknowledged, and are cut off. Whole records behind bad ones prove damage:
//! then it is sealed as it lies, and the log goes on in another. Every other segment was sealed and is not changed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condense::CONDENSED;
use super::housekeeper::SPARE;
use super::index::Index;
use super::lane::Lanes;
use super::log::Log;
use super::medium::{LogFile, Medium};
use super::segment::{self, Replayed, Segment, UNFINISHED};
use crate::error::StoreError;

/// The log and the good length of its last segment.
pub(crate) fn open(medium: Medium) -> Result<(Log, u32), StoreError> {
    for leftover in [SPARE, UNFINISHED, CONDENSED] {
        if medium.list()?.iter().any(|name| name == leftover) {
            medium.remove(leftover)?;
        }
    }
    let names: BTreeMap<u64, String> =
        medium.list()?.into_iter().filter_map(|name| Some((segment::base_of(&name)?, name))).collect();
    let mut segments = Vec::new();
    for (base, name) in &names {
        segments.push(Segment::open(&medium, name, *base)?);
    }
    seal_all_but_last(&segments)?;
    let Some(last) = segments.last() else {
        let first = Segment::create(&medium, 0, &Lanes::default(), None)?;
        let end = first.begin;
        return Ok((Log::new(medium, Lanes::default(), vec![Arc::new(first)], Index::default()), end));
    };
    let replayed = last.replay(u32::MAX)?;
    if replayed.is_damaged() {
        return go_on_behind_damage(medium, segments, replayed);
    }
    cut_tail(&medium, last, replayed.end)?;
    let segments = segments.into_iter().map(Arc::new).collect();
    Ok((Log::new(medium, replayed.lanes.into_lanes(), segments, replayed.index), replayed.end))
}

/// Seals the last segment with everything in it and begins another, whose opening says from which numbers on nothing was given
/// out. A crash in between changes nothing: the next start finds the same.
fn go_on_behind_damage(
    medium: Medium,
    segments: Vec<Segment>,
    replayed: Replayed,
) -> Result<(Log, u32), StoreError> {
    let last = segments.last().expect("the caller replayed it");
    let Replayed { mut lanes, end, .. } = replayed;
    let tail = u32::try_from(read_tail(&last.file, end)?.len()).expect("a segment is below 4 GiB");
    lanes.lose(u64::from(tail));
    let (lanes, length) = (lanes.into_lanes(), end + tail);
    last.sealed.get_or_init(|| length);
    last.file.set_len(u64::from(length))?;
    last.file.sync()?;
    let next = Segment::create(&medium, last.base + u64::from(length), &lanes, None)?;
    let begin = next.begin;
    let segments: Vec<_> = segments.into_iter().chain([next]).map(Arc::new).collect();
    let log = Log::new(medium, lanes, segments.clone(), Index::default());
    // Reads the segment once more, now that its end is known, and tells what is lost.
    log.index(&segments[segments.len() - 2])?;
    Ok((log, begin))
}

/// A segment ends where the next one begins, whatever the length of its file. Missing bytes are told to whoever reads them;
/// the rest of the log works on.
fn seal_all_but_last(segments: &[Segment]) -> Result<(), StoreError> {
    for pair in segments.windows(2) {
        let (segment, next) = (&pair[0], &pair[1]);
        let (length, expected) = (segment.file.len()?, next.base - segment.base);
        if length < expected {
            tracing::error!(
                segment = segment.name,
                length,
                expected,
                "a sealed log segment is shorter than it was"
            );
        }
        let length = u32::try_from(expected).or_else(|_| u32::try_from(length));
        segment.sealed.get_or_init(|| length.unwrap_or(u32::MAX));
    }
    Ok(())
}

/// Frees the end of the last segment from bytes that are no records. What is cut is put beside the log, not destroyed.
fn cut_tail(medium: &Medium, last: &Segment, end: u32) -> Result<(), StoreError> {
    let tail = read_tail(&last.file, end)?;
    if tail.is_empty() {
        return Ok(());
    }
    let name = format!("{}.cut-{end}", last.name);
    tracing::warn!(
        bytes = tail.len(),
        saved = name,
        "the log ended in bytes that are no records, as after a crash; they were cut off"
    );
    let copy = medium.create(&name)?;
    copy.write_at(&tail, 0)?;
    copy.sync()?;
    last.file.set_len(u64::from(end))?;
    last.file.sync()?;
    Ok(())
}

/// What follows `end` without its trailing zeros.
pub(crate) fn read_tail(file: &LogFile, end: u32) -> Result<Vec<u8>, StoreError> {
    const CHUNK: usize = 1024 * 1024;
    let (mut tail, mut kept) = (Vec::new(), 0);
    let mut chunk = vec![0; CHUNK];
    let mut position = u64::from(end);
    loop {
        let count = file.read_at(&mut chunk, position)?;
        if count == 0 {
            break;
        }
        if let Some(last) = chunk[..count].iter().rposition(|byte| *byte != 0) {
            tail.resize(usize::try_from(position - u64::from(end)).unwrap_or(0), 0);
            tail.extend_from_slice(&chunk[..=last]);
            kept = tail.len();
        }
        position += count as u64;
    }
    tail.truncate(kept);
    Ok(tail)
}
