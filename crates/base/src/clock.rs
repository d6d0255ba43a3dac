//! Time as a value that is passed in. The only module that reads the system's clocks, of which there are two: the wall clock,
//! which someone may set, and the monotonic one, which nobody can. A manual clock, or an offset on the real ones, lets tests
//! move time instead of sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::caps;
use crate::timestamp::{Timestamp, ticks_of};

/// A moment of the monotonic clock: for deadlines and for how long something took. Means nothing in another process, so it is
/// never stored, sent or shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Elapsed(i64);

impl Elapsed {
    /// When the clock was made.
    pub const START: Self = Self(0);

    pub const fn from_ticks(ticks: i64) -> Self {
        Self(ticks)
    }

    /// Ticks of 100 ns since the clock was made.
    pub const fn ticks(self) -> i64 {
        self.0
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(ticks_of(duration)))
    }

    /// Time from `earlier` to `self`; zero when `earlier` lies later.
    pub fn since(self, earlier: Self) -> Duration {
        Timestamp::from_ticks(self.0).since(Timestamp::from_ticks(earlier.0))
    }
}

/// The clock of one process. Clones share it.
///
/// [`Self::elapsed`] is for everything that waits or measures. [`Self::now`] is for what others judge by their own clocks: tokens,
/// certificates, answers. [`Self::stamp`] is for what is stored in an order, and [`Self::forgetting_time`] for what ends by age.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    /// By how much tests moved both clocks, and the wall clock alone.
    passed_ticks: AtomicI64,
    stepped_ticks: AtomicI64,
    moved: Notify,
    wall: Mutex<Wall>,
}

#[derive(Debug)]
enum Source {
    System {
        start: Instant,
    },
    /// Stands still.
    Manual {
        start: Timestamp,
    },
}

/// How the wall clock goes against the monotonic one. Offsets are ticks of the one less those of the other.
#[derive(Debug)]
struct Wall {
    /// Where stamps take it to be.
    offset: i64,
    /// Where it stands since a step, and since when.
    elsewhere: Option<(i64, Elapsed)>,
    steps: u64,
    last_step: Option<Elapsed>,
}

/// What the wall clock did against the monotonic one, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Since the clock was made.
    pub total: u64,
    /// How far the wall clock is ahead of the stamps; zero once they follow it.
    pub ahead_seconds: i64,
}

impl Clock {
    pub fn system() -> Self {
        Self::new(Source::System { start: system_start() })
    }

    /// A clock that moves only when told.
    pub fn manual(start: Timestamp) -> Self {
        Self::new(Source::Manual { start })
    }

    fn new(source: Source) -> Self {
        let wall = Wall { offset: 0, elsewhere: None, steps: 0, last_step: None };
        let clock = Self(Arc::new(Inner {
            source,
            passed_ticks: AtomicI64::new(0),
            stepped_ticks: AtomicI64::new(0),
            moved: Notify::new(),
            wall: Mutex::new(wall),
        }));
        clock.0.wall.lock().offset = clock.offset(clock.elapsed());
        clock
    }

    /// What the wall clock shows. It may be set at any moment, in either direction.
    pub fn now(&self) -> Timestamp {
        let base = match self.0.source {
            Source::System { .. } => system_now(),
            Source::Manual { start } => start,
        };
        let moved = &self.0;
        let ticks = base.ticks().saturating_add(moved.passed_ticks.load(Ordering::Relaxed));
        Timestamp::from_ticks(ticks.saturating_add(moved.stepped_ticks.load(Ordering::Relaxed)))
    }

    /// What the monotonic clock shows: it never goes back and cannot be set.
    pub fn elapsed(&self) -> Elapsed {
        let base = match self.0.source {
            Source::System { start } => Elapsed::START.plus(start.elapsed()),
            Source::Manual { .. } => Elapsed::START,
        };
        Elapsed(base.0.saturating_add(self.0.passed_ticks.load(Ordering::Relaxed)))
    }

    /// Wall time for what is stored: where the wall clock stepped, this follows only once it has stayed there for a while.
    pub fn stamp(&self) -> Timestamp {
        self.observe(|_, stamp| stamp)
    }

    /// Now, for whoever forgets what is older than some time; `None` while a step of the wall clock makes that doubtful.
    pub fn forgetting_time(&self) -> Option<Timestamp> {
        let pause = Duration::from_secs(caps::CLOCK_STEP_FORGETS_NOTHING_SECONDS);
        let elapsed = self.elapsed();
        self.observe(|wall, stamp| {
            let is_doubtful =
                wall.elsewhere.is_some() || wall.last_step.is_some_and(|step| elapsed.since(step) < pause);
            (!is_doubtful).then_some(stamp)
        })
    }

    pub fn steps(&self) -> Steps {
        self.observe(|wall, _| {
            let ahead = wall.elsewhere.map_or(0, |(offset, _)| offset.saturating_sub(wall.offset));
            Steps { total: wall.steps, ahead_seconds: Timestamp::from_ticks(ahead).unix_seconds() }
        })
    }

    /// Looks at both clocks, and gives what they say of the wall clock and the stamp of this moment.
    fn observe<T>(&self, say: impl FnOnce(&Wall, Timestamp) -> T) -> T {
        let mut wall = self.0.wall.lock();
        let elapsed = self.elapsed();
        wall.look(self.offset(elapsed), elapsed);
        let stamp = Timestamp::from_ticks(elapsed.0.saturating_add(wall.offset));
        say(&wall, stamp)
    }

    fn offset(&self, elapsed: Elapsed) -> i64 {
        self.now().ticks().saturating_sub(elapsed.0)
    }

