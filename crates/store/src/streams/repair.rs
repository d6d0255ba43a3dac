//! What `twinhub log check` and `log repair` do with the log of a server that does not run: read all of it, name what is damaged,
//! and mend what can be mended. A check changes nothing; a repair keeps what it changes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;

use super::appender::{Change, Request, Settings};
use super::format::{Decoded, Frame, Kind, Origin};
use super::lane::{Lane, Lanes, Partition};
use super::medium::{LogFile, Medium};
use super::scan::{Scanner, Window};
use super::segment::{self, Segment, WINDOW_BYTES};
use super::{NewRecord, SegmentedLog, open};
use crate::directory_lock::DirectoryLock;
use crate::error::StoreError;
use crate::report::Report;

/// Behind the name of a file whose events were read back.
const READ_BACK: &str = ".read-back";
/// Behind the name of a copy of a segment that was changed.
const BEFORE: &str = ".before-repair";
/// Events that are appended at once.
const STEP: usize = 500;

/// Reads the whole log of a data directory without changing it.
pub fn check_log(directory: &Path) -> Result<Report, StoreError> {
    let (medium, _lock) = existing(directory)?;
    check(&medium)
}

/// Mends what can be mended of the log of a data directory.
pub fn repair_log(directory: &Path) -> Result<Report, StoreError> {
    let (medium, lock) = existing(directory)?;
    repair(&medium, super::settings(true), Some(lock))
}

fn existing(directory: &Path) -> Result<(Medium, DirectoryLock), StoreError> {
    let log = directory.join("log");
    if !log.is_dir() {
        return Err(StoreError::Unavailable(format!("there is no log in {}", directory.display())));
    }
    let lock = DirectoryLock::take(&log)?;
    Ok((Medium::directory(log), lock))
}

/// A segment file; `None` where its opening is damaged.
struct Listed {
    name: String,
    base: u64,
    segment: Option<Segment>,
}

fn list(medium: &Medium) -> Result<Vec<Listed>, StoreError> {
    let mut listed: Vec<Listed> = Vec::new();
    // Twenty digits: the order of the names is that of the bases.
    for name in medium.list()? {
        let Some(base) = segment::base_of(&name) else { continue };
        let segment = match Segment::open(medium, &name, base) {
            Ok(segment) => Some(segment),
            Err(StoreError::Corrupt(_)) => None,
            Err(error) => return Err(error),
        };
        if let Some(Listed { segment: Some(before), base: start, .. }) = listed.last() {
            before.sealed.get_or_init(|| u32::try_from(base - start).unwrap_or(u32::MAX));
        }
        listed.push(Listed { name, base, segment });
    }
    Ok(listed)
}

pub(super) fn check(medium: &Medium) -> Result<Report, StoreError> {
    let listed = list(medium)?;
    let mut report = Report { is_sound: true, lines: Vec::new() };
    let lanes = end_of_log(&listed, &mut report)?;
    tell_missing_start(&listed, &lanes, &mut report);
    let mut events = 0;
    for (at, Listed { name, segment, .. }) in listed.iter().enumerate() {
        let Some(segment) = segment else {
            report.is_sound = false;
            report.lines.push(format!(
                "{name}: its opening is damaged, so no server starts; try `twinhub log repair`"
            ));
            continue;
        };
        let index = segment.replay(segment.sealed.get().copied().unwrap_or(u32::MAX))?.index;
        events +=
            index.lanes.values().flat_map(|lane| &lane.runs).map(|run| run.positions.len()).sum::<usize>();
        for place in &index.places {
            report.is_sound = false;
            let bytes = place.to - place.from;
            report.lines.push(format!("{name} at {}: {bytes} bytes are damaged ({})", place.from, place.why));
        }
        for lane in lanes.iter() {
            let end = match listed.get(at + 1) {
                None => Some(lane.next_sequence),
                Some(next) => {
                    next.segment.as_ref().and_then(|next| Some(next.start.get(&lane.number)?.next_sequence))
                }
            };
            let start = segment.start.get(&lane.number).map_or(0, |start| start.next_sequence);
            let gaps = index.gaps(lane.number, start.max(lane.first_sequence), end.unwrap_or(0));
            report.lines.extend(gaps.iter().map(|gap| format!("{name}: {}", lost(lane, gap.start, gap.end))));
        }
    }
    for (name, file, base) in cut_files(medium)? {
        let found =
            whole_records(&file, base)?.into_iter().filter(|record| record.kind == Kind::Event).count();
        if found > 0 {
            report.is_sound = false;
            report
                .lines
                .push(format!("{name}: {found} events were cut off; `twinhub log repair` reads them back"));
        }
    }
    report.lines.push(format!("{} segments and {events} events were read.", listed.len()));
    Ok(report)
}

