//! Appends in groups: each connection takes what waits for its partitions, gives it its place in one transaction, and answers when
//! that is committed. As with records, nothing is acknowledged but by a commit without a warning, none is cancelled, and what became
//! of one whose answer is lost is learned from the connection's mark before it is tried again: so nothing is stored twice.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::caps;
use base::measure::Stopwatch;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;

use super::super::failure::{Kind, kind, text};
use super::super::faults::Fault;
use super::super::line::{Line, Parameter, Step};
use super::super::sql::MARK;
use super::block::{Block, Blocks};
use super::{Shared, sql};
use crate::error::StoreError;
use crate::queue::Queue;
use crate::streams::{Appended, Callback, NewRecord, StreamId};

/// Marks of these connections are behind those of the committers.
const FIRST_SLOT: i32 = 100;

pub(super) struct Request {
    pub(super) stream: StreamId,
    pub(super) partition: u32,
    pub(super) records: Vec<NewRecord>,
    pub(super) callback: Callback,
}

pub(super) fn bytes(request: &Request) -> usize {
    let record = |record: &NewRecord| record.key.len() + record.headers.len() + record.body.len() + 64;
    request.records.iter().map(record).sum()
}

pub(super) struct Appender {
    shared: Arc<Shared>,
    queue: Arc<Queue<Request>>,
    slot: i32,
    line: Option<Line>,
}

/// What is written together.
pub(in crate::postgres) struct Group<'a> {
    /// Stream, partition and a block, those of a partition in order.
    blocks: Vec<(&'a StreamId, u32, Block)>,
    /// For each request, the first block of its partition and how far behind that one's first record it begins.
    places: Vec<(usize, u64)>,
}

/// The first sequence number of each block, where its stream is there.
type Placed = Vec<Option<u64>>;

enum Fate {
    Kept(Placed),
    /// Nothing was kept, and the same may succeed.
    Again(StoreError),
    /// Nothing was kept: the hour has no table yet.
    NoBucket,
    Failed(StoreError),
    Unknown(String),
}

impl Appender {
    pub(super) fn new(shared: Arc<Shared>, queue: Arc<Queue<Request>>, number: usize) -> Self {
        let slot = FIRST_SLOT + i32::try_from(number).expect("connections are few");
        Self { shared, queue, slot, line: None }
    }

