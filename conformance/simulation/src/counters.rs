//! Counters that count no records: many add to one at once, some too much. Of batches that are committed together the one in the middle
//! is refused and leaves nothing behind, and its neighbours stand.

use std::sync::Arc;

use base::InstanceId;
use parking_lot::Mutex;
use store::{Batch, CommitError, Counter};

use crate::house::House;
use crate::world::{Outcome, World};

/// More than all who act add together.
const MAX: i64 = 100_000;

/// How much was added for certain, and how much perhaps.
#[derive(Default)]
pub(crate) struct Added {
    certain: i64,
    perhaps: i64,
}

pub(crate) type Shared = Arc<Mutex<Added>>;

fn counter(name: &str) -> Counter {
    Counter::new(&InstanceId::from_stored("counters-simulated"), name)
}

fn one() -> Batch {
    let mut batch = Batch::default();
    batch.add(counter("sum"), 1, MAX);
    batch
}

/// Its first part would hold.
fn too_much() -> Batch {
    let mut batch = Batch::default();
    batch.add(counter("never"), 1, MAX);
    batch.add(counter("sum"), MAX + 1, MAX);
    batch
}

pub(crate) async fn add(world: Arc<World>, added: Shared) {
    let mut rng = world.fork();
    while !world.is_over() {
        world.pause(&mut rng, 400).await;
        let asked = world.ask("add to a counter", async |house| Ok::<_, CommitError>(add_three(house).await));
        let outcome = asked.await;
        let mut added = added.lock();
        let Outcome::Answered(Ok((first, middle, last))) = outcome else {
            added.perhaps += 2;
            continue;
        };
        for outcome in [first, last] {
            match outcome {
                Ok(()) => added.certain += 1,
                Err(CommitError::Store(_)) => added.perhaps += 1,
                Err(error) => world.fail(format!("one more was refused: {error:?}")),
            }
        }
        if middle.is_ok() {
            world.fail("more was added than the counter takes".to_owned());
        }
    }
}

type Told = Result<(), CommitError>;

async fn add_three(house: &House) -> (Told, Told, Told) {
    let commit = async |batch| house.store.commit(batch).await.map(drop);
    tokio::join!(commit(one()), commit(too_much()), commit(one()))
}

pub(crate) async fn check(world: &World, added: &Shared) {
    let count = async |name| {
        world.insist(format!("count {name}"), async |house| house.store.counter(&counter(name)).await).await
    };
    let (sum, never) = (count("sum").await, count("never").await);
    let added = added.lock();
    if never != 0 || sum < added.certain || sum > added.certain + added.perhaps {
        let Added { certain, perhaps } = *added;
        world.fail(format!(
            "{certain} were added, perhaps {perhaps} more; there are {sum}, and {never} that were refused"
        ));
    }
}
