//! Who waits for the end of a partition to move. Appends of this server tell it at once; those of others are seen by one question
//! each tenth of a second, for all partitions together and only while somebody waits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base::caps;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{Shared, sql, unsigned};
use crate::error::StoreError;
use crate::streams::StreamId;

#[derive(Default)]
pub(super) struct Tails {
    waited: Mutex<HashMap<(StreamId, u32), Tail>>,
    begun: Notify,
}

struct Tail {
    /// The stream by its number: one that was made anew under the same name has another.
    stream: i32,
    next: watch::Sender<u64>,
}

impl Tails {
    pub(super) fn wait(
        &self,
        stream: &StreamId,
        partition: u32,
        number: i32,
        next: u64,
    ) -> watch::Receiver<u64> {
        let mut waited = self.waited.lock();
        let key = (stream.clone(), partition);
        if waited.get(&key).is_some_and(|tail| tail.stream != number) {
            waited.remove(&key);
        }
        let tail = waited.entry(key).or_insert_with(|| Tail { stream: number, next: watch::channel(next).0 });
        let receiver = tail.next.subscribe();
        drop(waited);
        self.begun.notify_one();
        receiver
    }

    /// An append of this server.
    pub(super) fn moved(&self, stream: &StreamId, partition: u32, next: u64) {
        let waited = self.waited.lock();
        if let Some(tail) = waited.get(&(stream.clone(), partition)) {
            tail.tell(next);
        }
    }

    /// Ends the wait for a stream that this server removed.
    pub(super) fn removed(&self, stream: &StreamId) {
        self.waited.lock().retain(|(known, _), _| known != stream);
    }

    /// Partitions at which somebody still waits.
    fn live(&self) -> Vec<(StreamId, u32)> {
        let mut waited = self.waited.lock();
        waited.retain(|_, tail| !tail.next.is_closed());
        waited.keys().cloned().collect()
    }

    /// Tells what was found; who waits for what was not found waits in vain.
    fn told(&self, asked: &[(StreamId, u32)], found: &HashMap<usize, (i32, u64)>) {
        let mut waited = self.waited.lock();
        for (at, key) in asked.iter().enumerate() {
            match (waited.get(key), found.get(&at)) {
                (Some(tail), Some((stream, next))) if tail.stream == *stream => tail.tell(*next),
                _ => drop(waited.remove(key)),
            }
        }
    }
}

impl Tail {
    fn tell(&self, next: u64) {
        self.next.send_if_modified(|known| {
            let is_news = next > *known;
            *known = next.max(*known);
            is_news
        });
    }
}

/// Until the streams are gone.
pub(super) async fn poll(shared: Weak<Shared>) {
    let pause = Duration::from_millis(caps::STREAM_POLL_MILLIS);
    loop {
        let Some(held) = shared.upgrade() else { return };
        let asked = held.tails.live();
        if !asked.is_empty()
            && let Err(error) = ask(&held, &asked).await
        {
            tracing::debug!(%error, "the ends of streams could not be read");
        }
        let tails = Arc::clone(&held.tails);
        drop(held);
        if asked.is_empty() {
            // Woken for nothing now and then, to see whether the streams are still there.
            let _ = tokio::time::timeout(pause * 10, tails.begun.notified()).await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn ask(shared: &Shared, asked: &[(StreamId, u32)]) -> Result<(), StoreError> {
    let part = |of: fn((&str, &str)) -> String| -> Vec<Cow<'static, str>> {
        asked.iter().map(|(stream, _)| Cow::Owned(of(stream.parts()))).collect()
    };
    let (instances, names) = (part(|parts| parts.0.to_owned()), part(|parts| parts.1.to_owned()));
    let partitions: Vec<i64> = asked.iter().map(|(_, partition)| i64::from(*partition)).collect();
    let wait = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
    let rows = shared.postgres.rows(sql::TAILS, &[&instances, &names, &partitions], wait).await?;
    let found = rows.iter().map(|row| {
        let at = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
        (at, (row.get(1), unsigned(row.get(2))))
    });
    shared.tails.told(asked, &found.collect());
    Ok(())
}
