//! What a database keeps: maps in key order, and no index. Every change is judged by `judge`, one batch at a time.

use std::collections::{BTreeMap, BTreeSet};

use base::ids::IdentityId;
use base::{Elapsed, InstanceId};
use bytes::Bytes;

use super::streams::Stream;
use crate::batch::{Batch, Committed, Counted, Counter, OutboxRow};
use crate::chunks::ChunkId;
use crate::error::CommitError;
use crate::judge::{self, Change, Needs};
use crate::key::Key;
use crate::postgres::lane;
use crate::record::Revision;
use crate::sessions::Owner;
use crate::streams::StreamId;
use crate::table::{self, Table};

#[derive(Default)]
pub(super) struct State {
    pub(super) tables: BTreeMap<&'static str, BTreeMap<Key, Kept>>,
    /// By instance and name. One that counts records is begun by counting them.
    counters: BTreeMap<(String, String), i64>,
    counted: BTreeMap<(String, String), Counted>,
    revision: u64,
    pub(super) outbox: BTreeMap<u64, Waiting>,
    /// The last id of each lane: they rise there, and nowhere else.
    lanes: BTreeMap<i16, u64>,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    /// Streams that were made.
    pub(super) generation: u64,
    pub(super) nodes: BTreeMap<u32, Life>,
    pub(super) sessions: BTreeMap<(InstanceId, IdentityId), Row>,
    pub(super) leases: BTreeMap<String, Held>,
    /// By instance and id.
    pub(super) chunks: BTreeMap<(String, ChunkId), Bytes>,
    /// Stores whose process has died.
    pub(super) cut_off: BTreeSet<u32>,
}

pub(super) struct Kept {
    columns: Vec<Option<String>>,
    pub(super) doc: String,
    pub(super) revision: u64,
}

pub(super) struct Waiting {
    pub(super) lane: i16,
    pub(super) row: OutboxRow,
}

pub(super) struct Life {
    pub(super) epoch: u64,
    pub(super) until: Elapsed,
}

#[derive(Clone, Default)]
pub(super) struct Row {
    /// Never goes back, whoever comes and goes.
    pub(super) epoch: u64,
    pub(super) owner: Option<Owner>,
    /// Whom the last one that began took over from.
    pub(super) previous: Option<Owner>,
}

pub(super) struct Held {
    pub(super) node: u32,
    pub(super) epoch: u64,
    pub(super) until: Elapsed,
}

/// What a commit did, and the last id that it wrote to the outbox.
pub(super) type Done = (Committed, Option<u64>);

impl State {
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<Done, CommitError> {
        let needs = Needs::of([batch]);
        let mut judge = judge::State::empty(&needs);
        for (table, keys) in &needs.records {
            for key in keys.keys() {
                if let Some(kept) = self.tables.get(table).and_then(|rows| rows.get(key)) {
                    judge.found(table, key, kept.revision);
                }
            }
        }
        for counter in needs.counters.keys() {
            judge.counted(counter, self.number(counter));
        }
        let revision = self.revision + 1;
        judge.judge(batch, revision)?;
        self.revision = revision;
        Ok((Committed { revision: Revision(revision) }, self.keep(&judge)))
    }

    fn keep(&mut self, judged: &judge::State<'_>) -> Option<u64> {
        for (table, changes) in judged.changes() {
            let rows = self.tables.entry(table).or_default();
            for (key, change) in changes {
                match change {
                    Change::Insert(row, revision) | Change::Update(row, revision) => {
                        let (columns, doc) = (row.columns.clone(), row.doc.clone());
                        rows.insert(key.clone(), Kept { columns, doc, revision });
                    }
                    Change::Delete => drop(rows.remove(key)),
                    Change::Hold => {}
                }
            }
        }
        for (counter, judged) in judged.counters() {
            if judged.is_added_to {
                let place = (counter.instance.clone(), counter.name.clone());
                if let Some(counted) = &counter.counted {
                    self.counted.insert(place.clone(), counted.clone());
                }
                self.counters.insert(place, judged.now);
            }
        }
        for id in judged.outbox_done() {
            self.outbox.remove(id);
        }
        let mut last = None;
        for entry in judged.outbox() {
            let lane = lane::of(entry.instance.as_str(), &entry.partition_key);
            let row = OutboxRow {
                id: self.outbox_id(lane),
                instance: entry.instance.clone(),
                partition_key: entry.partition_key.clone(),
                payload: entry.payload.clone(),
            };
            last = Some(row.id);
            self.outbox.insert(row.id, Waiting { lane, row });
        }
        last
    }

    /// Each lane begins elsewhere, so that what is written later often has the smaller id.
    fn outbox_id(&mut self, lane: i16) -> u64 {
        let (number, lanes) = (u64::from(lane.unsigned_abs()), u64::from(base::caps::OUTBOX_LANES));
        let last = self.lanes.entry(lane).or_insert((number * 37 % lanes) * 1000 * lanes + number);
        *last += lanes;
        *last
    }

