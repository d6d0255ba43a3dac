//! Gives back the space of forgotten records within a segment that others keep: the segment is written once more, with holes.
//! Positions stay what they are, and every byte that is kept stays as it was. Called by the housekeeper alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::{Timestamp, caps};

use super::format::{Frame, HEADER_BYTES, Kind};
use super::index::Index;
use super::lane::Replay;
use super::log::Log;
use super::medium::LogFile;
use super::scan::{Scanned, Scanner};
use super::segment::{Segment, WINDOW_BYTES};
use crate::error::StoreError;

/// A segment that is being written once more; it gets its name only once it is durable and was read again.
pub(crate) const CONDENSED: &str = "condensed";

/// Does nothing for a segment that is damaged, or gone.
pub(crate) fn condense(log: &Log, segment: &Arc<Segment>) -> Result<(), StoreError> {
    let Some(kept) = log.kept_of(segment) else { return Ok(()) };
    let Some(&length) = segment.sealed.get() else { return Ok(()) };
    let Some((holes, there)) = holes(segment, length, &kept)? else { return Ok(()) };
    // After a restart nobody knows what was condensed before.
    let given_back = holes.iter().map(|hole| hole.to - hole.from).sum::<u32>();
    if given_back.saturating_sub(there) < caps::LOG_HOLE_BYTES_MIN {
        return Ok(());
    }
    let file = log.medium.create(CONDENSED)?;
    let mut position = 0;
    for hole in &holes {
        copy(&segment.file, &file, position, hole.from)?;
        file.write_at(&hole.marker(segment.base), u64::from(hole.from))?;
        position = hole.to;
    }
    copy(&segment.file, &file, position, length)?;
    file.set_len(u64::from(length))?;
    file.sync()?;
    let new = Segment::open(&log.medium, CONDENSED, segment.base)?.named(&segment.name);
    new.sealed.get_or_init(|| length);
    new.condensed_to.store(segment.condensed_to.load(Ordering::Relaxed), Ordering::Relaxed);
    // Nothing replaces a segment that was not seen to hold all that it should.
    let (before, after) = (segment.replay(length)?.index, new.replay(length)?.index);
    if !after.places.is_empty() || events(&before, &kept) != events(&after, &kept) {
        return Err(StoreError::Corrupt(format!("the condensed form of log segment {}", segment.name)));
    }
    log.medium.rename(CONDENSED, &segment.name)?;
    log.medium.sync_names()?;
    log.replace(segment, Arc::new(new));
    Ok(())
}

struct Hole {
    from: u32,
    to: u32,
}

impl Hole {
    fn marker(&self, base: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let skip = Frame {
            kind: Kind::Skip,
            lane: 0,
            sequence: u64::from(self.to - self.from),
            time: Timestamp::UNIX_EPOCH,
            origin: None,
            key: &[],
            headers: &[],
            body: &[],
        };
        skip.encode(base + u64::from(self.from), &mut bytes);
        bytes
    }
}

/// Where nothing but forgotten events lies for long enough, and how many bytes of that are holes by now. `None` for a damaged segment,
/// which stays as it is.
fn holes(
    segment: &Segment,
    length: u32,
    kept: &HashMap<u32, u64>,
) -> Result<Option<(Vec<Hole>, u32)>, StoreError> {
    let (mut scanner, mut replay) = (Scanner::new(segment, length, WINDOW_BYTES), Replay::default());
    let (mut holes, mut there) = (Vec::new(), 0);
    let mut from = u32::try_from(HEADER_BYTES).expect("20 bytes");
    loop {
        let forgotten = match scanner.next(&mut replay)? {
            Scanned::Record(Kind::Event, lane, sequence, _) => {
                kept.get(&lane).is_none_or(|first_sequence| sequence < *first_sequence)
            }
            Scanned::Record(Kind::Skip, _, _, position) => {
                there += scanner.position - position;
                true
            }
            Scanned::Record(..) => false,
            Scanned::End if scanner.position == length => return Ok(Some((holes, there))),
            _ => return Ok(None),
        };
        if !forgotten {
            from = scanner.position;
        } else if scanner.position - from >= caps::LOG_HOLE_BYTES_MIN {
            holes.pop_if(|hole: &mut Hole| hole.from == from);
            holes.push(Hole { from, to: scanner.position });
        }
    }
}

/// Copies the bytes from one position to another.
fn copy(from: &LogFile, to: &LogFile, start: u32, end: u32) -> Result<(), StoreError> {
    let mut chunk = vec![0; WINDOW_BYTES];
    let (mut position, end) = (u64::from(start), u64::from(end));
    while position < end {
        let wanted = usize::try_from(end - position).unwrap_or(usize::MAX).min(chunk.len());
        let count = from.read_at(&mut chunk[..wanted], position)?;
        if count == 0 {
            return Err(StoreError::Corrupt("a log segment is shorter than it was".into()));
        }
        to.write_at(&chunk[..count], position)?;
        position += count as u64;
    }
    Ok(())
}

