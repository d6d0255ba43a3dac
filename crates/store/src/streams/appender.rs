//! The one thread that writes the log. It takes everything queued, writes it in one piece, syncs once, makes it visible and
//! only then answers. A record that is not durable is never acknowledged and never seen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use base::caps;

use super::format::Origin;
use super::group::Group;
use super::housekeeper::Housekeeper;
use super::lane::Partition;
use super::log::Log;
use super::segment::Segment;
use super::{Appended, NewRecord, StreamId};
use crate::error::StoreError;
use crate::queue::Queue;

/// Runs on the log's thread, once, with the outcome. It must not block.
pub(crate) type Callback = Box<dyn FnOnce(Result<Appended, StoreError>) + Send>;

pub(crate) struct Request {
    pub(crate) change: Change,
    pub(crate) callback: Callback,
}

pub(crate) enum Change {
    /// Creates what a stream lacks of this many partitions.
    Ensure {
        stream: StreamId,
        partition_count: u32,
    },
    /// With one origin per record where records are appended once.
    Append {
        partition: Partition,
        records: Vec<NewRecord>,
        origins: Option<Vec<Origin>>,
    },
    /// Moves a lane's first sequence number forward.
    Trim {
        partition: Partition,
        first_sequence: u64,
    },
    Remove {
        stream: StreamId,
    },
    /// Asks whether the log can be written.
    Nothing,
}

#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) segment_bytes: u32,
    /// Whether acknowledgements wait for the disk.
    pub(crate) sync: bool,
}

pub(crate) struct Appender {
    log: Arc<Log>,
    queue: Arc<Queue<Request>>,
    settings: Settings,
    housekeeper: Housekeeper,
    segment: Arc<Segment>,
    /// How far the segment was filled with zeros ahead, which makes syncs cheap.
    zeroed: Option<u32>,
    /// After a failed write or sync nothing goes to that segment any more: what the disk holds of it is unknown.
    broken: Option<StoreError>,
    group: Group,
    appended_bytes: usize,
}

impl Appender {
    /// `end` is the good length of the last segment.
    pub(crate) fn new(
        log: Arc<Log>,
        queue: Arc<Queue<Request>>,
        settings: Settings,
        housekeeper: Housekeeper,
        end: u32,
    ) -> Self {
        let segment = Arc::clone(log.state.read().active_segment());
        // What follows the good length was seen to be zeros.
        let length = segment.file.len().ok().and_then(|length| u32::try_from(length).ok());
        let zeroed = length.filter(|length| length.saturating_sub(end) >= caps::LOG_SPARE_BYTES_MIN);
        let mut group = Group::default();
        group.clear(segment.base, end);
        log.state.write().end = segment.base + u64::from(end);
        let (broken, appended_bytes) = (None, 0);
        Self { log, queue, settings, housekeeper, segment, zeroed, broken, group, appended_bytes }
    }

    pub(crate) fn run(mut self) {
        while let Some(requests) = self.queue.take(usize::MAX) {
            if let Some(error) = self.broken.take() {
                tracing::warn!(%error, "the log begins another segment after a failure");
                self.roll();
            }
            for request in requests {
                self.stage(request);
            }
            self.flush();
            self.keep_house();
        }
        self.housekeeper.stop();
    }

    fn stage(&mut self, Request { change, callback }: Request) {
        let callback = shielded(callback);
        if let Some(error) = &self.broken {
            return callback(Err(error.clone()));
        }
        match self.stage_change(change) {
            Ok(first_sequence) => self.group.answers.push((callback, Appended { first_sequence })),
            Err(error) => callback(Err(error)),
        }
    }

    /// The sequence number of the first record of an append; else 0.
    fn stage_change(&mut self, change: Change) -> Result<u64, StoreError> {
        match change {
            Change::Ensure { stream, partition_count } => {
                self.make_room(ensure_bytes(&stream, partition_count))?;
                self.group.ensure(&self.log, &stream, partition_count);
            }
            Change::Append { partition, records, origins } => {
                self.make_room(append_bytes(&records))?;
                return self.group.append(&self.log, &partition, &records, origins.as_deref());
            }
            Change::Trim { partition, first_sequence } => {
                self.group.trim(&self.log, &partition, first_sequence);
            }
            Change::Remove { stream } => self.group.remove(&self.log, &stream),
            Change::Nothing => {}
        }
        Ok(0)
    }

