//! Whose query runs next. A query first runs as a short one, with a budget; one that needs more gives its place back and asks for
//! one of the fewer places for long queries, of which nobody has more than a share. So whoever asks for little is answered soon,
//! whatever others ask for. Used by `compiled`.

use std::collections::VecDeque;
use std::sync::Arc;

use base::{InstanceId, caps};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::StoreError;

/// Who shares: a caller in an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    instance: InstanceId,
    caller: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Short,
    Long,
}

pub(crate) struct Turns(Arc<Shared>);

struct Shared {
    places: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Vec<(Asker, Length)>,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    asker: Asker,
    length: Length,
    place: oneshot::Sender<Turn>,
}

/// A place, for as long as it is held.
pub(crate) struct Turn {
    shared: Arc<Shared>,
    asker: Asker,
    length: Length,
}

impl Asker {
    pub(crate) fn new(instance: &InstanceId, caller: &str) -> Self {
        Self { instance: instance.clone(), caller: caller.to_owned() }
    }

    pub(crate) fn instance(&self) -> &InstanceId {
        &self.instance
    }
}

impl Turns {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Shared { places, state: Mutex::default() }))
    }

    /// Waits for a place. Who stops waiting is forgotten.
    pub(crate) async fn take(&self, asker: &Asker, length: Length) -> Result<Turn, StoreError> {
        let (place, given) = oneshot::channel();
        {
            let mut state = self.0.state.lock();
            state.waiting.retain(|waiting| !waiting.place.is_closed());
            let own = state.waiting.iter().filter(|waiting| waiting.asker == *asker).count();
            if own >= caps::QUERIES_WAITING_PER_CALLER_MAX || state.waiting.len() >= caps::QUERIES_WAITING_MAX
            {
                return Err(StoreError::Busy);
            }
            state.waiting.push_back(Waiting { asker: asker.clone(), length, place });
        }
        Shared::give(&self.0);
        given.await.map_err(|_| StoreError::Closed)
    }
}

impl Turns {
    /// How many run and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.0.state.lock();
        let waiting = state.waiting.iter().filter(|waiting| !waiting.place.is_closed());
        (state.running.len(), waiting.count())
    }
}

impl Shared {
    /// Gives free places to those who wait.
    fn give(shared: &Arc<Self>) {
        loop {
            let mut state = shared.state.lock();
            let Some(next) = state.next(shared.places) else { return };
            let Some(Waiting { asker, length, place }) = state.waiting.remove(next) else { return };
            if place.is_closed() {
                continue;
            }
            state.running.push((asker.clone(), length));
            drop(state);
            // Should it have gone just now, its turn comes back and is dropped here, which gives the place on.
            let turn = Turn { shared: Arc::clone(shared), asker, length };
            let gone = place.send(turn);
            drop(gone);
        }
    }
}

impl State {
    /// Of those who may run: short ones first, then whose caller has fewest places, then who came first.
    fn next(&self, places: usize) -> Option<usize> {
        if self.running.len() >= places {
            return None;
        }
        let long_max = (places - 1).max(1);
        let share = (long_max / 2).max(1);
        let count = |asker: Option<&Asker>, length: Option<Length>| {
            let is_counted = |(of, is): &&(Asker, Length)| {
                asker.is_none_or(|asker| asker == of) && length.is_none_or(|length| length == *is)
            };
            self.running.iter().filter(is_counted).count()
        };
        let may_run = |waiting: &Waiting| {
            waiting.length == Length::Short
                || (count(None, Some(Length::Long)) < long_max
                    && count(Some(&waiting.asker), Some(Length::Long)) < share)
        };
        let rank = |waiting: &Waiting| (waiting.length == Length::Long, count(Some(&waiting.asker), None));
        let able = self.waiting.iter().enumerate().filter(|(_, waiting)| may_run(waiting));
        able.min_by_key(|(at, waiting)| (rank(waiting), *at)).map(|(at, _)| at)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state.lock();
            let own = (self.asker.clone(), self.length);
            if let Some(at) = state.running.iter().position(|running| *running == own) {
                state.running.swap_remove(at);
            }
        }
        Shared::give(&self.shared);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asker(caller: &str) -> Asker {
        Asker::new(&InstanceId::from_stored("i"), caller)
    }

    async fn take(turns: &Turns, caller: &str, length: Length) -> Turn {
        let asker = asker(caller);
        let taken = turns.take(&asker, length);
        tokio::time::timeout(Duration::from_secs(10), taken).await.expect("a place becomes free").unwrap()
    }

    /// Whether a place is given without anything else happening.
    fn is_given(turns: &Turns, caller: &str, length: Length) -> bool {
        let asker = asker(caller);
        let taken = std::pin::pin!(turns.take(&asker, length));
        matches!(
            taken.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())),
            std::task::Poll::Ready(Ok(_))
        )
    }

    #[tokio::test]
    async fn long_queries_leave_a_place_to_short_ones_and_a_share_to_other_callers() {
        let turns = Turns::new(3);
        let first = take(&turns, "a", Length::Long).await;
        assert!(!is_given(&turns, "a", Length::Long), "its share is used up");
        assert!(is_given(&turns, "b", Length::Long));
        let second = take(&turns, "b", Length::Long).await;
        assert!(!is_given(&turns, "c", Length::Long), "the last place is for short ones");
        assert!(is_given(&turns, "c", Length::Short) && is_given(&turns, "a", Length::Short));
        drop(first);
        assert!(is_given(&turns, "c", Length::Long));
        drop(second);
        assert!(turns.0.state.lock().running.is_empty());
    }

    #[tokio::test]
    async fn a_place_goes_to_the_short_query_of_the_caller_who_has_fewest() {
        let turns = Turns::new(2);
        let held = take(&turns, "a", Length::Short).await;
        let last = take(&turns, "a", Length::Short).await;
        let order = Mutex::new(Vec::new());
        let wait = async |caller: &str, length: Length| {
            let turn = take(&turns, caller, length).await;
            order.lock().push(format!("{caller} {length:?}"));
            drop(turn);
        };
        let go = async move { drop(last) };
        tokio::join!(
            biased;
            wait("b", Length::Long),
            wait("a", Length::Short),
            wait("b", Length::Short),
            go
        );
        assert_eq!(*order.lock(), ["b Short", "a Short", "b Long"]);
        drop(held);
    }

    #[tokio::test]
    async fn who_leaves_while_waiting_or_running_leaves_the_place_to_the_next() {
        let turns = Turns::new(1);
        let held = take(&turns, "a", Length::Short).await;
        assert!(!is_given(&turns, "b", Length::Short), "and does not wait any more");
        drop(held);
        drop(take(&turns, "c", Length::Long).await);
        assert!(turns.0.state.lock().running.is_empty());
    }

    #[tokio::test]
    async fn one_caller_cannot_fill_the_room_in_which_all_wait() {
        let turns = Turns::new(1);
        let _held = take(&turns, "a", Length::Short).await;
        let asker_a = asker("a");
        let mut waiting: Vec<_> = (0..caps::QUERIES_WAITING_PER_CALLER_MAX)
            .map(|_| Box::pin(turns.take(&asker_a, Length::Short)))
            .collect();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.iter_mut().all(|one| one.as_mut().poll(&mut context).is_pending()));
        assert!(matches!(turns.take(&asker_a, Length::Short).await, Err(StoreError::Busy)));
        let asker_b = asker("b");
        let mut other = Box::pin(turns.take(&asker_b, Length::Short));
        assert!(other.as_mut().poll(&mut context).is_pending());
    }
}
