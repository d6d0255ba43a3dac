//! A bounded queue from many callers to a thread that takes everything waiting at once: the front of both group commits.
//! Callers never block; a thread may.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::error::StoreError;

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    room: Notify,
    /// For takers that may not block.
    arrived: Notify,
    capacity: usize,
    bytes_max: usize,
    weigh: fn(&T) -> usize,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    sleeping: usize,
    closed: bool,
}

/// An item that was not taken, and why.
pub(crate) struct Rejected<T>(pub(crate) T, pub(crate) StoreError);

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self::weighing(capacity, usize::MAX, |_| 0)
    }

    /// Full when it holds `capacity` items or, by `weigh`, `bytes_max` bytes, whichever comes first. The last item may
    /// go over that.
    pub(crate) fn weighing(capacity: usize, bytes_max: usize, weigh: fn(&T) -> usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, sleeping: 0, closed: false };
        let (state, filled, room, arrived) =
            (Mutex::new(state), Condvar::new(), Notify::new(), Notify::new());
        Self { state, filled, room, arrived, capacity, bytes_max, weigh }
    }

    fn is_full(&self, state: &State<T>) -> bool {
        state.items.len() >= self.capacity || state.bytes >= self.bytes_max
    }

    pub(crate) fn push(&self, item: T) -> Result<(), Rejected<T>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Rejected(item, StoreError::Closed));
        }
        if self.is_full(&state) {
            return Err(Rejected(item, StoreError::Busy));
        }
        state.bytes += (self.weigh)(&item);
        state.items.push_back(item);
        let wake = state.sleeping > 0;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for room first.
    pub(crate) async fn push_when_room(&self, mut item: T) -> Result<(), StoreError> {
        loop {
            // Listen before looking, so that room made in between is not missed.
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.push(item) {
                Ok(()) => return Ok(()),
                Err(Rejected(back, StoreError::Busy)) => item = back,
                Err(Rejected(_, error)) => return Err(error),
            }
            room.await;
        }
    }

    /// Resolves when an item could be taken, or the queue is closed.
    pub(crate) async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.closed || !self.is_full(&state)
    }

    /// Blocks until something waits; false once the queue is closed and empty.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return false;
            }
            state.sleeping += 1;
            self.filled.wait(&mut state);
            state.sleeping -= 1;
        }
        true
    }

    /// Blocks until something waits and takes up to `max` in order; `None` once the queue is closed and empty.
    pub(crate) fn take(&self, max: usize) -> Option<Vec<T>> {
        while self.wait() {
            let taken = self.take_now(max);
            // Another thread may have been sooner.
            if !taken.is_empty() {
                return Some(taken);
            }
        }
        None
    }

    /// Up to `max` of what waits now, in order.
    pub(crate) fn take_now(&self, max: usize) -> Vec<T> {
        self.take_waiting(max, usize::MAX).0
    }

    /// The same for a task: waits until something does, and takes no more than `bytes_max`, but for a single item.
    pub(crate) async fn taken(&self, max: usize, bytes_max: usize) -> Option<Vec<T>> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let (taken, is_closed) = self.take_waiting(max, bytes_max);
            if !taken.is_empty() {
                return Some(taken);
            }
            if is_closed {
                return None;
            }
            arrived.await;
        }
    }

    /// What waits now, and whether the queue is closed.
    fn take_waiting(&self, max: usize, bytes_max: usize) -> (Vec<T>, bool) {
        let mut state = self.state.lock();
        let was_full = self.is_full(&state);
        let (mut count, mut bytes) = (0, 0);
        for item in state.items.iter().take(max) {
            bytes += (self.weigh)(item);
            if count > 0 && bytes > bytes_max {
                break;
            }
            count += 1;
        }
        let taken: Vec<T> = state.items.drain(..count).collect();
        state.bytes = state.items.iter().map(self.weigh).sum();
        let (is_closed, is_left) = (state.closed, !state.items.is_empty());
        drop(state);
        if was_full && count > 0 {
            self.room.notify_waiters();
        }
        if is_left {
            self.arrived.notify_one();
        }
        (taken, is_closed)
    }

    /// Whether its thread sleeps until something comes, so that nothing waits and nothing that was taken is not done.
    pub(crate) fn is_slept_on(&self) -> bool {
        let state = self.state.lock();
        state.sleeping > 0 && state.items.is_empty() && !state.closed
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Refuses new items. What waits is still handed out.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
        self.arrived.notify_waiters();
        self.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_full_by_number_or_by_weight() {
        let queue = Queue::weighing(3, 10, |item: &usize| *item);
        assert!(queue.push(1).is_ok() && queue.push(1).is_ok() && queue.push(1).is_ok());
        assert!(!queue.has_room() && queue.push(0).is_err());
        assert_eq!(queue.take(2), Some(vec![1, 1]));
        assert!(queue.push(8).is_ok() && queue.has_room(), "nine bytes");
        assert_eq!(queue.take(usize::MAX), Some(vec![1, 8]));
        assert!(queue.push(10).is_ok());
        assert!(matches!(queue.push(0), Err(Rejected(0, StoreError::Busy))));
        assert_eq!(queue.take(usize::MAX), Some(vec![10]));
        assert!(queue.has_room());
    }

    #[tokio::test]
    async fn several_tasks_take_what_waits_by_weight_until_the_end() {
        let queue = Queue::weighing(100, 100, |item: &usize| *item);
        for item in [4, 4, 4, 20, 1] {
            assert!(queue.push(item).is_ok());
        }
        assert_eq!(queue.taken(10, 8).await, Some(vec![4, 4]));
        assert_eq!(queue.taken(1, 8).await, Some(vec![4]));
        assert_eq!(queue.taken(10, 8).await, Some(vec![20]), "larger than any group");
        let one = async { queue.taken(10, 8).await };
        let other = async { queue.taken(10, 8).await };
        let push = async {
            tokio::task::yield_now().await;
            assert!(queue.push(2).is_ok());
            tokio::task::yield_now().await;
            queue.close();
        };
        let (one, other, ()) = tokio::join!(one, other, push);
        assert_eq!((one, other), (Some(vec![1]), Some(vec![2])));
        assert_eq!(queue.taken(10, 8).await, None);
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken_when_the_weight_is_taken() {
        let queue = Queue::weighing(100, 10, |item: &usize| *item);
        assert!(queue.push(10).is_ok());
        let (waited, taken) = tokio::join!(queue.push_when_room(7), async { queue.take(usize::MAX) });
        assert_eq!((waited.is_ok(), taken), (true, Some(vec![10])));
        assert_eq!(queue.take(usize::MAX), Some(vec![7]));
    }
}