    /// A request stays in one group, so that its records become durable together, and a group in one segment.
    fn make_room(&mut self, needed: usize) -> Result<(), StoreError> {
        let segment_bytes = self.settings.segment_bytes as usize;
        if needed > segment_bytes / 2 {
            return Err(StoreError::Refused(format!("an append of {needed} bytes")));
        }
        if !self.group.bytes.is_empty() && self.group.bytes.len() + needed > caps::LOG_GROUP_BYTES_MAX {
            self.flush();
        }
        if !self.has_room(needed) && self.broken.is_none() {
            self.flush();
            self.roll();
            if !self.has_room(needed) {
                // It becomes longer than what was filled ahead.
                self.zeroed = None;
            }
        }
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn has_room(&self, needed: usize) -> bool {
        let segment_bytes = self.zeroed.unwrap_or(self.settings.segment_bytes);
        self.group.position() as usize + needed <= segment_bytes as usize
    }

    /// Writes, syncs, publishes and answers what is staged.
    fn flush(&mut self) {
        if self.group.answers.is_empty() || self.broken.is_some() {
            return;
        }
        if let Err(error) = self.log.syncs.time(|| self.write_durably()) {
            tracing::error!(%error, requests = self.group.answers.len(), "an append to the log failed");
            self.log.health.note(Err(&error));
            self.group.fail(&error);
            self.broken = Some(error);
            self.group.clear(self.segment.base, self.group.end);
            return;
        }
        self.log.health.note(Ok(()));
        self.group.publish(&mut self.log.state.write());
        if self.group.forgets {
            self.housekeeper.remove_all(self.log.take_forgotten());
            self.housekeeper.condense_next(&self.log);
        }
        for (callback, appended) in self.group.answers.drain(..) {
            callback(Ok(appended));
        }
        self.appended_bytes += self.group.bytes.len();
        self.group.clear(self.segment.base, self.group.position());
    }

    fn write_durably(&self) -> Result<(), StoreError> {
        if self.group.bytes.is_empty() {
            return Ok(());
        }
        self.segment.file.write_at(&self.group.bytes, u64::from(self.group.end))?;
        if self.settings.sync {
            self.segment.file.sync()?;
        }
        Ok(())
    }

    /// Seals the last segment at its good length and begins another. The group is empty. On failure the log is broken
    /// until a later attempt succeeds.
    fn roll(&mut self) {
        if let Err(error) = self.try_roll() {
            tracing::error!(%error, "a new log segment could not be made");
            self.log.health.note(Err(&error));
            self.broken = Some(error);
        }
    }

    fn try_roll(&mut self) -> Result<(), StoreError> {
        let (old, end) = (Arc::clone(&self.segment), self.group.end);
        // Bytes behind the good length were never acknowledged. Should cutting them fail: the next segment's base says where
        // this one ends.
        if let Err(error) = old.file.set_len(u64::from(end)) {
            tracing::warn!(%error, segment = old.name, "a sealed log segment could not be cut to its length");
        }
        let lanes = self.log.state.read().lanes.clone();
        let spare = self.housekeeper.take_spare();
        let zeroed = spare.as_ref().and_then(|spare| u32::try_from(spare.len().ok()?).ok());
        let new = Segment::create(&self.log.medium, old.base + u64::from(end), &lanes, spare)?;
        let new = Arc::new(new);
        self.log.seal(end, &new);
        self.group.clear(new.base, new.begin);
        (self.segment, self.zeroed) = (new, zeroed);
        Ok(())
    }

    /// Once there is traffic, a file of zeros is made ahead: syncs within one cost a tenth of those that grow a file.
    fn keep_house(&mut self) {
        if !self.settings.sync || self.appended_bytes < caps::LOG_SPARE_AFTER_BYTES {
            return;
        }
        match self.zeroed {
            None if self.broken.is_none() && self.housekeeper.has_spare() => self.roll(),
            Some(bytes) if self.group.end <= bytes / 2 => {}
            _ => {
                let by_traffic = self.appended_bytes.saturating_mul(caps::LOG_SPARE_TRAFFIC_TIMES);
                let bytes = u32::try_from(by_traffic).unwrap_or(u32::MAX).min(self.settings.segment_bytes);
                self.housekeeper.want_spare(bytes);
            }
        }
    }
}

/// What a request holds in memory while it waits.
pub(crate) fn request_bytes(request: &Request) -> usize {
    match &request.change {
        Change::Append { records, .. } => append_bytes(records),
        Change::Ensure { .. } | Change::Trim { .. } | Change::Remove { .. } | Change::Nothing => 0,
    }
}

/// An upper bound of what the lanes of a stream take in the file.
fn ensure_bytes(stream: &StreamId, partition_count: u32) -> usize {
    const LANE: usize = 64;
    (LANE + stream.as_str().len()).saturating_mul(2 * partition_count as usize)
}

/// An upper bound of what the records take in the file.
fn append_bytes(records: &[NewRecord]) -> usize {
    const RECORD: usize = 64;
    let bytes = |record: &NewRecord| record.key.len() + record.headers.len() + record.body.len() + RECORD;
    records.iter().map(bytes).sum()
}

/// A door's mistake in its callback must not end the log's thread.
pub(crate) fn shielded(callback: Callback) -> Callback {
    Box::new(move |result| {
        if catch_unwind(AssertUnwindSafe(|| callback(result))).is_err() {
            tracing::error!("a callback of an append panicked");
        }
    })
}
