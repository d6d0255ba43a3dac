//! Sessions that begin and end, many by one commit. Keys in order, so that two servers never wait for each other in a circle; each
//! identity once in a group, since a statement changes a row once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::{Timestamp, caps};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::Row;

use super::{columns, owner, signed, unsigned};
use crate::error::StoreError;
use crate::postgres::database::{Database, no_answer};
use crate::postgres::failure::{Kind, kind, text};
use crate::postgres::line::{Line, Parameter, Step};
use crate::postgres::sql;
use crate::sessions::{Begun, Node};

/// Behind the slots of the committers and of the streams.
const SLOT: i32 = 1000;
const ANSWER: Duration = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);

/// Instance and identity.
type Key = (String, String);
type Answer<T> = oneshot::Sender<Result<T, StoreError>>;
/// Who wants to know that a session ended. Often two ask at once: whoever closes it from afar, and the door that lets it go.
type Ends = BTreeMap<(Key, u64), Vec<Answer<bool>>>;

pub(crate) enum Request {
    Begin { key: Key, node: Node, since: Timestamp, answer: Answer<Begun> },
    End { key: Key, epoch: u64, answer: Answer<bool> },
}

struct Begin {
    node: Node,
    since: Timestamp,
    answer: Answer<Begun>,
}

/// The row remembers whom it displaced, so that the answer is known from it even when the database's own was lost.
const BEGIN: &str = "
INSERT INTO device_session AS s (instance, identity, node, node_epoch, epoch, since)
SELECT u.instance, u.identity, u.node::int, u.node_epoch, 1, u.since
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS u(instance, identity, node, node_epoch, since)
ORDER BY u.instance, u.identity
ON CONFLICT (instance, identity) DO UPDATE SET previous_node = s.node, previous_node_epoch = s.node_epoch,
    previous_since = s.since, node = excluded.node, node_epoch = excluded.node_epoch, since = excluded.since,
    epoch = s.epoch + 1
RETURNING instance, identity, epoch, previous_node, previous_node_epoch, epoch - 1, previous_since,
    EXISTS (SELECT FROM node n WHERE n.id = previous_node AND n.epoch = previous_node_epoch AND n.until > now())";

/// What [`BEGIN`] has answered, of those rows that nobody has taken since.
pub(super) const BEGUN: &str = "
SELECT s.instance, s.identity, s.epoch, s.previous_node, s.previous_node_epoch, s.epoch - 1, s.previous_since,
    EXISTS (SELECT FROM node n WHERE n.id = s.previous_node AND n.epoch = s.previous_node_epoch AND n.until > now())
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS u(instance, identity, node, node_epoch, since)
JOIN device_session s ON s.instance = u.instance AND s.identity = u.identity
    AND s.node = u.node AND s.node_epoch = u.node_epoch AND s.since = u.since";

const END: &str = "
WITH held AS MATERIALIZED (
    SELECT s.instance, s.identity
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u(instance, identity, epoch)
    JOIN device_session s ON s.instance = u.instance AND s.identity = u.identity AND s.epoch = u.epoch AND s.node <> 0
    ORDER BY s.instance, s.identity FOR UPDATE OF s)
UPDATE device_session s SET node = 0, node_epoch = 0 FROM held
WHERE s.instance = held.instance AND s.identity = held.identity RETURNING s.instance, s.identity";

pub(super) struct Group {
    database: Database,
    line: Option<Line>,
}

/// What became of one statement.
enum Fate {
    Kept(Vec<Row>),
    /// It was committed, but what it answered is lost.
    Lost,
    Again(String),
}

impl Group {
    pub(super) fn new(database: Database) -> Self {
        Self { database, line: None }
    }