/// Where the kept events lie.
fn events(index: &Index, kept: &HashMap<u32, u64>) -> Vec<(u32, u64, u32)> {
    let mut events = Vec::new();
    for (lane, first_sequence) in kept {
        for run in index.lanes.get(lane).iter().flat_map(|lane| &lane.runs) {
            let numbered = (run.first_sequence..).zip(&run.positions);
            let of_lane = numbered.filter(|(sequence, _)| sequence >= first_sequence);
            events.extend(of_lane.map(|(sequence, position)| (*lane, sequence, *position)));
        }
    }
    events.sort_unstable();
    events
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::InstanceId;
    use bytes::Bytes;

    use super::super::appender::Settings;
    use super::super::medium::{Medium, Memory};
    use super::super::{LogRecord, NewRecord, Position, StreamId, Streams, repair};
    use super::*;

    const SETTINGS: Settings = Settings { segment_bytes: 1024 * 1024, sync: false };
    const COUNT: i64 = 3000;

    fn id(name: &str) -> StreamId {
        StreamId::new(&InstanceId::from_stored("hub"), name)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    /// Three thousand records of a kilobyte, and one of another stream among every three hundred of them.
    async fn filled(medium: &Medium) -> Streams {
        let streams = Streams::open_at(medium.clone(), SETTINGS, None).unwrap();
        for name in ["busy", "quiet"] {
            streams.ensure(&id(name), 1).await.unwrap();
        }
        for second in 0..COUNT {
            let record = |body: String| NewRecord {
                time: at(second),
                key: "dev1".into(),
                headers: Bytes::new(),
                body: body.into(),
            };
            streams.append(&id("busy"), 0, vec![record("x".repeat(1000))]).await.unwrap();
            if second % 300 == 0 {
                streams.append(&id("quiet"), 0, vec![record(second.to_string())]).await.unwrap();
            }
        }
        streams
    }

    async fn read(streams: &Streams, name: &str, from: Position) -> Vec<LogRecord> {
        streams.read(&id(name), 0, from, 5000).await.unwrap()
    }

    async fn condensed(streams: &Streams) {
        streams.trim(&id("busy"), at(COUNT - 100)).await.unwrap();
        while let Some(segment) = streams.log().next_to_condense() {
            condense(streams.log(), &segment).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_found_as_before_and_what_is_forgotten_is_holes() {
        let memory = Arc::new(Memory::default());
        let medium = Medium::Memory(Arc::clone(&memory));
        let streams = filled(&medium).await;
        let quiet = read(&streams, "quiet", Position::Earliest).await;
        let before = memory.image();
        condensed(&streams).await;
        let busy = read(&streams, "busy", Position::Earliest).await;
        assert_eq!((quiet.len(), busy.len()), (10, 100));
        drop(streams);
        let after = memory.image();
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        let first = after.values().next().unwrap();
        let zeros: usize = first.iter().map(|byte| usize::from(*byte == 0)).sum();
        assert!(zeros > first.len() * 9 / 10, "{zeros} of {}", first.len());
        let streams = Streams::open_at(medium.clone(), SETTINGS, None).unwrap();
        assert_eq!(read(&streams, "quiet", Position::Earliest).await, quiet);
        assert_eq!(read(&streams, "busy", Position::Sequence(0)).await, busy);
        for record in &quiet {
            for from in [
                Position::Sequence(record.sequence),
                Position::Offset(record.offset),
                Position::Time(record.time),
            ] {
                assert_eq!(read(&streams, "quiet", from).await.first(), Some(record), "{from:?}");
            }
        }
        // What has its holes is not written once more.
        let segments = streams.log().state.read().segments.clone();
        condensed(&streams).await;
        let same = |(old, new): (&Arc<Segment>, &Arc<Segment>)| Arc::ptr_eq(old, new);
        assert!(segments.iter().zip(&streams.log().state.read().segments).all(same));
        // More is forgotten later, and the whole segment in the end.
        streams.trim(&id("quiet"), at(1000)).await.unwrap();
        assert!(streams.log().state.read().segments.len() < after.len());
        assert_eq!(read(&streams, "quiet", Position::Earliest).await, quiet[4..]);
        drop(streams);
        let report = repair::check(&medium).unwrap();
        assert!(report.is_sound, "{report:?}");
    }

    #[tokio::test]
    async fn damage_to_a_mark_of_what_is_skipped_costs_no_event() {
        let memory = Arc::new(Memory::default());
        let streams = filled(&Medium::Memory(Arc::clone(&memory))).await;
        let quiet = read(&streams, "quiet", Position::Earliest).await;
        condensed(&streams).await;
        let segment = Arc::clone(&streams.log().state.read().segments[0]);
        let length = *segment.sealed.get().unwrap();
        let (mut scanner, mut replay) = (Scanner::new(&segment, length, WINDOW_BYTES), Replay::default());
        let mark = loop {
            if let Scanned::Record(Kind::Skip, _, _, position) = scanner.next(&mut replay).unwrap() {
                break position as usize;
            }
        };
        drop(streams);
        for byte in mark..mark + 36 {
            let mut image = memory.image();
            image.values_mut().next().unwrap()[byte] ^= 0x21;
            let medium = Medium::Memory(Memory::from_image(&image));
            let streams = Streams::open_at(medium, SETTINGS, None).unwrap();
            assert_eq!(read(&streams, "quiet", Position::Earliest).await, quiet);
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn trims_give_space_back_although_another_stream_keeps_every_segment() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let medium = Medium::directory(directory.path().to_owned());
        let streams = filled(&medium).await;
        let quiet = read(&streams, "quiet", Position::Earliest).await;
        let used = || -> u64 {
            let files = std::fs::read_dir(directory.path()).unwrap();
            files.filter_map(|file| file.unwrap().metadata().ok()).map(|file| file.blocks() * 512).sum()
        };
        let (before, mut second) = (used(), COUNT - 500);
        let given_back = async {
            while used() > before / 2 {
                streams.trim(&id("busy"), at(second)).await.unwrap();
                second = (second + 1).min(COUNT);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), given_back).await.expect("the space comes back");
        assert_eq!(read(&streams, "quiet", Position::Earliest).await, quiet);
        drop(streams);
        // A crash may leave one half made.
        std::fs::write(directory.path().join(CONDENSED), b"half").unwrap();
        let streams = Streams::open_at(medium, SETTINGS, None).unwrap();
        assert!(!directory.path().join(CONDENSED).exists());
        assert_eq!(read(&streams, "quiet", Position::Earliest).await, quiet);
    }
}
