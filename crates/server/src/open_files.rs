//! Every connection is an open file, and so is every segment of the log: connections must leave the store its share, for a store
//! without files stops everybody. Many systems start a program with room for 1024 although they allow far more.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, Elapsed, caps};
use store::Streams;
use tokio::net::TcpStream;

use crate::listeners::Kind;

/// Takes what the system allows, and gives it; `None` where there is no limit, or none that we know of.
#[cfg(unix)]
pub(crate) fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
            limit.current = before;
        }
    }
    limit.current
}

#[cfg(not(unix))]
pub(crate) fn raise_limit() -> Option<u64> {
    None
}

/// The most that a server can take without the system's leave.
#[cfg(unix)]
pub(crate) fn hard_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum
}

#[cfg(not(unix))]
pub(crate) fn hard_limit() -> Option<u64> {
    None
}

/// How many files the process may have open now.
#[cfg(unix)]
pub(crate) fn limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(unix))]
pub(crate) fn limit() -> Option<u64> {
    None
}

/// Decides which connections there are files for.
pub(crate) struct OpenFiles {
    limit: Option<u64>,
    streams: Streams,
    clock: Clock,
    /// Ticks of the last line that told of refusals, and refusals since.
    told_at: AtomicI64,
    untold: AtomicU64,
}

impl OpenFiles {
    pub(crate) fn new(limit: Option<u64>, streams: Streams, clock: Clock) -> Self {
        Self { limit, streams, clock, told_at: AtomicI64::new(i64::MIN), untold: AtomicU64::new(0) }
    }

    /// How many HTTP connections there may be: never more than half of all files, for devices need theirs.
    pub(crate) fn https_connections_max(&self) -> usize {
        let half = self.limit.and_then(|limit| usize::try_from(limit / 2).ok()).unwrap_or(usize::MAX);
        half.min(caps::HTTP_CONNECTIONS_MAX)
    }

    /// Whether a connection leaves enough for everybody else.
    pub(crate) fn has_room_for(&self, kind: Kind, stream: &TcpStream) -> bool {
        let Some(limit) = self.limit else { return true };
        // The system gives the lowest number that is free, so it tells how many files are open.
        number(stream) < room(limit, self.streams.open_files(), kind)
    }

    /// Notes that a connection was refused; tells of it once a minute.
    pub(crate) fn refuse(&self, kind: Kind) {
        let refused = self.untold.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.may_tell() {
            return;
        }
        self.untold.fetch_sub(refused, Ordering::Relaxed);
        tracing::warn!(
            refused,
            ?kind,
            limit_of_open_files = self.limit,
            "there are too many connections: new ones are closed at once (allow more open files with ulimit -n)"
        );
    }

    fn may_tell(&self) -> bool {
        let (now, told_at) = (self.clock.elapsed(), self.told_at.load(Ordering::Relaxed));
        let pause = Duration::from_secs(caps::REFUSALS_TOLD_SECONDS);
        let is_due = told_at == i64::MIN || now.since(Elapsed::from_ticks(told_at)) >= pause;
        let swap = |to| self.told_at.compare_exchange(told_at, to, Ordering::Relaxed, Ordering::Relaxed);
        is_due && swap(now.ticks()).is_ok()
    }
}

/// Below which number of open files a connection is taken. What is left is for the log to grow, for the records, and to accept
/// and close those who are refused. Devices stay for long, so the last eighth is for whoever comes to look what is wrong.
fn room(limit: u64, log_files: u64, kind: Kind) -> u64 {
    let reserve = (limit / 8).clamp(caps::FILES_RESERVED_MIN, caps::FILES_RESERVED_MAX);
    let room = limit.saturating_sub(reserve).saturating_sub(log_files);
    match kind {
        Kind::Https => room,
        Kind::Mqtt | Kind::MqttPlain => room - room / 8,
    }
}

#[cfg(unix)]
fn number(stream: &TcpStream) -> u64 {
    u64::try_from(std::os::fd::AsRawFd::as_raw_fd(stream)).unwrap_or(0)
}

#[cfg(not(unix))]
fn number(_: &TcpStream) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_store_its_share_and_devices_the_operator_his() {
        assert_eq!((room(1024, 1, Kind::Https), room(1024, 1, Kind::Mqtt)), (895, 784));
        assert_eq!(room(1024, 200, Kind::Https), 696, "a longer log takes more");
        assert_eq!(room(1_048_576, 0, Kind::Https), 1_048_576 - caps::FILES_RESERVED_MAX);
        assert_eq!(room(256, 0, Kind::Https), 256 - caps::FILES_RESERVED_MIN);
        assert_eq!(room(16, 100, Kind::Mqtt), 0);
    }
}