    /// Until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(requests) =
            self.queue.taken(caps::STREAM_GROUP_REQUESTS_MAX, caps::STREAM_GROUP_BYTES_MAX).await
        {
            let group = Group::of(&requests);
            let watch = Stopwatch::start();
            let placed = self.append(&group).await;
            match &placed {
                Ok(placed) => {
                    self.shared.syncs.observe(watch.elapsed());
                    self.shared.health.note(Ok(()));
                    self.shared.appended(&group.ends(placed));
                }
                Err(error) => {
                    tracing::error!(%error, requests = requests.len(), "appends to streams failed");
                    self.shared.health.note(Err(error));
                }
            }
            let places = group.places;
            for (request, (block, behind)) in requests.into_iter().zip(places) {
                let no_stream = || StoreError::NoStream(request.stream.to_string());
                let appended = match &placed {
                    Ok(placed) => placed.get(block).copied().flatten().ok_or_else(no_stream),
                    Err(error) => Err(error.clone()),
                };
                let appended = appended.map(|first| Appended { first_sequence: first + behind });
                crate::streams::shielded(request.callback)(appended);
            }
        }
    }

    async fn append(&mut self, group: &Group<'_>) -> Result<Placed, StoreError> {
        if group.blocks.is_empty() {
            return Ok(Vec::new());
        }
        let mut last = StoreError::Unavailable("others were faster too often".into());
        for _ in 0..caps::STREAM_APPEND_TRIES_MAX {
            match self.attempt(group).await {
                Fate::Kept(placed) => return Ok(placed),
                Fate::Again(error) => {
                    self.line = None;
                    last = error;
                }
                Fate::NoBucket => super::upkeep::make_buckets(&self.shared.postgres).await?,
                Fate::Failed(error) => return Err(error),
                Fate::Unknown(why) => return Err(StoreError::Unknown(why)),
            }
        }
        Err(last)
    }

    async fn attempt(&mut self, group: &Group<'_>) -> Fate {
        if self.line.is_none() {
            match self.shared.postgres.database().line(self.slot).await {
                Ok(line) => self.line = Some(line),
                Err(error) => return Fate::Failed(error),
            }
        }
        let deadline = Instant::now() + Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
        let database = self.shared.postgres.database();
        let Some(line) = &mut self.line else {
            return Fate::Failed(StoreError::Unavailable("there is no connection".into()));
        };
        let group_no = line.group_no + 1;
        let steps = group.steps(database.node, self.slot, group_no, database.config.fault);
        let fate = match timeout_at(deadline, send(line, &steps, group.blocks.len())).await {
            Ok(fate) => fate,
            Err(_) => Fate::Unknown("the database did not answer in time".into()),
        };
        let why = match fate {
            Fate::Kept(placed) => {
                line.group_no = group_no;
                return Fate::Kept(placed);
            }
            Fate::Unknown(why) => why,
            other => return other,
        };
        // Dropped, not cancelled: a commit that waits for its standby would be cut short and called a success.
        self.line = None;
        tracing::warn!(slot = self.slot, group_no, "an append has no answer that counts: {why}");
        match database.resolve(self.slot, group_no).await {
            Some(true) => self.find(group).await,
            Some(false) => Fate::Again(StoreError::Unavailable(why)),
            None => Fate::Unknown(why),
        }
    }

    /// Where blocks lie that are known to be kept.
    async fn find(&self, group: &Group<'_>) -> Fate {
        let mut placed = Vec::with_capacity(group.blocks.len());
        for (stream, partition, block) in &group.blocks {
            let ((instance, name), partition) = (stream.parts(), i64::from(*partition));
            let wait = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
            let parameters: [&(dyn ToSql + Sync); 4] = [&instance, &name, &partition, &block.bytes];
            match self.shared.postgres.rows(sql::FIND, &parameters, wait).await {
                Ok(rows) => placed.push(rows.first().map(|row| super::unsigned(row.get(0)))),
                Err(error) => return Fate::Unknown(error.to_string()),
            }
        }
        Fate::Kept(placed)
    }
}

/// Everything at once: one round trip.
async fn send(line: &mut Line, steps: &[Step<'_>], blocks: usize) -> Fate {
    let notices = line.notices();
    let answers = match line.send(steps).await {
        Ok(answers) => answers,
        // A statement could not be prepared, so none was sent.
        Err(error) => return Fate::Again(error.into()),
    };
    let last = answers.len() - 1;
    let mut placed = vec![None; blocks];
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            // It failed for certain, and the commit behind it was a rollback.
            Err(error) if at < last && error.as_db_error().is_some() => {
                let is_without_bucket = error.code().is_some_and(|code| code.code() == "23514");
                return match kind(&error) {
                    _ if is_without_bucket => Fate::NoBucket,
                    Kind::Again | Kind::Gone => Fate::Again(error.into()),
                    Kind::Other => Fate::Failed(error.into()),
                };
            }
            Err(error) => return Fate::Unknown(text(&error)),
            Ok(rows) if at + 1 == last => {
                for row in rows {
                    let place = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
                    if let Some(known) = placed.get_mut(place) {
                        *known = Some(super::unsigned(row.get(1)));
                    }
                }
            }
            Ok(_) => {}
        }
    }
    if line.notices() != notices {
        return Fate::Unknown("the commit came with a warning".into());
    }
    Fate::Kept(placed)
}

impl<'a> Group<'a> {
    fn of(requests: &'a [Request]) -> Self {
        let appends = requests.iter().map(|of| (&of.stream, of.partition, of.records.iter()));
        Self::new(appends)
    }

