//! Reading an event stream as one: all partitions merged by time, to their present end or on and on.
//! Used by live control (`twinhub events`). Within a partition the order is the stream's. Events that the disk lost are told, never
//! passed over in silence.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use store::{Lost, Position, StoreError};
use tokio::sync::watch;

use crate::{Event, EventStream};

/// Events that one step reads of each partition.
const STEP: usize = 200;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    /// Behind the present end.
    Latest,
}

/// Where a reader is in all partitions of a stream.
pub struct Reader {
    stream: EventStream,
    cursors: Vec<Cursor>,
    follow: bool,
    /// Seen and not yet told: a step may be dropped half-way.
    lost: Vec<Lost>,
}

/// What a reader comes to next.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Damaged places that were passed to get here.
    pub lost: Vec<Lost>,
    pub events: Vec<Event>,
}

struct Cursor {
    /// The next sequence number to give.
    next: u64,
    /// Where a reader that does not follow ends.
    end: u64,
    tail: watch::Receiver<u64>,
}

impl Reader {
    pub async fn new(stream: EventStream, start: Start, follow: bool) -> Result<Self, StoreError> {
        let mut cursors = Vec::new();
        for partition in 0..stream.partition_count() {
            let state = stream.partition(partition).await?;
            let next = match start {
                Start::Earliest => state.first_sequence,
                Start::Latest => state.next_sequence,
            };
            let end = if follow { u64::MAX } else { state.next_sequence };
            cursors.push(Cursor { next, end, tail: stream.tail(partition).await? });
        }
        Ok(Self { stream, cursors, follow, lost: Vec::new() })
    }

    /// The next events, or places where events are lost, at least one of either; `None` at the end and when the stream was removed.
    /// A reader that follows waits here, and may be dropped while it does.
    pub async fn next(&mut self) -> Result<Option<Step>, StoreError> {
        loop {
            // Marked before reading, so that what arrives meanwhile wakes us at once.
            for cursor in &mut self.cursors {
                cursor.tail.borrow_and_update();
            }
            let events = self.step().await?;
            if !events.is_empty() || !self.lost.is_empty() {
                return Ok(Some(Step { lost: std::mem::take(&mut self.lost), events }));
            }
            let tails = self.cursors.iter_mut().map(|cursor| &mut cursor.tail).collect();
            if !self.follow || !any_changed(tails).await {
                return Ok(None);
            }
        }
    }

    /// Reads on in every partition and moves past what may be given now.
    async fn step(&mut self) -> Result<Vec<Event>, StoreError> {
        let mut read = Vec::new();
        let mut horizon = None;
        for (partition, cursor) in (0_u32..).zip(&mut self.cursors) {
            let mut events = cursor.read(&self.stream, partition, &mut self.lost).await?;
            events.retain(|event| event.sequence < cursor.end);
            if let Some(last) = events.last() {
                let state = self.stream.partition(partition).await?;
                if last.sequence + 1 < state.next_sequence.min(cursor.end) {
                    // There is more of this partition: nothing later than that may be given yet.
                    horizon = Some(horizon.map_or(last.enqueued_time, |time| last.enqueued_time.min(time)));
                }
            }
            read.append(&mut events);
        }
        read.retain(|event| horizon.is_none_or(|horizon| event.enqueued_time <= horizon));
        read.sort_by_key(|event| (event.enqueued_time, event.partition, event.sequence));
        for (partition, cursor) in (0_u32..).zip(&mut self.cursors) {
            let given =
                read.iter().filter(|event| event.partition == partition).map(|event| event.sequence + 1);
            cursor.next = given.max().unwrap_or(cursor.next);
        }
        Ok(read)
    }
}

impl Cursor {
    /// Reads on, past damaged places, which are added to `lost`.
    async fn read(
        &mut self,
        stream: &EventStream,
        partition: u32,
        lost: &mut Vec<Lost>,
    ) -> Result<Vec<Event>, StoreError> {
        while self.next < self.end {
            match stream.read(partition, Position::Sequence(self.next), STEP).await {
                Err(StoreError::Lost(place)) if place.next_sequence > self.next => {
                    self.next = place.next_sequence;
                    lost.push(*place);
                }
                read => return read,
            }
        }
        Ok(Vec::new())
    }
}

