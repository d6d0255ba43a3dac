//! Which of several hosts is the primary. They are asked one after another, each a moment after the one before, so that one that hangs
//! costs a moment and not all of its patience. A primary that was frozen while a standby took over still thinks it is one when it
//! wakes up: it is known by its timeline, which is an earlier one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base::caps;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::StoreError;

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
type Opened = (Client, tokio_postgres::Connection<Socket, Stream>);

/// A number that every standby raises when it takes over; the first eight digits of the name of a file of the log.
const TIMELINE: &str = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint";

pub(super) struct Hosts {
    each: Vec<tokio_postgres::Config>,
    /// Who was primary last is asked first.
    first: AtomicUsize,
    /// The latest one that was seen.
    timeline: AtomicU64,
}

impl Hosts {
    pub(super) fn of(config: &tokio_postgres::Config) -> Self {
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        let each = (0..count).map(|at| alone(config, at)).collect();
        Self { each, first: AtomicUsize::new(0), timeline: AtomicU64::new(0) }
    }

    /// A connection to whoever takes writes and answers first.
    pub(super) async fn connect(&self, tls: &MakeRustlsConnect) -> Result<Opened, tokio_postgres::Error> {
        let (count, first) = (self.each.len(), self.first.load(Ordering::Relaxed));
        let (mut attempts, mut begun) = (FuturesUnordered::new(), 0);
        loop {
            if begun < count {
                let at = (first + begun) % count;
                attempts.push(async move { (at, self.each[at].connect(tls.clone()).await) });
                begun += 1;
            }
            let is_last = begun == count;
            let moment = async {
                if is_last {
                    std::future::pending::<()>().await;
                }
                sleep(Duration::from_millis(caps::DATABASE_HOST_MILLIS)).await;
            };
            tokio::select! {
                Some((at, answered)) = attempts.next() => match answered {
                    Ok(opened) => {
                        self.first.store(at, Ordering::Relaxed);
                        return Ok(opened);
                    }
                    Err(error) if is_last && attempts.is_empty() => return Err(error),
                    Err(error) => tracing::debug!(%error, "a host of the database is passed over"),
                },
                () = moment => {}
            }
        }
    }

    /// Before anything else is asked, and whenever an answer was missed: the latest timeline of all hosts that answer soon, so that
    /// a primary of an earlier one is known as such although it answers too.
    pub(super) async fn look_around(&self, tls: &MakeRustlsConnect) {
        if self.each.len() < 2 {
            return;
        }
        let look = async |host: &tokio_postgres::Config| {
            let (client, connection) = host.connect(tls.clone()).await?;
            tokio::select! {
                looked = self.timeline_of(&client) => looked,
                ended = connection => ended.map(|()| 0).map_err(StoreError::from),
            }
        };
        let patience = 4 * Duration::from_millis(caps::DATABASE_HOST_MILLIS);
        let looks = self.each.iter().map(|host| timeout(patience, look(host)));
        let looked = join_all(looks).await.into_iter().enumerate();
        let timelines = looked.filter_map(|(at, looked)| Some((looked.ok()?.ok()?, at)));
        if let Some((_, latest)) = timelines.max() {
            self.first.store(latest, Ordering::Relaxed);
        }
    }

    /// Refuses a primary over which another has taken over. One host alone has nobody to be told apart from.
    pub(super) async fn refuse_earlier(&self, client: &Client) -> Result<(), StoreError> {
        if self.each.len() < 2 {
            return Ok(());
        }
        let timeline = self.timeline_of(client).await?;
        if timeline == 0 || timeline == self.timeline() {
            return Ok(());
        }
        self.first.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Unavailable("this primary is an earlier one: another has taken over".to_owned()))
    }

    /// 0 of a server that speaks the protocol and has no log of this kind.
    async fn timeline_of(&self, client: &Client) -> Result<u64, StoreError> {
        let timeline = match client.query_one(TIMELINE, &[]).await {
            Ok(row) => u64::try_from(row.get::<_, i64>(0)).unwrap_or_default(),
            Err(error) if error.as_db_error().is_some() => 0,
            Err(error) => return Err(error.into()),
        };
        self.timeline.fetch_max(timeline, Ordering::SeqCst);
        Ok(timeline)
    }

    /// Rises when another primary is seen.
    pub(super) fn timeline(&self) -> u64 {
        self.timeline.load(Ordering::SeqCst)
    }
}

/// The same with one of its hosts.
fn alone(config: &tokio_postgres::Config, at: usize) -> tokio_postgres::Config {
    let mut one = tokio_postgres::Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    match config.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(one.host(name.as_str())),
        #[cfg(unix)]
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    // One port serves all hosts.
    if let Some(port) = config.get_ports().get(at).or(config.get_ports().first()) {
        one.port(*port);
    }
    for (timeout, set) in [
        (config.get_connect_timeout(), tokio_postgres::Config::connect_timeout as Set),
        (config.get_tcp_user_timeout(), tokio_postgres::Config::tcp_user_timeout),
    ] {
        timeout.map(|timeout| set(&mut one, *timeout));
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    one
}

type Set = fn(&mut tokio_postgres::Config, Duration) -> &mut tokio_postgres::Config;