    pub(super) async fn work(&mut self, requests: Vec<Request>) {
        let mut ends: Ends = BTreeMap::new();
        let mut rounds: Vec<BTreeMap<Key, Begin>> = Vec::new();
        for request in requests {
            match request {
                Request::Begin { key, node, since, answer } => {
                    let begin = Begin { node, since, answer };
                    match rounds.iter_mut().find(|round| !round.contains_key(&key)) {
                        Some(round) => drop(round.insert(key, begin)),
                        None => rounds.push(BTreeMap::from([(key, begin)])),
                    }
                }
                Request::End { key, epoch, answer } => ends.entry((key, epoch)).or_default().push(answer),
            }
        }
        if !ends.is_empty() {
            self.end(ends).await;
        }
        for round in rounds {
            self.begin(round).await;
        }
    }

    async fn begin(&mut self, begins: BTreeMap<Key, Begin>) {
        let begun = self.begun(&begins).await;
        for (key, Begin { answer, .. }) in begins {
            let taken_since = || StoreError::Unavailable("another session began at once".into());
            let begun = begun.as_ref().map_err(Clone::clone);
            let told = begun.and_then(|begun| begun.get(&key).copied().ok_or_else(taken_since));
            // An asker that has gone needs no answer.
            let _ = answer.send(told);
        }
    }

    async fn begun(&mut self, begins: &BTreeMap<Key, Begin>) -> Result<BTreeMap<Key, Begun>, StoreError> {
        let rows = match self.tries(BEGIN, || parameters_of(begins)).await? {
            Some(rows) => rows,
            None => self.read(BEGUN, parameters_of(begins)).await?,
        };
        Ok(rows.iter().map(begun).collect())
    }

    async fn end(&mut self, ends: Ends) {
        let parameters = || {
            vec![
                Parameter::Texts(ends.keys().map(|((instance, _), _)| Cow::from(instance)).collect()),
                Parameter::Texts(ends.keys().map(|((_, identity), _)| Cow::from(identity)).collect()),
                Parameter::Numbers(ends.keys().map(|(_, epoch)| signed(*epoch)).collect()),
            ]
        };
        // Of one whose answer was lost it is not known whether it was this that ended it; it has ended.
        let ended = self.tries(END, parameters).await.map(Option::unwrap_or_default);
        let key = |row: &Row| (row.get::<_, String>(0), row.get::<_, String>(1));
        let ended = ended.map(|rows| rows.iter().map(key).collect::<BTreeSet<_>>());
        for ((key, _), answers) in ends {
            for (at, answer) in answers.into_iter().enumerate() {
                // It ends once: for whoever asked first.
                let told = ended.as_ref().map(|ended| at == 0 && ended.contains(&key));
                let _ = answer.send(told.map_err(Clone::clone));
            }
        }
    }