/// Waits until one of the partitions grows; false when the stream was removed.
async fn any_changed(tails: Vec<&mut watch::Receiver<u64>>) -> bool {
    let mut waits: Vec<_> = tails.into_iter().map(|tail| Box::pin(tail.changed())).collect();
    poll_fn(|context| {
        for wait in &mut waits {
            if let Poll::Ready(changed) = Pin::new(wait).poll(context) {
                return Poll::Ready(changed.is_ok());
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use base::outbound::NoOutbound;
    use base::tasks::Tasks;
    use base::{Clock, InstanceId, Timestamp};
    use bytes::Bytes;
    use store::{Durability, Location, NewRecord, Options};

    use super::*;
    use crate::{Context, EventStreamSettings, Events};

    struct TestStream {
        events: Events,
        stream: EventStream,
    }

    impl TestStream {
        async fn new(partition_count: u32) -> Self {
            Self::open(&test_store::options(), partition_count).await
        }

        async fn open(options: &Options, partition_count: u32) -> Self {
            let (store, streams) = test_store::open_at(options);
            let events = Events::new(Context {
                store,
                streams,
                clock: Clock::manual(Timestamp::from_unix_seconds(1_000)),
                event_hubs: Arc::new(crate::NoEventHubs),
                tasks: Tasks::new(),
                outbound: Arc::new(NoOutbound),
            });
            let settings = EventStreamSettings {
                instance: InstanceId::from_stored("hub-a-1"),
                name: "messages/events".into(),
                namespace: None,
                partition_count,
                retention_seconds: 3600,
            };
            let stream = events.ensure_stream(settings).await.unwrap();
            Self { events, stream }
        }

        async fn append(&self, number: u32) {
            let key = format!("device-{}", number % 7);
            let time = Timestamp::from_unix_seconds(1_000 + i64::from(number));
            let body = Bytes::from(number.to_string());
            self.stream.append(NewRecord { time, key, headers: Bytes::new(), body }).await.unwrap();
        }
    }

    fn numbers(events: &[Event]) -> Vec<u32> {
        events.iter().map(|event| std::str::from_utf8(&event.body).unwrap().parse().unwrap()).collect()
    }

    /// How long a test waits, so that a fault fails it and does not hang it.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn within<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, work).await.expect("what the test waits for comes")
    }

    async fn all(mut reader: Reader) -> Vec<u32> {
        let mut found = Vec::new();
        while let Some(step) = within(reader.next()).await.unwrap() {
            assert_eq!(step.lost, []);
            found.extend(numbers(&step.events));
        }
        found
    }

    #[tokio::test]
    async fn partitions_are_merged_by_time_however_much_there_is() {
        let test = TestStream::new(4).await;
        for number in 0..1_500 {
            test.append(number).await;
        }
        let reader = Reader::new(test.stream.clone(), Start::Earliest, false).await.unwrap();
        test.append(9_999).await;
        assert_eq!(all(reader).await, (0..1_500).collect::<Vec<_>>(), "and it ends where the end was");
        assert_eq!(
            all(Reader::new(test.stream.clone(), Start::Latest, false).await.unwrap()).await,
            Vec::<u32>::new()
        );
    }

    #[tokio::test]
    async fn a_follower_waits_and_is_told_when_the_stream_goes() {
        let test = TestStream::new(4).await;
        test.append(1).await;
        let mut reader = Reader::new(test.stream.clone(), Start::Latest, true).await.unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(20), reader.next()).await;
        assert!(quiet.is_err(), "nothing has happened yet");
        let (given, ()) = within(async { tokio::join!(reader.next(), test.append(2)) }).await;
        assert_eq!(numbers(&given.unwrap().unwrap().events), [2]);
        let removed =
            async { test.events.remove_stream(test.stream.instance(), test.stream.name()).await.unwrap() };
        let (given, ()) = within(async { tokio::join!(reader.next(), removed) }).await;
        assert_eq!(given.unwrap(), None);
    }

    #[tokio::test]
    async fn events_that_are_lost_are_told_and_the_others_given() {
        if !test_store::runs_embedded("it damages a file of the log") {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let location = Location::File(directory.path().to_owned());
        let options = Options::new(location, Durability::Relaxed);
        let test = TestStream::open(&options, 2).await;
        for number in 0..1_000 {
            test.append(number).await;
        }
        let stream = test.stream.id().clone();
        drop(test);
        let segment = directory.path().join("log/00000000000000000000.log");
        let mut bytes = std::fs::read(&segment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let test = TestStream::open(&options, 2).await;
        for follow in [false, true] {
            let mut reader = Reader::new(test.stream.clone(), Start::Earliest, follow).await.unwrap();
            let (mut found, mut lost) = (Vec::new(), Vec::new());
            while found.len() < 999 {
                let step = within(reader.next()).await.unwrap().unwrap();
                found.extend(numbers(&step.events));
                lost.extend(step.lost);
            }
            let gone: Vec<u32> = (0..1_000).filter(|number| !found.contains(number)).collect();
            let [lost] = &lost[..] else { panic!("{lost:?}") };
            assert_eq!((gone.len(), &lost.stream), (1, &stream));
            assert_eq!(
                (lost.next_sequence - lost.first_sequence, &*lost.segment),
                (1, "00000000000000000000.log")
            );
            if !follow {
                assert_eq!(within(reader.next()).await.unwrap(), None);
            }
        }
    }
}
