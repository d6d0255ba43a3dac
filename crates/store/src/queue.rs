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
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    sleeping: usize,
    closed: bool,
}

/// An item that was not taken, and why.
pub(crate) struct Rejected<T>(pub(crate) T, pub(crate) StoreError);

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), sleeping: 0, closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), room: Notify::new(), capacity }
    }

    pub(crate) fn push(&self, item: T) -> Result<(), Rejected<T>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Rejected(item, StoreError::Closed));
        }
        if state.items.len() >= self.capacity {
            return Err(Rejected(item, StoreError::Busy));
        }
        state.items.push_back(item);
        let wake = state.sleeping > 0;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
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
        state.closed || state.items.len() < self.capacity
    }

    /// Blocks until something waits and takes up to `max` in order; `None` once the queue is closed and empty.
    pub(crate) fn take(&self, max: usize) -> Option<Vec<T>> {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return None;
            }
            state.sleeping += 1;
            self.filled.wait(&mut state);
            state.sleeping -= 1;
        }
        let was_full = state.items.len() >= self.capacity;
        let count = state.items.len().min(max);
        let taken = state.items.drain(..count).collect();
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        Some(taken)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Refuses new items. What waits is still handed out.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
        self.room.notify_waiters();
    }
}