    /// The rows; `None` when it was committed and they are lost.
    async fn tries<'a>(
        &mut self,
        statement: &'static str,
        parameters: impl Fn() -> Vec<Parameter<'a>>,
    ) -> Result<Option<Vec<Row>>, StoreError> {
        let mut last = String::new();
        for _ in 0..caps::COMMIT_JUDGED_MAX {
            match self.attempt(statement, parameters()).await? {
                Fate::Kept(rows) => return Ok(Some(rows)),
                Fate::Lost => return Ok(None),
                Fate::Again(why) => last = why,
            }
        }
        Err(StoreError::Unavailable(last))
    }

    async fn attempt(
        &mut self,
        statement: &'static str,
        parameters: Vec<Parameter<'_>>,
    ) -> Result<Fate, StoreError> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.database.line(SLOT).await?,
        };
        let group_no = line.group_no + 1;
        let node = Parameter::Small(self.database.node);
        let mark = vec![node, Parameter::Small(SLOT), Parameter::Number(group_no), Parameter::Number(1)];
        let steps = [
            Step::Plain("BEGIN"),
            Step::Prepared(Cow::Borrowed(&sql::MARK), mark),
            Step::Prepared(Cow::Borrowed(statement), parameters),
            Step::Plain("COMMIT"),
        ];
        let notices = line.notices();
        let why = match timeout(ANSWER, line.send(&steps)).await {
            // It could not be prepared, so nothing was sent.
            Ok(Err(error)) => return Ok(Fate::Again(text(&error))),
            Err(_) => no_answer().to_string(),
            Ok(Ok(answers)) => match judged(answers) {
                Judged::Refused(error) if kind(&error) == Kind::Other => return Err(error.into()),
                Judged::Refused(error) => return Ok(Fate::Again(text(&error))),
                Judged::Lost(error) => text(&error),
                Judged::Kept(_) if line.notices() != notices => "the commit came with a warning".to_owned(),
                Judged::Kept(rows) => {
                    line.group_no = group_no;
                    self.line = Some(line);
                    return Ok(Fate::Kept(rows));
                }
            },
        };
        // Dropped, not cancelled: a commit that waits for its standby would be cut short and called a success.
        drop(line);
        match self.database.resolve(SLOT, group_no).await {
            Some(true) => Ok(Fate::Lost),
            Some(false) => Ok(Fate::Again(why)),
            None => Err(StoreError::Unknown(why)),
        }
    }

    async fn read(
        &mut self,
        statement: &'static str,
        parameters: Vec<Parameter<'_>>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut line = self.database.line(SLOT).await?;
        let steps = [Step::Prepared(Cow::Borrowed(statement), parameters)];
        let answers = timeout(ANSWER, line.send(&steps)).await.map_err(|_| no_answer())??;
        let rows = answers.into_iter().next().transpose()?.unwrap_or_default();
        self.line = Some(line);
        Ok(rows)
    }
}

fn parameters_of(begins: &BTreeMap<Key, Begin>) -> Vec<Parameter<'_>> {
    let nodes = || begins.values().map(|begin| columns(begin.node));
    vec![
        Parameter::Texts(begins.keys().map(|(instance, _)| Cow::from(instance)).collect()),
        Parameter::Texts(begins.keys().map(|(_, identity)| Cow::from(identity)).collect()),
        Parameter::Numbers(nodes().map(|(number, _)| i64::from(number)).collect()),
        Parameter::Numbers(nodes().map(|(_, epoch)| epoch).collect()),
        Parameter::Numbers(begins.values().map(|begin| begin.since.ticks()).collect()),
    ]
}

enum Judged {
    Kept(Vec<Row>),
    Refused(tokio_postgres::Error),
    /// No answer, or one to the commit itself: it may have been kept all the same.
    Lost(tokio_postgres::Error),
}

fn judged(answers: Vec<Result<Vec<Row>, tokio_postgres::Error>>) -> Judged {
    let last = answers.len().saturating_sub(1);
    let mut rows = Vec::new();
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            Err(error) if at < last && error.as_db_error().is_some() => return Judged::Refused(error),
            Err(error) => return Judged::Lost(error),
            Ok(found) if at + 1 == last => rows = found,
            Ok(_) => {}
        }
    }
    Judged::Kept(rows)
}

pub(super) fn begun(row: &Row) -> (Key, Begun) {
    let is_there: bool = row.get(7);
    let previous = is_there.then(|| owner(row, 3));
    ((row.get(0), row.get(1)), Begun { epoch: unsigned(row.get(2)), previous })
}

#[cfg(test)]
pub(super) async fn begin_and_read_again(
    database: &Database,
    asked: &[(Key, Node, Timestamp)],
) -> [BTreeMap<Key, Begun>; 2] {
    let begin = |(key, node, since): &(Key, Node, Timestamp)| {
        (key.clone(), Begin { node: *node, since: *since, answer: oneshot::channel().0 })
    };
    let begins: BTreeMap<_, _> = asked.iter().map(begin).collect();
    let mut group = Group::new(database.clone());
    let answered = group.begun(&begins).await.unwrap();
    drop(group.line.take());
    let read = group.read(BEGUN, parameters_of(&begins)).await.unwrap();
    [answered, read.iter().map(begun).collect()]
}