fn lost(lane: &Lane, start: u64, end: u64) -> String {
    let (stream, partition, last) = (&lane.stream, lane.partition, end - 1);
    format!("cannot read records {start} to {last} of {stream}, partition {partition}")
}

/// The lanes as the next start will have them.
fn end_of_log(listed: &[Listed], report: &mut Report) -> Result<Lanes, StoreError> {
    let Some(Listed { segment: Some(segment), name, .. }) = listed.last() else {
        return Ok(Lanes::default());
    };
    let mut replayed = segment.replay(u32::MAX)?;
    let tail = open::read_tail(&segment.file, replayed.end)?.len();
    if replayed.is_damaged() {
        replayed.lanes.lose(tail as u64);
    } else if tail > 0 {
        report.lines.push(format!(
            "{name}: the last {tail} bytes are no records, as after a crash; the next start cuts them off"
        ));
    }
    Ok(replayed.lanes.into_lanes())
}

fn tell_missing_start(listed: &[Listed], lanes: &Lanes, report: &mut Report) {
    let Some(Listed { segment: Some(first), name, .. }) = listed.first() else { return };
    for lane in lanes.iter() {
        let start = first.start.get(&lane.number).map_or(0, |start| start.next_sequence);
        if lane.first_sequence < start {
            report.is_sound = false;
            let lost = lost(lane, lane.first_sequence, start);
            report.lines.push(format!("{name}: the segment before it is gone, {lost}"));
        }
    }
}

/// What recovery cut off: names, files, and the position of their first byte in the log.
fn cut_files(medium: &Medium) -> Result<Vec<(String, LogFile, u64)>, StoreError> {
    let mut files = Vec::new();
    for name in medium.list()? {
        let Some((segment, place)) = name.split_once(".cut-") else { continue };
        let (Some(base), Ok(place)) = (segment::base_of(segment), place.parse::<u32>()) else { continue };
        let file = medium.open(&name)?;
        files.push((name, file, base + u64::from(place)));
    }
    Ok(files)
}

/// A record that is whole, wherever it lies.
struct Found {
    kind: Kind,
    lane: u32,
    /// The stream and partition that a declaration names.
    declares: Option<Partition>,
    record: NewRecord,
}

fn whole_records(file: &LogFile, base: u64) -> Result<Vec<Found>, StoreError> {
    let (mut scanner, mut found, mut tried_bytes) = (Scanner::over(file, base), Vec::new(), 0);
    loop {
        match scanner.whole()? {
            Some(frame) => found.push(Found::of(&frame)),
            None => match scanner.next_whole(&mut tried_bytes)? {
                Some(next) => scanner.position = next,
                None => return Ok(found),
            },
        }
    }
}

impl Found {
    fn of(frame: &Frame) -> Self {
        let declares = Lane::decode(frame).filter(|_| frame.kind == Kind::Lane);
        let record = NewRecord {
            time: frame.time,
            key: String::from_utf8_lossy(frame.key).into_owned(),
            headers: Bytes::copy_from_slice(frame.headers),
            body: Bytes::copy_from_slice(frame.body),
        };
        let declares = declares.map(|lane| (lane.stream, lane.partition));
        Self { kind: frame.kind, lane: frame.lane, declares, record }
    }
}

pub(super) fn repair(
    medium: &Medium,
    settings: Settings,
    lock: Option<DirectoryLock>,
) -> Result<Report, StoreError> {
    let mut report = Report { is_sound: true, lines: Vec::new() };
    let listed = list(medium)?;
    for pair in listed.windows(2) {
        if pair[1].segment.is_none() {
            report.lines.push(mend_opening(medium, &pair[0], &pair[1])?);
        }
    }
    if let Some(Listed { segment: None, name, .. }) = listed.first() {
        report.lines.push(format!("{name}: nothing tells what its opening held; restore a backup"));
    }
    // Recovers as a start does, and fails as one where an opening is still damaged.
    let streams = SegmentedLog::open(medium.clone(), settings, lock)?;
    for (name, file, base) in cut_files(medium)? {
        if let Some(line) = read_back(&streams, &name, &whole_records(&file, base)?)? {
            report.lines.push(line);
            medium.rename(&name, &format!("{name}{READ_BACK}"))?;
            medium.sync_names()?;
        }
    }
    drop(streams);
    if report.lines.is_empty() {
        report.lines.push("There is nothing to repair.".into());
    }
    // What is damaged and cannot be mended stays: it is told, and stands in nobody's way.
    report.lines.extend(check(medium)?.lines);
    Ok(report)
}

