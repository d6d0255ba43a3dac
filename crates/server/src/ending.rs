//! The signals that end a server, heard from the making of [`Ending`] on: by `serve` and `demo`, which drain and end, and by `run`,
//! which passes them on.

#[cfg(unix)]
pub(crate) use self::unix::Ending;

#[cfg(unix)]
mod unix {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    pub(crate) struct Ending {
        signals: Vec<(SignalKind, Signal)>,
        ends_with_terminal: bool,
    }

    impl Ending {
        /// Hears SIGTERM, SIGINT and SIGHUP.
        pub(crate) fn listen() -> std::io::Result<Self> {
            let mut ending = Self { signals: Vec::new(), ends_with_terminal: false };
            ending.hear(&[SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()])?;
            Ok(ending)
        }

        /// Hears these too, which end the process where nobody does.
        pub(crate) fn hear(&mut self, kinds: &[SignalKind]) -> std::io::Result<()> {
            for &kind in kinds {
                self.signals.push((kind, signal(kind)?));
            }
            Ok(())
        }

        /// For who has nobody to serve once the terminal has gone.
        pub(crate) fn with_terminal(&mut self) {
            self.ends_with_terminal = true;
        }

        /// The next signal.
        pub(crate) async fn next(&mut self) -> SignalKind {
            poll_fn(|context| {
                for (kind, signal) in &mut self.signals {
                    if signal.poll_recv(context).is_ready() {
                        return Poll::Ready(*kind);
                    }
                }
                Poll::Pending
            })
            .await
        }

        /// Resolves each time we are told to end.
        pub(crate) async fn told(&mut self) {
            loop {
                let kind = self.next().await;
                if kind == SignalKind::terminate() || kind == SignalKind::interrupt() {
                    return;
                }
                if kind == SignalKind::hangup() {
                    if self.ends_with_terminal {
                        return;
                    }
                    tracing::info!("SIGHUP changes nothing: settings and certificates are read at the start");
                }
            }
        }
    }
}

#[cfg(not(unix))]
pub(crate) struct Ending;

#[cfg(not(unix))]
impl Ending {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn with_terminal(&mut self) {}

    pub(crate) async fn told(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