    pub(super) fn number(&self, counter: &Counter) -> i64 {
        let kept = self.counters.get(&(counter.instance.clone(), counter.name.clone()));
        let count = || counter.counted.as_ref().map_or(0, |counted| self.count(&counter.instance, counted));
        kept.copied().unwrap_or_else(count)
    }

    /// Those that stand, by name.
    pub(super) fn counters_of(&self, instance: &str) -> BTreeMap<String, i64> {
        let of = self.counters.iter().filter(|((of, _), _)| of == instance);
        of.map(|((_, name), number)| (name.clone(), *number)).collect()
    }

    fn count(&self, instance: &str, counted: &Counted) -> i64 {
        let table = table::named(counted.table);
        let prefix = Key::new([instance]);
        let rows = self.rows(table, &prefix);
        let is_counted = |(key, kept): &(&Key, &Kept)| match &counted.column {
            Some((column, value)) => column_of(table, key, kept, column) == Some(value.as_str()),
            None => true,
        };
        i64::try_from(rows.filter(is_counted).count()).unwrap_or(i64::MAX)
    }

    pub(super) fn rows<'s>(
        &'s self,
        table: &Table,
        prefix: &'s Key,
    ) -> impl Iterator<Item = (&'s Key, &'s Kept)> {
        let rows = self.tables.get(table.name).into_iter().flatten();
        rows.filter(|(key, _)| key.parts().starts_with(prefix.parts()))
    }

    /// In pieces: of one table after the other, and counters and the outbox at last. Gives whether anything was left.
    pub(super) fn remove_piece(&mut self, instance: &str) -> bool {
        for rows in self.tables.values_mut() {
            let of_instance: Vec<_> = rows.keys().filter(|key| key.parts()[0] == instance).cloned().collect();
            if !of_instance.is_empty() {
                rows.retain(|key, _| !of_instance.contains(key));
                return true;
            }
        }
        self.outbox.retain(|_, waiting| waiting.row.instance.as_str() != instance);
        self.counters.retain(|(of, _), _| of != instance);
        self.counted.retain(|(of, _), _| of != instance);
        false
    }

    pub(super) fn miscounted(&self) -> Vec<String> {
        let wrong = self.counted.iter().filter_map(|(place, counted)| {
            let (kept, there) =
                (self.counters.get(place).copied().unwrap_or_default(), self.count(&place.0, counted));
            (kept != there).then(|| format!("{place:?} says {kept} and there are {there}"))
        });
        wrong.collect()
    }

    pub(super) fn left_of(&self, instance: &str) -> Vec<String> {
        let records = self.tables.iter().flat_map(|(table, rows)| rows.keys().map(move |key| (table, key)));
        let records = records.filter(|(_, key)| key.parts()[0].starts_with(instance));
        let records = records.map(|(table, key)| format!("a record of {table}: {key:?}"));
        let counters =
            self.counters.iter().filter(|((of, _), number)| of.starts_with(instance) && **number != 0);
        let counters = counters.map(|((_, name), number)| format!("counter {name} of {number}"));
        let outbox =
            self.outbox.values().filter(|waiting| waiting.row.instance.as_str().starts_with(instance));
        let outbox = outbox.map(|waiting| format!("outbox row {}", waiting.row.id));
        let streams = self.streams.keys().filter(|stream| stream.parts().0.starts_with(instance));
        let streams = streams.map(|stream| format!("stream {stream}"));
        let sessions = self.sessions.keys().filter(|(of, _)| of.as_str().starts_with(instance));
        let sessions = sessions.map(|(_, identity)| format!("a session of {identity}"));
        let chunks = self.chunks.keys().filter(|(of, _)| of.starts_with(instance));
        let chunks = chunks.map(|(_, id)| format!("chunk {id}"));
        records.chain(counters).chain(outbox).chain(streams).chain(sessions).chain(chunks).collect()
    }

    pub(super) fn sum(&self) -> u64 {
        let records = self.tables.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (table, row)));
        let records = records.map(|(table, (key, kept))| format!("{table} {key:?} {}", kept.revision));
        let counters = self.counters.iter().map(|counter| format!("{counter:?}"));
        let streams = self.streams.iter().map(|(id, stream)| format!("{id} {:?}", stream.ends()));
        let sum = |sum, text: String| u64::from(crc32c::crc32c(text.as_bytes())) ^ u64::rotate_left(sum, 7);
        records.chain(counters).chain(streams).fold(self.revision, sum)
    }
}

/// A part of the key, or a column beside it.
pub(super) fn column_of<'k>(table: &Table, key: &'k Key, kept: &'k Kept, name: &str) -> Option<&'k str> {
    if let Some(at) = table.keys.iter().position(|column| *column == name) {
        return Some(&key.parts()[at]);
    }
    let at = table.columns.iter().position(|column| *column == name)?;
    kept.columns[at].as_deref()
}