    /// Lets time pass on both clocks, and wakes everyone who waits for it.
    pub fn advance(&self, by: Duration) {
        self.0.passed_ticks.fetch_add(ticks_of(by), Ordering::Relaxed);
        self.0.moved.notify_waiters();
    }

    /// Sets the wall clock, and nothing else, by so many seconds, as an operator or a time server may.
    pub fn step(&self, by_seconds: i64) {
        let ticks = Timestamp::from_unix_seconds(by_seconds).ticks();
        self.0.stepped_ticks.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Waits until so much time has passed since the clock was made, whatever the wall clock shows.
    pub async fn sleep_until(&self, deadline: Elapsed) {
        loop {
            let moved = self.0.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let now = self.elapsed();
            if now >= deadline {
                return;
            }
            if let Source::Manual { .. } = self.0.source {
                moved.await;
            } else {
                tokio::select! {
                    () = &mut moved => {}
                    () = tokio::time::sleep(deadline.since(now)) => {}
                }
            }
        }
    }

    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.elapsed().plus(duration)).await;
    }
}

impl Wall {
    fn look(&mut self, offset: i64, now: Elapsed) {
        if is_near(offset, self.offset) {
            // A wall clock that is led back to the right time bit by bit is followed.
            self.offset = offset;
            if self.elsewhere.take().is_some() {
                self.last_step = Some(now);
            }
            return;
        }
        let follow_after = Duration::from_secs(caps::CLOCK_STEP_FOLLOWED_SECONDS);
        match self.elsewhere {
            Some((there, since)) if is_near(offset, there) => {
                if now.since(since) >= follow_after {
                    (self.offset, self.elsewhere) = (offset, None);
                    self.last_step = Some(now);
                }
            }
            _ => {
                self.elsewhere = Some((offset, now));
                self.last_step = Some(now);
                self.steps += 1;
            }
        }
    }
}

fn is_near(offset: i64, other: i64) -> bool {
    let step = ticks_of(Duration::from_secs(caps::CLOCK_STEP_SECONDS));
    offset.abs_diff(other) <= step.unsigned_abs()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clocks")]
fn system_now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::UNIX_EPOCH.plus(since_epoch)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clocks")]
fn system_start() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_unix_seconds(1_000_000))
    }

    fn pass(clock: &Clock, seconds: u64) {
        clock.advance(Duration::from_secs(seconds));
    }

    #[tokio::test]
    async fn moving_a_manual_clock_wakes_a_sleeper() {
        let clock = clock();
        let sleeper = clock.clone();
        let slept = async move { sleeper.sleep(Duration::from_secs(60)).await };
        tokio::join!(slept, async { pass(&clock, 60) });
        assert_eq!(clock.now().unix_seconds(), 1_000_060);
    }

    #[tokio::test]
    async fn a_sleeper_cares_nothing_for_the_wall_clock() {
        let clock = clock();
        let sleeping = clock.sleep(Duration::from_secs(60));
        tokio::pin!(sleeping);
        for step in [400 * 24 * HOUR, -400 * 24 * HOUR, -2 * HOUR] {
            clock.step(step);
            assert!(look(sleeping.as_mut()).await.is_none(), "a step of {step} s");
        }
        pass(&clock, 60);
        assert!(look(sleeping.as_mut()).await.is_some());
    }

    /// What a future has after one look at it.
    async fn look<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[test]
    fn stamps_pass_over_a_wall_clock_that_is_wrong_for_a_moment() {
        for step in [400 * 24 * HOUR, -2 * HOUR, 61] {
            let clock = clock();
            clock.step(step);
            assert_eq!(clock.stamp().unix_seconds(), 1_000_000, "a step of {step} s");
            pass(&clock, 59);
            assert_eq!(clock.stamp().unix_seconds(), 1_000_059);
            clock.step(-step);
            pass(&clock, 59);
            assert_eq!(clock.stamp().unix_seconds(), 1_000_118);
            clock.step(step);
            assert_eq!(clock.stamp().unix_seconds(), 1_000_118, "the time before does not count");
        }
    }

    #[test]
    fn stamps_follow_a_wall_clock_that_stays_where_it_was_set() {
        for step in [56 * 365 * 24 * HOUR, -2 * HOUR] {
            let clock = clock();
            clock.step(step);
            assert_eq!(clock.steps(), Steps { total: 1, ahead_seconds: step });
            pass(&clock, 60);
            assert_eq!(clock.stamp(), clock.now(), "a step of {step} s");
            assert_eq!(clock.steps(), Steps { total: 1, ahead_seconds: 0 });
        }
    }

    #[test]
    fn a_wall_clock_that_is_led_is_followed_at_once_and_is_no_step() {
        let clock = clock();
        for _ in 0..100 {
            clock.step(60);
            assert_eq!(clock.stamp(), clock.now());
        }
        assert_eq!(clock.steps().total, 0);
        assert_eq!(clock.forgetting_time(), Some(clock.now()));
    }

    #[test]
    fn nothing_is_forgotten_for_an_hour_after_a_step_and_after_its_end() {
        let clock = clock();
        clock.step(3 * 24 * HOUR);
        assert_eq!(clock.forgetting_time(), None);
        pass(&clock, 59);
        clock.step(-3 * 24 * HOUR);
        assert_eq!(clock.forgetting_time(), None, "the wall clock has come back");
        pass(&clock, 3_599);
        assert_eq!(clock.forgetting_time(), None);
        pass(&clock, 1);
        assert_eq!(clock.forgetting_time(), Some(clock.now()));
    }
}