    /// Records for partitions, in the order in which they go to each.
    pub(in crate::postgres) fn new<'r>(
        appends: impl Iterator<Item = (&'a StreamId, u32, impl Iterator<Item = &'r NewRecord>)>,
    ) -> Self {
        let mut by_partition: HashMap<(&StreamId, u32), usize> = HashMap::new();
        let mut partitions: Vec<(&StreamId, u32, Blocks)> = Vec::new();
        let mut begins = Vec::new();
        for (stream, partition, records) in appends {
            let at = *by_partition.entry((stream, partition)).or_insert_with(|| {
                partitions.push((stream, partition, Blocks::default()));
                partitions.len() - 1
            });
            begins.push((at, partitions[at].2.count()));
            for record in records {
                partitions[at].2.push(record);
            }
        }
        let (mut blocks, mut firsts) = (Vec::new(), Vec::new());
        for (stream, partition, mut of) in partitions {
            of.close();
            firsts.push(blocks.len());
            blocks.extend(of.closed.into_iter().map(|block| (stream, partition, block)));
        }
        let places = begins.into_iter().map(|(at, behind)| (firsts[at], behind)).collect();
        Self { blocks, places }
    }

    fn steps(&self, node: i32, slot: i32, group_no: i64, fault: Option<Fault>) -> Vec<Step<'_>> {
        let mark = vec![
            Parameter::Small(node),
            Parameter::Small(slot),
            Parameter::Number(group_no),
            Parameter::Number(1),
        ];
        vec![
            Step::Plain("BEGIN"),
            Step::Prepared(Cow::Borrowed(&MARK), mark),
            self.lock(node, fault),
            Step::Prepared(Cow::Borrowed(sql::APPEND), self.columns()),
            Step::Plain("COMMIT"),
        ]
    }

    fn lock(&self, node: i32, fault: Option<Fault>) -> Step<'_> {
        let text = match fault {
            Some(Fault::PartitionsUnordered) if node % 2 == 0 => {
                Cow::Owned(sql::LOCK.replace("p.partition FOR", "p.partition DESC FOR"))
            }
            _ => Cow::Borrowed(sql::LOCK),
        };
        Step::Prepared(text, self.partitions())
    }

    /// To be done within a transaction, which fails unless every stream is there.
    pub(in crate::postgres) fn within(&self) -> Vec<Step<'_>> {
        if self.blocks.is_empty() {
            return Vec::new();
        }
        let mut append = self.columns();
        append.push(Parameter::Number(i64::try_from(self.blocks.len()).unwrap_or(i64::MAX)));
        vec![self.lock(0, None), Step::Prepared(Cow::Borrowed(&sql::APPEND_ALL), append)]
    }

    fn columns(&self) -> Vec<Parameter<'_>> {
        let numbers = |of: fn(&Block) -> u64| {
            Parameter::Numbers(self.blocks.iter().map(|(_, _, block)| super::signed(of(block))).collect())
        };
        let mut columns = self.partitions();
        columns.push(numbers(|block| block.sequence));
        columns.push(numbers(|block| u64::from(block.count)));
        columns.push(numbers(|block| block.last_offset));
        let times = self.blocks.iter().map(|(_, _, block)| block.last_time.ticks()).collect();
        columns.push(Parameter::Numbers(times));
        let bytes = self.blocks.iter().map(|(_, _, block)| block.bytes.as_slice()).collect();
        columns.push(Parameter::Bytes(bytes));
        columns
    }

    /// Instances, names and partitions.
    fn partitions(&self) -> Vec<Parameter<'_>> {
        let texts = |of: fn((&str, &str)) -> String| {
            Parameter::Texts(self.blocks.iter().map(|(id, ..)| Cow::Owned(of(id.parts()))).collect())
        };
        let partitions = self.blocks.iter().map(|(_, partition, _)| i64::from(*partition)).collect();
        vec![
            texts(|(instance, _)| instance.to_owned()),
            texts(|(_, name)| name.to_owned()),
            Parameter::Numbers(partitions),
        ]
    }

    /// Where partitions end now: stream, partition, next sequence number and how many records are new, block by block.
    fn ends(&self, placed: &Placed) -> Vec<(&'a StreamId, u32, u64, u64)> {
        let kept = self.blocks.iter().zip(placed).filter_map(|((stream, partition, block), placed)| {
            let count = u64::from(block.count);
            placed.map(|first| (*stream, *partition, first + count, count))
        });
        kept.collect()
    }
}
