//! What goes wrong, by a seed. The same seed over the same questions gives the same faults.

use std::time::Duration;

use base::Clock;
use fastrand::Rng;
use parking_lot::Mutex;

use crate::error::StoreError;

/// How often something goes wrong, in a thousand times.
#[derive(Clone, Copy, Debug)]
pub struct Odds {
    /// Others come first, a few times.
    pub others_first: u32,
    /// It takes some milliseconds.
    pub slow: u32,
    pub busy: u32,
    pub unavailable: u32,
    /// A change was made, and the answer is that nobody knows.
    pub forgotten: u32,
    /// A change was not made, and the answer is that nobody knows.
    pub lost: u32,
    /// A lease ends before its time, or part of what could be claimed is not given.
    pub lease_lost: u32,
    /// A store is not told of another's append, and has to look.
    pub untold: u32,
}

impl Odds {
    pub const NONE: Self = Self {
        others_first: 0,
        slow: 0,
        busy: 0,
        unavailable: 0,
        forgotten: 0,
        lost: 0,
        lease_lost: 0,
        untold: 0,
    };
    /// Everything is answered, in whatever order.
    pub const DISORDER: Self = Self { others_first: 600, slow: 60, untold: 500, ..Self::NONE };
    pub const HOSTILE: Self =
        Self { busy: 10, unavailable: 10, forgotten: 20, lost: 10, lease_lost: 30, ..Self::DISORDER };
}

pub(super) struct Faults {
    clock: Clock,
    state: Mutex<(Rng, Odds)>,
}

impl Faults {
    pub(super) fn new(clock: Clock, seed: u64, odds: Odds) -> Self {
        Self { clock, state: Mutex::new((Rng::with_seed(seed), odds)) }
    }

    pub(super) fn set(&self, odds: Odds) -> Odds {
        std::mem::replace(&mut self.state.lock().1, odds)
    }

    fn happens(&self, odds: impl Fn(&Odds) -> u32) -> bool {
        let (rng, all) = &mut *self.state.lock();
        let odds = odds(all);
        odds > 0 && rng.u32(0..1000) < odds
    }

    fn number(&self, below: u64) -> u64 {
        self.state.lock().0.u64(0..below.max(1))
    }

    /// Before anything is done. Whatever is refused was not done.
    pub(super) async fn before(&self) -> Result<(), StoreError> {
        self.after().await;
        if self.happens(|odds| odds.busy) {
            return Err(StoreError::Busy);
        }
        if self.happens(|odds| odds.unavailable) {
            return Err(StoreError::Unavailable("a fault that the test wants".into()));
        }
        Ok(())
    }

    /// Between what is done and the answer.
    pub(super) async fn after(&self) {
        if self.happens(|odds| odds.others_first) {
            for _ in 0..=self.number(4) {
                tokio::task::yield_now().await;
            }
        }
        if self.happens(|odds| odds.slow) {
            self.clock.sleep(Duration::from_millis(self.number(200))).await;
        }
    }

    pub(super) fn forgets(&self) -> bool {
        self.happens(|odds| odds.forgotten)
    }

    pub(super) fn loses(&self) -> bool {
        self.happens(|odds| odds.lost)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.happens(|odds| odds.busy)
    }

    pub(super) fn ends_a_lease(&self) -> bool {
        self.happens(|odds| odds.lease_lost)
    }

    pub(super) fn tells(&self) -> bool {
        !self.happens(|odds| odds.untold)
    }

    /// So many of what waits are taken together.
    pub(super) fn count(&self, most: usize) -> usize {
        if self.happens(|odds| odds.others_first) {
            1 + usize::try_from(self.number(most as u64)).unwrap_or_default()
        } else {
            most
        }
    }

    pub(super) fn shuffle<T>(&self, items: &mut [T]) {
        let (rng, odds) = &mut *self.state.lock();
        if odds.others_first > 0 {
            rng.shuffle(items);
        }
    }
}
