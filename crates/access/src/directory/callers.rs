//! Callers with what they may do, kept for `caps::GRANTS_CACHED_SECONDS` so that a request reads nothing.
//! Forgotten at every change made here, and when another node's is seen; the time is for a node that cannot see them.

use std::collections::HashMap;
use std::time::Duration;

use base::{Elapsed, caps};
use parking_lot::Mutex;

use crate::caller::Caller;

#[derive(Default)]
pub(super) struct Callers(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Counts the changes. What was read before one must not be kept after it.
    changes: u64,
    by_id: HashMap<String, (Elapsed, Holder)>,
}

/// Whoever holds roles: a principal of the directory, or an id that was given roles unseen.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) caller: Caller,
    pub(super) is_in_directory: bool,
}

impl Callers {
    pub(super) fn get(&self, object_id: &str, now: Elapsed) -> Option<Holder> {
        let kept = self.0.lock();
        kept.by_id.get(object_id).filter(|(until, _)| *until > now).map(|(_, holder)| holder.clone())
    }

    /// To be asked before reading what [`Self::keep`] is given.
    pub(super) fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    pub(super) fn keep(&self, object_id: &str, holder: Holder, changes: u64, now: Elapsed) {
        let mut kept = self.0.lock();
        if kept.changes != changes {
            return;
        }
        if kept.by_id.len() >= caps::CALLERS_CACHED_MAX {
            kept.by_id.clear();
        }
        let until = now.plus(Duration::from_secs(caps::GRANTS_CACHED_SECONDS));
        kept.by_id.insert(object_id.to_owned(), (until, holder));
    }

    pub(super) fn forget(&self) {
        let mut kept = self.0.lock();
        kept.changes += 1;
        kept.by_id.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let (callers, now) = (Callers::default(), Elapsed::START);
        let holder = || Holder { caller: Caller::system(), is_in_directory: true };
        let before = callers.changes();
        callers.keep("a", holder(), before, now);
        assert!(callers.get("a", now).is_some());
        callers.forget();
        callers.keep("a", holder(), before, now);
        assert!(callers.get("a", now).is_none());
    }

    #[test]
    fn the_number_of_callers_that_are_kept_is_bounded() {
        let (callers, now) = (Callers::default(), Elapsed::START);
        for id in 0..=caps::CALLERS_CACHED_MAX {
            let holder = Holder { caller: Caller::system(), is_in_directory: true };
            callers.keep(&id.to_string(), holder, callers.changes(), now);
        }
        assert!(callers.0.lock().by_id.len() <= caps::CALLERS_CACHED_MAX);
    }
}
