//! A change: checks that must hold and writes to make, applied together or not at all.
//! Built by domain operations without I/O; records are serialised here, on the caller's thread, not on the writer's.

use base::InstanceId;

use crate::error::StoreError;
use crate::key::Key;
use crate::record::{Record, Revision, Stored};
use crate::table::Table;

/// A number kept beside the records, changed by commutative additions so that writers of one set do not fight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter {
    pub(crate) instance: String,
    pub(crate) name: String,
    pub(crate) counted: Option<Counted>,
}

/// Records of one instance: all of a table, or those that share a value of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Counted {
    pub(crate) table: &'static str,
    pub(crate) column: Option<(&'static str, String)>,
}

impl Counter {
    /// `Counter::new(&hub, "modules/dev1")`. It starts at 0 and its row goes when it is 0 again.
    pub fn new(instance: &InstanceId, name: impl Into<String>) -> Self {
        Self { instance: instance.as_str().to_owned(), name: name.into(), counted: None }
    }

    /// A counter that says how many records there are, all or those with this value of a column or key part. Whoever makes or
    /// deletes one adds to it as to any other; an engine that can see all records when it judges keeps no number of its own.
    pub fn of<R: Record>(
        instance: &InstanceId,
        name: impl Into<String>,
        column: Option<(&'static str, &str)>,
    ) -> Self {
        let column = column.map(|(column, value)| (column, value.to_owned()));
        let counted = Some(Counted { table: R::TABLE.name, column });
        Self { counted, ..Self::new(instance, name) }
    }
}

/// An event that must reach the relay if, and only if, the batch commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    pub instance: InstanceId,
    /// Entries with the same key are relayed in commit order.
    pub partition_key: String,
    pub payload: Vec<u8>,
}

/// An entry that waits in the outbox. Among those of one partition key ids rise in commit order; across keys they may not, so
/// nobody may take the greatest id that was seen for the end of what was seen. None is used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    pub id: u64,
    pub instance: InstanceId,
    pub partition_key: String,
    pub payload: Vec<u8>,
}

/// A durable commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The revision of every record that the batch wrote.
    pub revision: Revision,
}

impl Committed {
    /// `record` as it now lies in the store, when this commit wrote it.
    pub fn stored<R>(&self, record: R) -> Stored<R> {
        Stored { record, revision: self.revision }
    }
}

/// Checks and writes of one commit. All checks are judged against the state before the batch; writes then run in the
/// order given. Any that does not hold fails the whole batch, and no other batch of the same group commit.
#[derive(Default)]
pub struct Batch {
    pub(crate) checks: Vec<Check>,
    pub(crate) writes: Vec<Write>,
    /// Tables with records that are kept somewhere, each once.
    pub(crate) changed: Vec<&'static str>,
    /// The first mistake in building the batch; reported by the commit, so that builders need no `Result`.
    pub(crate) mistake: Option<StoreError>,
}

pub(crate) enum Check {
    Revision { table: Table, key: Key, revision: Revision },
    Exists { table: Table, key: Key },
    Absent { table: Table, key: Key },
    Zero(Counter),
}

pub(crate) enum Write {
    Insert(Row),
    Replace(Row, Revision),
    /// A replacement that leaves the extra columns as they are.
    Rewrite(Row, Revision),
    Put(Row),
    Delete {
        table: Table,
        key: Key,
        revision: Revision,
    },
    Remove {
        table: Table,
        key: Key,
    },
    Add {
        counter: Counter,
        delta: i64,
        max: i64,
    },
    /// Only while the counter, if one is given, is not 0.
    Outbox(OutboxEntry, Option<Counter>),
    OutboxDone(u64),
    /// Outbox ids from now on are greater than this one.
    OutboxAbove(u64),
}

pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) key: Key,
    pub(crate) columns: Vec<Option<String>>,
    pub(crate) doc: String,
}

impl Batch {
    /// Writes a record whose key must not exist yet.
    pub fn insert<R: Record>(&mut self, record: &R) {
        if let Some(row) = self.changed_row(record) {
            self.writes.push(Write::Insert(row));
        }
    }

    /// Writes `new` over `old`, provided that nobody wrote the key since `old` was read.
    pub fn replace<R: Record>(&mut self, old: &Stored<R>, new: &R) {
        let Some(row) = self.changed_row(new) else { return };
        if row.key != old.record.key() {
            self.refuse(format!("a replacement in {} has another key", R::TABLE.name));
            return;
        }
        let is_found_as_before = row.columns == old.record.columns();
        let write = if is_found_as_before { Write::Rewrite } else { Write::Replace };
        self.writes.push(write(row, old.revision));
    }

    /// Writes a record whatever was there.
    pub fn put<R: Record>(&mut self, record: &R) {
        if let Some(row) = self.changed_row(record) {
            self.writes.push(Write::Put(row));
        }
    }

