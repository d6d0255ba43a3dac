//! One connection to whoever is primary now, with the settings that every session of ours has. It counts the notices that the
//! server sends, since a commit that carries one is no commit that we trust. Nothing here ever sends a cancel request.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::caps;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

use super::config::Config;
use crate::error::StoreError;

/// An abandoned transaction must not keep its locks: the server ends one that waits for us so long. It never does so to a commit.
const SETTINGS: &str = "SET search_path = twinhub; SET client_min_messages = warning; SET jit = off; SET TimeZone = 'UTC'; \
                        SET default_transaction_isolation = 'read committed'; \
                        SET idle_in_transaction_session_timeout = '10s'";

/// A connection that ends when it is dropped, by closing its socket and no message.
pub(crate) struct Connection {
    client: Client,
    notices: Arc<AtomicU64>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Within `caps::DATABASE_ANSWER_SECONDS_MAX`. Its work is done on `handle`, which may outlive the caller's runtime.
    pub(crate) async fn open(config: &Config, handle: &Handle) -> Result<Self, StoreError> {
        let deadline = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
        let opened = tokio::time::timeout(deadline, Self::connect(config, handle)).await;
        opened.map_err(|_| StoreError::Unavailable("the database does not answer".into()))?
    }

    async fn connect(config: &Config, handle: &Handle) -> Result<Self, StoreError> {
        let (client, mut connection) = config.hosts.connect(&config.tls).await?;
        let notices = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&notices);
        let driver = handle.spawn(async move {
            // A notice is handed out before the answers that follow it on the wire, so it is counted before they are seen.
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => {
                        count.fetch_add(1, Ordering::SeqCst);
                        tracing::warn!(
                            code = notice.code().code(),
                            "the database says: {}",
                            notice.message()
                        );
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a connection to the database ended");
                        return;
                    }
                }
            }
        });
        // Owned from here on, so that the driver ends with us also when the settings fail.
        let opened = Self { client, notices, driver };
        opened.client.batch_execute(SETTINGS).await?;
        config.hosts.refuse_earlier(&opened.client).await?;
        Ok(opened)
    }

    /// How many notices came so far.
    pub(crate) fn notices(&self) -> u64 {
        self.notices.load(Ordering::SeqCst)
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The client alone would send a terminate message, which a commit that waits for its standby must never see.
        self.driver.abort();
    }
}

/// A client whose driver is left alone, for work that ends with the client.
pub(super) async fn plain(config: &Config, handle: &Handle) -> Result<Client, StoreError> {
    let connector = Connector { config: config.clone(), handle: handle.clone() };
    let connected = deadpool_postgres::Connect::connect(&connector, &config.database);
    let deadline = Duration::from_secs(caps::DATABASE_ANSWER_SECONDS_MAX);
    let (client, _) = tokio::time::timeout(deadline, connected)
        .await
        .map_err(|_| StoreError::Unavailable("the database does not answer".into()))??;
    Ok(client)
}

/// How the pool of readers connects: as everybody.
pub(super) struct Connector {
    pub(super) config: Config,
    pub(super) handle: Handle,
}

impl deadpool_postgres::Connect for Connector {
    fn connect(
        &self,
        _: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(async move {
            let (client, connection) = self.config.hosts.connect(&self.config.tls).await?;
            let driver = self.handle.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the database ended");
                }
            });
            client.batch_execute(SETTINGS).await?;
            Ok((client, driver))
        })
    }
}
