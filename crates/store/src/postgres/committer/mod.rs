//! Commits in groups. Each of a few committers takes every batch that waits, holds what they need in one trip, judges them in our
//! process, and writes what is left of them in a second trip. Nothing is acknowledged but by a `COMMIT` without a warning, and none
//! is ever cancelled: what became of one whose answer is lost is learned from its mark.

mod trips;

use std::sync::Arc;
use std::time::Duration;

use base::caps;
use base::measure::{Histogram, Stopwatch};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::SqlState;

use self::trips::{Fate, Held};
use super::database::{Database, no_answer};
use super::failure::{Kind, kind};
use super::line::{Line, Step};
use crate::batch::{Batch, Committed, Counter};
use crate::error::{CommitError, StoreError};
use crate::judge::{Needs, State};
use crate::queue::Queue;
use crate::record::Revision;

type Outcome = Result<Committed, CommitError>;

/// Steps of a transaction beside what is judged, made anew at each attempt.
pub(super) type More<'s> = &'s (dyn Fn() -> Vec<Step<'s>> + Send + Sync);

pub(super) struct Request {
    batch: Batch,
    bytes: usize,
    answer: oneshot::Sender<Outcome>,
}

impl Request {
    pub(super) fn new(batch: Batch) -> (Self, oneshot::Receiver<Outcome>) {
        let (answer, answered) = oneshot::channel();
        (Self { bytes: batch.bytes(), batch, answer }, answered)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What all committers of one store share.
pub(super) struct Desk {
    pub(super) database: Database,
    pub(super) queue: Queue<Request>,
    /// How long it took what was committed together to become durable.
    pub(super) syncs: Arc<Histogram>,
    /// The greatest id of the outbox that this store wrote.
    pub(super) outbox: watch::Sender<u64>,
}

pub(super) struct Committer {
    desk: Arc<Desk>,
    slot: i32,
    line: Option<Line>,
}

/// What came of one attempt at a group.
enum Attempt {
    Judged(Vec<Outcome>),
    /// Nothing was kept, and the same may succeed.
    Again(String),
    /// Nothing was kept.
    Failed(StoreError),
    /// It was not learned in time.
    Unknown(String),
}

impl Committer {
    pub(super) fn new(desk: Arc<Desk>, slot: i32) -> Self {
        Self { desk, slot, line: None }
    }

    /// Until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        let desk = Arc::clone(&self.desk);
        while let Some(requests) =
            desk.queue.taken(caps::COMMIT_BATCHES_MAX, caps::COMMIT_GROUP_BYTES_MAX).await
        {
            let batches: Vec<&Batch> = requests.iter().map(|request| &request.batch).collect();
            let outcomes = self.group(&batches).await;
            for (request, outcome) in requests.into_iter().zip(outcomes) {
                // An asker that has gone needs no answer.
                let _ = request.answer.send(outcome);
            }
        }
    }

    /// One batch, in one transaction with more: steps that come first, and whose failure is the batch's.
    pub(super) async fn with(&mut self, batch: &Batch, more: More<'_>) -> Outcome {
        let tried = self.tries(&[batch], Some(more), caps::COMMIT_JUDGED_MAX).await;
        let busy = || Err(StoreError::Unavailable("what it leans on is another's".into()).into());
        tried.and_then(|outcomes| outcomes.into_iter().next()).unwrap_or_else(busy)
    }

    /// Together; one by one where others are too often faster, or one of them cannot be kept.
    async fn group(&mut self, batches: &[&Batch]) -> Vec<Outcome> {
        if let Some(outcomes) = self.tries(batches, None, caps::COMMIT_JUDGED_MAX).await {
            return outcomes;
        }
        let mut outcomes = Vec::with_capacity(batches.len());
        for batch in batches {
            let alone = self.tries(std::slice::from_ref(batch), None, caps::COMMIT_JUDGED_ALONE_MAX).await;
            let busy = || vec![Err(StoreError::Unavailable("others were faster too often".into()).into())];
            outcomes.extend(alone.unwrap_or_else(busy));
        }
        outcomes
    }

    /// None when they are to be tried one by one.
    async fn tries(
        &mut self,
        batches: &[&Batch],
        more: Option<More<'_>>,
        tries_max: usize,
    ) -> Option<Vec<Outcome>> {
        let all = |error: StoreError| Some(batches.iter().map(|_| Err(error.clone().into())).collect());
        for _ in 0..tries_max {
            match self.attempt(batches, more).await {
                Attempt::Judged(outcomes) => return Some(outcomes),
                Attempt::Again(why) => {
                    tracing::debug!(batches = batches.len(), "a group is judged again: {why}");
                }
                // One of them asks for what the database cannot hold, and only that one may fail of it.
                Attempt::Failed(StoreError::Refused(_)) if batches.len() > 1 => return None,
                Attempt::Failed(error) => {
                    tracing::error!(%error, batches = batches.len(), "a group commit failed");
                    return all(error);
                }
                Attempt::Unknown(why) => {
                    tracing::error!(batches = batches.len(), "what became of a group is not known: {why}");
                    return all(StoreError::Unknown(why));
                }
            }
        }
        None
    }

    async fn attempt(&mut self, batches: &[&Batch], more: Option<More<'_>>) -> Attempt {
        if self.line.is_none() {
            match self.desk.database.line(self.slot).await {
                Ok(line) => self.line = Some(line),
                Err(error) => return Attempt::Failed(error),
            }
        }
        let deadline = Instant::now() + Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
        let needs = Needs::of(batches.iter().copied());
        let held = match self.hold(&needs, deadline).await {
            Ok(held) => held,
            Err(attempt) => return attempt,
        };
        if let Some(missing) = held.uncounted(&needs) {
            return self.begin_to_count(&missing, deadline).await;
        }
        let mut state = held.state(&needs);
        let mut outcomes = Vec::with_capacity(batches.len());
        for (batch, revision) in batches.iter().zip(held.revision..) {
            let judged = state.judge(batch, revision);
            outcomes.push(judged.map(|()| Committed { revision: Revision(revision) }));
        }
        self.keep(&state, more, outcomes, deadline).await
    }

    /// The first trip. After it, nothing that the batches need can change until the end.
    async fn hold(&mut self, needs: &Needs<'_>, deadline: Instant) -> Result<Held, Attempt> {
        let Some(line) = &mut self.line else { return Err(Attempt::Failed(no_answer())) };
        let fault = self.desk.database.config.fault;
        match timeout_at(deadline, trips::hold(line, self.desk.database.node, self.slot, needs, fault)).await
        {
            Ok(Ok(held)) => Ok(held),
            // Somebody moved the mark; the next line begins behind it.
            Ok(Err(error)) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
                self.line = None;
                Err(Attempt::Again("the mark was moved".into()))
            }
            // No `COMMIT` was sent, so nothing was kept for certain.
            Ok(Err(error)) => Err(self.refused(error, deadline).await),
            Err(_) => {
                self.line = None;
                Err(Attempt::Failed(no_answer()))
            }
        }
    }

    /// The second trip, when there is anything to write.
    async fn keep(
        &mut self,
        state: &State<'_>,
        more: Option<More<'_>>,
        outcomes: Vec<Outcome>,
        deadline: Instant,
    ) -> Attempt {
        let (node, slot, fault) = (self.desk.database.node, self.slot, self.desk.database.config.fault);
        let Some(line) = &mut self.line else { return Attempt::Failed(no_answer()) };
        let mut steps = more.map(|more| more()).unwrap_or_default();
        steps.extend(trips::writes(state).unwrap_or_default());
        // A batch that brings more is alone: what was refused of it is refused with all of that.
        if steps.is_empty() || (more.is_some() && outcomes.iter().any(Result::is_err)) {
            self.roll_back(deadline).await;
            return Attempt::Judged(outcomes);
        }
        let group_no = line.group_no + 1;
        let watch = Stopwatch::start();
        let sent = timeout_at(deadline, trips::keep(line, &mut steps, fault)).await;
        let fate = sent.unwrap_or_else(|_| Fate::Unknown("the database did not answer in time".into()));
        let why = match fate {
            Fate::Kept(outbox) => {
                line.group_no = group_no;
                self.desk.syncs.observe(watch.elapsed());
                self.told(outbox);
                return Attempt::Judged(outcomes);
            }
            Fate::Refused(error) => return self.refused(error, deadline).await,
            Fate::Unknown(why) => why,
        };
        // Dropped, not cancelled: a commit that waits for its standby would be cut short and called a success.
        self.line = None;
        tracing::warn!(node, slot, group_no, "a commit has no answer that counts: {why}");
        match self.desk.database.resolve(slot, group_no).await {
            Some(true) => {
                self.told(None);
                Attempt::Judged(outcomes)
            }
            Some(false) => Attempt::Again(why),
            None => Attempt::Unknown(why),
        }
    }

    /// Whoever waits for the outbox looks, also when it is not known which ids were given.
    fn told(&self, outbox: Option<u64>) {
        self.desk.outbox.send_modify(|last| *last = outbox.unwrap_or(*last).max(*last));
    }

    /// After a statement that the database refused: nothing of the transaction is left.
    async fn refused(&mut self, error: tokio_postgres::Error, deadline: Instant) -> Attempt {
        let kind = kind(&error);
        let described = StoreError::from(error);
        if kind == Kind::Gone {
            self.line = None;
            return Attempt::Again(described.to_string());
        }
        self.roll_back(deadline).await;
        match kind {
            Kind::Again => Attempt::Again(described.to_string()),
            _ => Attempt::Failed(described),
        }
    }

    async fn roll_back(&mut self, deadline: Instant) {
        let Some(line) = &self.line else { return };
        if !timeout_at(deadline, line.roll_back()).await.unwrap_or(false) {
            self.line = None;
        }
    }

    /// Begins to keep numbers of records that were only countable so far; the group is judged again over them.
    async fn begin_to_count(&mut self, missing: &[&Counter], deadline: Instant) -> Attempt {
        self.roll_back(deadline).await;
        let Some(line) = &mut self.line else { return Attempt::Again("the connection ended".into()) };
        match timeout_at(deadline, trips::begin_to_count(line, missing)).await {
            Ok(Ok(())) => Attempt::Again("records are counted from now on".into()),
            Ok(Err(error)) => self.refused(error, deadline).await,
            Err(_) => {
                self.line = None;
                Attempt::Failed(no_answer())
            }
        }
    }
}
