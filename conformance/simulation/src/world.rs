//! What one run is made of: the database, which outlives every house, the houses that are up, the way between them, time, chance, and
//! what was noted.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Elapsed};
use fastrand::Rng;
use parking_lot::Mutex;
use store::memory::{Database, Odds};
use tokio::sync::watch;

use crate::graph;
use crate::house::House;
use crate::way::Way;

/// Time passes in such steps, whenever nobody has anything to do.
const STEP: Duration = Duration::from_millis(20);
/// A house that has not answered by then never will.
const PATIENCE: Duration = Duration::from_mins(5);

/// So many houses serve at once, each in its place.
pub(crate) const PLACES: usize = 2;

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    rng: Mutex<Rng>,
    houses: watch::Sender<[Option<Arc<House>>; PLACES]>,
    way: Arc<Way>,
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
        let mut rng = Rng::with_seed(seed);
        Arc::new(Self {
            until: clock.elapsed().plus(length),
            database,
            way: Arc::new(Way::new(clock.clone(), rng.fork())),
            clock,
            rng: Mutex::new(rng),
            houses: watch::Sender::default(),
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

    /// Any that is up.
    pub(crate) async fn house(&self) -> Arc<House> {
        let mut houses = self.houses.subscribe();
        let is_any = |houses: &[Option<Arc<House>>; PLACES]| houses.iter().any(Option::is_some);
        drop(houses.wait_for(is_any).await.expect("the world is there"));
        let up = self.houses();
        Arc::clone(&up[self.rng.lock().usize(0..up.len())])
    }

    /// All that are up.
    pub(crate) fn houses(&self) -> Vec<Arc<House>> {
        self.houses.borrow().iter().flatten().cloned().collect()
    }

    /// The house on this node, if it is up.
    pub(crate) fn house_on(&self, node: u32) -> Option<Arc<House>> {
        self.houses().into_iter().find(|house| house.number() == node)
    }

    /// Until one stands; a start that fails is made again, as a process would be.
    pub(crate) async fn open_house(&self, place: usize) {
        loop {
            let way = Arc::clone(&self.way);
            match House::open(&self.database, &self.clock, way).await {
                Ok(house) => {
                    self.compile(&house).await;
                    self.note(&format!("a house is up on node {}", house.number()));
                    return self.houses.send_modify(|houses| houses[place] = Some(Arc::new(house)));
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
    pub(crate) fn leave_house(&self, place: usize) -> Option<Arc<House>> {
        let mut left = None;
        self.houses.send_modify(|houses| left = houses[place].take());
        let house = left?;
        self.way.cut(house.number());
        self.note(&format!("the house on node {} is out of reach", house.number()));
        Some(house)
    }

    /// Every house is killed and stands again.
    pub(crate) async fn open_again(&self) {
        let places = self.houses.borrow().len();
        for place in 0..places {
            if let Some(house) = self.leave_house(place) {
                house.kill().await;
            }
            self.open_house(place).await;
        }
    }

    /// Asks one that is up, and notes what it said.
    pub(crate) async fn ask<T, E: std::fmt::Debug>(
        &self,
        what: impl Into<String>,
        ask: impl AsyncFnOnce(&House) -> Result<T, E>,
    ) -> Outcome<T, E> {
        let house = self.house().await;
        self.ask_this(&house, what, ask).await
    }

    pub(crate) async fn ask_this<T, E: std::fmt::Debug>(
        &self,
        house: &Arc<House>,
        what: impl Into<String>,
        ask: impl AsyncFnOnce(&House) -> Result<T, E>,
    ) -> Outcome<T, E> {
        let what = format!("{} at {}", what.into(), house.number());
        let mut up = self.houses.subscribe();
        let went = up.wait_for(|up| !up.iter().flatten().any(|up| Arc::ptr_eq(up, house)));
        let outcome = tokio::select! {
            biased;
            _ = went => Outcome::Cut,
            answer = tokio::time::timeout(PATIENCE, ask(house)) => {
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
