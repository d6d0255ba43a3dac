//! What is special to this engine: that it goes wrong where it is told to, by a seed, and never where the contract says no.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use base::{Clock, InstanceId, Timestamp};

use super::{Database, Odds};
use crate::{Batch, CommitError, Counter, OutboxEntry, Store, StoreError};

fn instance() -> InstanceId {
    InstanceId::from_stored("i")
}

fn counter() -> Counter {
    Counter::new(&instance(), "n")
}

/// Often wrong, and never slow: nobody moves the clock.
const ODDS: Odds = Odds { slow: 0, busy: 100, unavailable: 100, forgotten: 100, lost: 100, ..Odds::HOSTILE };

async fn outcomes(seed: u64) -> (Vec<Result<(), CommitError>>, i64) {
    let database = Database::hostile(Clock::manual(Timestamp::UNIX_EPOCH), seed, ODDS);
    let store = Store::on_memory(&database);
    let mut outcomes = Vec::new();
    for _ in 0..200 {
        let mut batch = Batch::default();
        batch.add(counter(), 1, i64::MAX);
        outcomes.push(store.commit(batch).await.map(drop));
    }
    database.set_odds(Odds::NONE);
    (outcomes, store.counter(&counter()).await.unwrap())
}

#[tokio::test]
async fn what_was_acknowledged_is_there_and_what_was_refused_is_not() {
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    let (outcomes, counted) = outcomes(seed).await;
    let count = |is: fn(&Result<(), CommitError>) -> bool| {
        i64::try_from(outcomes.iter().filter(|outcome| is(outcome)).count()).unwrap()
    };
    let acknowledged = count(Result::is_ok);
    let unknown = count(|outcome| matches!(outcome, Err(CommitError::Store(StoreError::Unknown(_)))));
    let refused = count(|outcome| {
        matches!(outcome, Err(CommitError::Store(StoreError::Busy | StoreError::Unavailable(_))))
    });
    assert_eq!(acknowledged + unknown + refused, 200);
    assert!(refused > 0 && unknown > 0);
    assert!((acknowledged..=acknowledged + unknown).contains(&counted), "{acknowledged} {unknown} {counted}");
}

#[tokio::test]
async fn a_seed_goes_wrong_in_the_same_way_again() {
    assert_eq!(outcomes(7).await, outcomes(7).await);
    assert_ne!(outcomes(7).await, outcomes(8).await);
}

#[tokio::test]
async fn outbox_ids_rise_by_key_and_not_across_keys() {
    let store = Store::on_memory(&Database::new(Clock::manual(Timestamp::UNIX_EPOCH)));
    for round in 0..4 {
        for key in ["a", "b", "c", "d", "e"] {
            let mut batch = Batch::default();
            let payload = vec![round];
            batch.outbox(OutboxEntry { instance: instance(), partition_key: key.into(), payload });
            store.commit(batch).await.unwrap();
        }
    }
    let rows = store.outbox(0, 100).await.unwrap();
    let of = |key: &str| -> Vec<u8> {
        rows.iter().filter(|row| row.partition_key == key).map(|row| row.payload[0]).collect()
    };
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(of(key), [0, 1, 2, 3]);
    }
    assert!(!rows.is_sorted_by_key(|row| row.payload[0]), "by their ids rows come in the order of commits");
}

#[tokio::test]
async fn a_store_that_is_cut_off_does_nothing_more_and_its_life_ends_in_time() {
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let database = Database::new(clock.clone());
    let (dead, living) = (Store::on_memory(&database), Store::on_memory(&database));
    database.cut_off(dead.node());
    assert_eq!(dead.counter(&counter()).await, Err(StoreError::Closed));
    assert!(living.sessions().lives(dead.node()).await.unwrap(), "others cannot know yet");
    for _ in 0..12 {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert!(!living.sessions().lives(dead.node()).await.unwrap());
    assert!(living.sessions().lives(living.node()).await.unwrap());
}