    /// Deletes a record, provided that nobody wrote the key since it was read.
    pub fn delete<R: Record>(&mut self, stored: &Stored<R>) {
        self.changes::<R>();
        if let Some(key) = self.key::<R>(stored.record.key()) {
            self.writes.push(Write::Delete { table: R::TABLE, key, revision: stored.revision });
        }
    }

    /// Deletes whatever is there, which may be nothing.
    pub fn remove<R: Record>(&mut self, key: Key) {
        self.changes::<R>();
        if let Some(key) = self.key::<R>(key) {
            self.writes.push(Write::Remove { table: R::TABLE, key });
        }
    }

    /// The record must still be as it was read.
    pub fn guard<R: Record>(&mut self, stored: &Stored<R>) {
        self.guard_revision::<R>(stored.record.key(), stored.revision);
    }

    /// The record under `key` must still have the revision that it had when it was read.
    pub fn guard_revision<R: Record>(&mut self, key: Key, revision: Revision) {
        if let Some(key) = self.key::<R>(key) {
            self.checks.push(Check::Revision { table: R::TABLE, key, revision });
        }
    }

    pub fn guard_exists<R: Record>(&mut self, key: Key) {
        if let Some(key) = self.key::<R>(key) {
            self.checks.push(Check::Exists { table: R::TABLE, key });
        }
    }

    pub fn guard_absent<R: Record>(&mut self, key: Key) {
        if let Some(key) = self.key::<R>(key) {
            self.checks.push(Check::Absent { table: R::TABLE, key });
        }
    }

    /// Adds to a counter. A positive `delta` that would pass `max` fails the batch with `CounterLimit`.
    pub fn add(&mut self, counter: Counter, delta: i64, max: i64) {
        self.writes.push(Write::Add { counter, delta, max });
    }

    /// The counter must be 0 before the batch, else `Conflict`.
    pub fn expect_zero(&mut self, counter: Counter) {
        self.checks.push(Check::Zero(counter));
    }

    pub fn outbox(&mut self, entry: OutboxEntry) {
        self.writes.push(Write::Outbox(entry, None));
    }

    /// The same, but only if `listeners` is not 0 when the batch is committed: an event that nobody could be told of costs
    /// nothing, and who came to listen before the commit hears of it.
    pub fn outbox_for(&mut self, listeners: Counter, entry: OutboxEntry) {
        self.writes.push(Write::Outbox(entry, Some(listeners)));
    }

    /// Takes a relayed row out of the outbox together with whatever else the batch does.
    pub fn outbox_done(&mut self, id: u64) {
        self.writes.push(Write::OutboxDone(id));
    }

    /// Adds what another batch does.
    pub(crate) fn merge(&mut self, other: Self) {
        self.checks.extend(other.checks);
        self.writes.extend(other.writes);
        for table in other.changed {
            self.note(table);
        }
        self.mistake = self.mistake.take().or(other.mistake);
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.mistake.is_none()
    }

    /// Checks and writes so far, to be held against `caps::BATCH_OPERATIONS_MAX`.
    pub fn len(&self) -> usize {
        self.checks.len() + self.writes.len()
    }

    /// About what it has in it, for queues and groups that are bounded by that.
    pub(crate) fn bytes(&self) -> usize {
        let write = |write: &Write| match write {
            Write::Insert(row) | Write::Replace(row, _) | Write::Rewrite(row, _) | Write::Put(row) => {
                row.doc.len()
            }
            Write::Outbox(entry, _) => entry.payload.len(),
            _ => 0,
        };
        // Beside documents and events an operation is a key or two.
        self.len() * 100 + self.writes.iter().map(write).sum::<usize>()
    }

    /// Records that are kept in no process's memory cost nothing here.
    pub(crate) fn changes<R: Record>(&mut self) {
        if R::IS_KEPT {
            self.note(R::TABLE.name);
        }
    }

    fn note(&mut self, table: &'static str) {
        if !self.changed.contains(&table) {
            self.changed.push(table);
        }
    }

    fn changed_row<R: Record>(&mut self, record: &R) -> Option<Row> {
        self.changes::<R>();
        self.row(record)
    }

    fn row<R: Record>(&mut self, record: &R) -> Option<Row> {
        let key = self.key::<R>(record.key())?;
        let columns = record.columns();
        if columns.len() != R::TABLE.columns.len() {
            self.refuse(format!("{} has {} extra columns", R::TABLE.name, R::TABLE.columns.len()));
            return None;
        }
        match serde_json::to_string(record) {
            Ok(doc) => Some(Row { table: R::TABLE, key, columns, doc }),
            Err(error) => {
                self.refuse(format!("a record of {} is not JSON: {error}", R::TABLE.name));
                None
            }
        }
    }

    fn key<R: Record>(&mut self, key: Key) -> Option<Key> {
        if key.parts().len() == R::TABLE.keys.len() {
            return Some(key);
        }
        self.refuse(format!("a key of {} has {} parts", R::TABLE.name, R::TABLE.keys.len()));
        None
    }

    fn refuse(&mut self, why: String) {
        self.mistake.get_or_insert(StoreError::Refused(why));
    }
}