/// Makes the opening of a segment anew: it says what the segment before it comes to.
fn mend_opening(medium: &Medium, before: &Listed, damaged: &Listed) -> Result<String, StoreError> {
    let name = &damaged.name;
    let cannot =
        |why: &str| Ok(format!("{name}: its opening cannot be made anew, for {why}; restore a backup"));
    let Some(segment) = &before.segment else {
        return cannot("that of the segment before it is damaged too");
    };
    let replayed = segment.replay(segment.sealed.get().copied().unwrap_or(u32::MAX))?;
    let is_whole = replayed.lanes.is_complete() && u64::from(replayed.end) == damaged.base - before.base;
    if replayed.is_damaged() || !is_whole {
        return cannot("the segment before it is damaged too, or has forgotten some of its records");
    }
    let opening = segment::opening(damaged.base, &replayed.lanes.into_lanes());
    let (file, end) = (medium.open(name)?, u32::try_from(opening.len()).expect("an opening was a file's"));
    let follows = matches!(
        Window::new(&file, damaged.base, u32::MAX, WINDOW_BYTES).decode(end)?,
        Decoded::Record(..) | Decoded::Nothing
    );
    if !follows {
        return cannot("what follows it is damaged too");
    }
    let copy = format!("{name}{BEFORE}");
    medium.copy(name, &copy)?;
    file.write_at(&opening, 0)?;
    file.sync()?;
    Ok(format!("{name}: its opening was damaged and was made anew; the file as it was is {copy}"))
}

/// Appends the events of a cut file once more, with new numbers: those they had may have been given to others since. Nothing when
/// it holds none.
fn read_back(streams: &SegmentedLog, name: &str, found: &[Found]) -> Result<Option<String>, StoreError> {
    let mut names: HashMap<u32, Partition> = HashMap::new();
    for lane in streams.log.state.read().lanes.iter() {
        names.insert(lane.number, (lane.stream.clone(), lane.partition));
    }
    // A lane that was declared among what was cut off may have lost its number to another one since.
    names.extend(found.iter().filter_map(|record| Some((record.lane, record.declares.clone()?))));
    let events = found.iter().filter(|record| record.kind == Kind::Event);
    let mut by_partition: HashMap<Partition, Vec<(u64, &Found)>> = HashMap::new();
    let (mut appended, mut homeless) = (0, 0);
    for (number, event) in (1..).zip(events) {
        match names.get(&event.lane) {
            Some(partition) => by_partition.entry(partition.clone()).or_default().push((number, event)),
            None => homeless += 1,
        }
    }
    // A repair that is repeated after a crash appends nothing twice.
    let source = u64::from(crc32c::crc32c(name.as_bytes()));
    for (partition, events) in by_partition {
        for step in events.chunks(STEP) {
            match append(streams, &partition, source, step) {
                Ok(()) => appended += step.len(),
                Err(StoreError::NoStream(_)) => homeless += step.len(),
                Err(error) => return Err(error),
            }
        }
    }
    let line = format!(
        "{name}: {appended} events were read back behind the others; {homeless} are of streams that are gone"
    );
    Ok((appended + homeless > 0).then_some(line))
}

fn append(
    streams: &SegmentedLog,
    partition: &Partition,
    source: u64,
    events: &[(u64, &Found)],
) -> Result<(), StoreError> {
    let records = events.iter().map(|(_, event)| event.record.clone()).collect();
    let origins = events.iter().map(|(number, _)| Origin { source, id: *number }).collect();
    let change = Change::Append { partition: partition.clone(), records, origins: Some(origins) };
    let (answer, answered) = mpsc::sync_channel(1);
    let callback = Box::new(move |result| drop(answer.send(result)));
    streams.queue.push(Request { change, callback }).map_err(|rejected| rejected.1)?;
    answered.recv().unwrap_or(Err(StoreError::Closed)).map(drop)
}
