//! Which files a copy of the log takes while it is appended to, and how much of each. For backups.

use std::io::{self, Read};
use std::sync::Arc;

use super::Streams;
use super::segment::Segment;

/// A segment up to what was durable. It can be read to its end even when the segment is removed meanwhile.
pub struct LogFileCopy {
    segment: Arc<Segment>,
    length: u64,
    position: u64,
}

impl LogFileCopy {
    /// The file's name in `log/`.
    pub fn name(&self) -> &str {
        &self.segment.name
    }

    /// How many bytes are left to read.
    pub fn bytes_left(&self) -> u64 {
        self.length - self.position
    }
}

impl Read for LogFileCopy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.bytes_left()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.segment.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Streams {
    /// All that is durable now, oldest first. Of the embedded engine.
    pub fn copy(&self) -> io::Result<Vec<LogFileCopy>> {
        let Some(embedded) = self.embedded() else { return Err(io::ErrorKind::Unsupported.into()) };
        let (end, segments) = {
            let state = embedded.log.state.read();
            (state.end, state.segments.clone())
        };
        let copy = |segment: Arc<Segment>| {
            let durable = segment.sealed.get().map_or(end - segment.base, |length| u64::from(*length));
            // A damaged one may be shorter than it was.
            let length = durable.min(segment.file.len()?);
            Ok(LogFileCopy { segment, length, position: 0 })
        };
        segments.into_iter().map(copy).collect()
    }

    /// The greatest id that [`Streams::append_once`] stored from any source in any partition; 0 where there is none.
    pub fn greatest_origin(&self) -> u64 {
        let Some(embedded) = self.embedded() else { return 0 };
        let state = embedded.log.state.read();
        state.lanes.iter().flat_map(|lane| &lane.origins).map(|origin| origin.id).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base::{InstanceId, Timestamp};
    use bytes::Bytes;

    use super::super::appender::Settings;
    use super::super::medium::Medium;
    use super::super::{NewRecord, Position, StreamId};
    use super::*;

    fn open(directory: &Path) -> Streams {
        let settings = Settings { segment_bytes: 6000, sync: true };
        Streams::open_at(Medium::directory(directory.to_owned()), settings, None).unwrap()
    }

    fn record(number: u64) -> NewRecord {
        let (time, headers) = (Timestamp::UNIX_EPOCH, Bytes::new());
        NewRecord { time, key: "dev1".into(), headers, body: number.to_string().repeat(50).into() }
    }

    #[tokio::test]
    async fn a_copy_has_what_was_durable_and_nothing_that_came_later() {
        let (directory, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = StreamId::new(&InstanceId::from_stored("hub"), "events");
        let streams = open(directory.path());
        assert_eq!(streams.greatest_origin(), 0);
        streams.ensure(&id, 1).await.unwrap();
        for number in 0..150 {
            streams.append_once(&id, 0, 7, vec![(1000 + number, record(number))]).await.unwrap();
        }
        let files = streams.copy().unwrap();
        assert!(files.len() > 2, "one segment says little");
        for number in 150..300 {
            streams.append_once(&id, 0, 7, vec![(1000 + number, record(number))]).await.unwrap();
        }
        // What is forgotten meanwhile is copied all the same.
        streams.remove(&id).await.unwrap();
        for mut file in files {
            let (name, length) = (file.name().to_owned(), file.bytes_left());
            let mut copy = std::fs::File::create(copied.path().join(name)).unwrap();
            assert_eq!(io::copy(&mut file, &mut copy).unwrap(), length);
        }
        let copy = open(copied.path());
        assert_eq!(copy.greatest_origin(), 1149);
        assert_eq!(copy.partition(&id, 0).await.unwrap().next_sequence, 150);
        let mut read = Vec::new();
        while read.len() < 150 {
            read.extend(copy.read(&id, 0, Position::Sequence(read.len() as u64), 150).await.unwrap());
        }
        assert!((0..150).all(|number| read[number].body == record(number as u64).body));
        let names: Vec<_> =
            std::fs::read_dir(copied.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().contains("cut")), "{names:?}");
    }
}
