//! What one run is made of: the database, which outlives every house, the house that is up, time, chance, and what was noted.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Elapsed};
use fastrand::Rng;
use parking_lot::Mutex;
use store::memory::{Database, Odds};
use tokio::sync::watch;

use crate::graph;
use crate::house::House;

/// Time passes in such steps, whenever nobody has anything to do.
const STEP: Duration = Duration::from_millis(20);
/// A house that has not answered by then never will.
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    rng: Mutex<Rng>,
    house: watch::Sender<Option<Arc<House>>>,
    until: Elapsed,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    all: Vec<String>,
    sum: u64,
    fault: Option<String>,
}

/// What became of what was asked for.
pub(crate) enum Outcome<T, E> {
    Answered(Result<T, E>),
    /// The house went before it answered.
    Cut,
}

impl<T, E> Outcome<T, E> {
    pub(crate) fn ok(self) -> Option<T> {
        match self {
            Self::Answered(Ok(value)) => Some(value),
            _ => None,
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, length: Duration) -> Arc<Self> {
        let clock = Clock::manual("2026-01-02T03:04:05Z".parse().expect("a time"));
        let database = Database::hostile(clock.clone(), seed, Odds::NONE);
        Arc::new(Self {
            until: clock.elapsed().plus(length),
            database,
            clock,
            rng: Mutex::new(Rng::with_seed(seed)),
            house: watch::Sender::new(None),
            notes: Mutex::default(),
        })
    }

    /// For the chance of one who acts.
    pub(crate) fn fork(&self) -> Rng {
        self.rng.lock().fork()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.clock.elapsed() >= self.until || self.fault().is_some()
    }

    pub(crate) async fn pass_time(&self) {
        loop {
            tokio::time::sleep(STEP).await;
            self.clock.advance(STEP);
        }
    }

    pub(crate) async fn pause(&self, rng: &mut Rng, longest_ms: u64) {
        self.clock.sleep(Duration::from_millis(rng.u64(1..=longest_ms))).await;
    }

    pub(crate) async fn house(&self) -> Arc<House> {
        let mut house = self.house.subscribe();
        let up = house.wait_for(Option::is_some).await.expect("the world is there");
        Arc::clone(up.as_ref().expect("it was waited for"))
    }

    /// By which the house that is up is known among all that there were.
    pub(crate) fn node(&self) -> Option<u32> {
        self.house.borrow().as_ref().map(|house| house.store.node().number)
    }

    /// Until one stands; a start that fails is made again, as a process would be.
    pub(crate) async fn open_house(&self) {
        loop {
            match House::open(&self.database, &self.clock).await {
                Ok(house) => {
                    self.compile(&house).await;
                    self.note(&format!("a house is up on node {}", house.store.node().number));
                    return drop(self.house.send_replace(Some(Arc::new(house))));
                }
                Err(why) => self.note(&format!("a house did not come up: {why}")),
            }
            self.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Models are compiled on another thread, which chance does not rule: while nobody else has anything to do.
    async fn compile(&self, house: &House) {
        let odds = self.database.set_odds(Odds::NONE);
        tokio::time::sleep(Duration::from_millis(1)).await;
        graph::refused(house).await;
        self.database.set_odds(odds);
    }

    /// Nobody reaches the house any more, and whoever has it kills it, now or later.
    pub(crate) fn leave_house(&self) -> Option<Arc<House>> {
        let house = self.house.send_replace(None)?;
        self.note(&format!("the house on node {} is out of reach", house.store.node().number));
        Some(house)
    }

    /// Asks the house that is up, and notes what it said.
    pub(crate) async fn ask<T, E: std::fmt::Debug>(
        &self,
        what: impl Into<String>,
        ask: impl AsyncFnOnce(&House) -> Result<T, E>,
    ) -> Outcome<T, E> {
        let (what, house) = (what.into(), self.house().await);
        let mut up = self.house.subscribe();
        let went = up.wait_for(|up| !up.as_ref().is_some_and(|up| Arc::ptr_eq(up, &house)));
        let outcome = tokio::select! {
            biased;
            _ = went => Outcome::Cut,
            answer = tokio::time::timeout(PATIENCE, ask(&house)) => {
                if answer.is_err() {
                    self.fail(format!("{what} was never answered"));
                }
                answer.map_or(Outcome::Cut, Outcome::Answered)
            }
        };
        match &outcome {
            Outcome::Answered(Ok(_)) => self.note(&format!("{what}: yes")),
            Outcome::Answered(Err(error)) => self.note(&format!("{what}: {error:?}")),
            Outcome::Cut => self.note(&format!("{what}: cut off")),
        }
        outcome
    }

    /// Asks until the answer is yes.
    pub(crate) async fn insist<T, E: std::fmt::Debug>(
        &self,
        what: impl Into<String>,
        ask: impl AsyncFn(&House) -> Result<T, E>,
    ) -> T {
        let what = what.into();
        loop {
            if let Some(value) = self.ask(what.clone(), &ask).await.ok() {
                return value;
            }
            self.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn note(&self, what: &str) {
        let at = self.clock.elapsed().ticks() / 10_000;
        let line = format!("{at:>6} ms  {what}");
        let mut notes = self.notes.lock();
        notes.sum = notes.sum.rotate_left(7) ^ u64::from(crc32c::crc32c(line.as_bytes()));
        notes.all.push(line);
    }

    /// The first fault is the one that is told.
    pub(crate) fn fail(&self, why: String) {
        self.note(&format!("WRONG: {why}"));
        self.notes.lock().fault.get_or_insert(why);
    }

    pub(crate) fn fault(&self) -> Option<String> {
        self.notes.lock().fault.clone()
    }

    /// A number for all that happened.
    pub(crate) fn sum(&self) -> u64 {
        let notes = self.notes.lock();
        notes.sum ^ self.database.sum()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().all.clone()
    }
}
