//! What a service manager hears of us (`sd_notify(3)`): that the server is ready, that it still turns, that it ends. Told by
//! `serve`; without `NOTIFY_SOCKET` there is nobody to tell, and nothing happens.

#[cfg(unix)]
pub(crate) use unix::ServiceManager;

#[cfg(not(unix))]
pub(crate) struct ServiceManager;

#[cfg(not(unix))]
impl ServiceManager {
    pub(crate) fn of_environment() -> Self {
        Self
    }

    pub(crate) fn ready(&self, _: &base::tasks::Tasks) {}

    pub(crate) fn stopping(&self) {}
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsString;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::sync::Arc;
    use std::time::Duration;

    use base::tasks::Tasks;

    /// A socket with the address of the manager's.
    struct Line {
        socket: UnixDatagram,
        address: SocketAddr,
    }

    impl Line {
        fn to(name: &OsString) -> std::io::Result<Self> {
            let socket = UnixDatagram::unbound()?;
            // A manager that does not read must not hold us up.
            socket.set_nonblocking(true)?;
            Ok(Self { socket, address: address(name)? })
        }

        fn tell(&self, state: &str) {
            if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address) {
                tracing::warn!(%error, state, "the service manager cannot be told");
            }
        }
    }

    /// A path, or behind `@` a name that is in no file system.
    fn address(name: &OsString) -> std::io::Result<SocketAddr> {
        #[cfg(target_os = "linux")]
        if let Some(hidden) = name.as_encoded_bytes().strip_prefix(b"@") {
            return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(hidden);
        }
        SocketAddr::from_pathname(name)
    }

    pub(crate) struct ServiceManager {
        line: Option<Arc<Line>>,
        /// How often it wants to hear that we turn, with room to spare.
        watched_every: Option<Duration>,
    }

    impl ServiceManager {
        pub(crate) fn of_environment() -> Self {
            let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
            let line = name.and_then(|name| match Line::to(&name) {
                Ok(line) => Some(Arc::new(line)),
                Err(error) => {
                    tracing::warn!(%error, ?name, "NOTIFY_SOCKET is not reached");
                    None
                }
            });
            Self { line, watched_every: watchdog(|name| std::env::var(name).ok(), std::process::id()) }
        }

        /// Called once every port accepts. From then on it hears from a task as ordinary as those that serve: where that one comes
        /// to no turn any more, nobody else does either.
        pub(crate) fn ready(&self, tasks: &Tasks) {
            let Some(line) = &self.line else { return };
            line.tell("READY=1");
            let Some(every) = self.watched_every else { return };
            let (line, mut stopping) = (line.clone(), tasks.stopping());
            tasks.spawn(async move {
                loop {
                    tokio::select! {
                        () = stopping.wait() => return,
                        () = tokio::time::sleep(every) => line.tell("WATCHDOG=1"),
                    }
                }
            });
        }

        pub(crate) fn stopping(&self) {
            if let Some(line) = &self.line {
                line.tell("STOPPING=1");
            }
        }
    }

    /// Half of what the manager waits, if it watches this process.
    fn watchdog(variable: impl Fn(&str) -> Option<String>, process_id: u32) -> Option<Duration> {
        if variable("WATCHDOG_PID").is_some_and(|watched| watched != process_id.to_string()) {
            return None;
        }
        let microseconds: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
        (microseconds > 0).then(|| Duration::from_micros(microseconds) / 2)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn with(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
            |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        }

        #[test]
        fn a_watched_process_tells_twice_as_often_as_it_must() {
            let half = Some(Duration::from_secs(15));
            assert_eq!(watchdog(with(&[("WATCHDOG_USEC", "30000000")]), 7), half);
            assert_eq!(watchdog(with(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "7")]), 7), half);
        }

        #[test]
        fn a_process_that_nobody_watches_tells_nothing() {
            assert_eq!(watchdog(with(&[]), 7), None);
            assert_eq!(watchdog(with(&[("WATCHDOG_USEC", "0")]), 7), None);
            assert_eq!(watchdog(with(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "8")]), 7), None);
        }
    }
}
