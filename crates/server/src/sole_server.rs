//! One server at a time on a database, until servers can hand each other what their devices say: a lease in the database, which a
//! server that is killed leaves behind for some seconds. A data directory has its lock instead.

use std::time::Duration;

use base::tasks::{Stopping, Tasks};
use base::{Clock, caps};
use store::Store;
use store::leases::Lease;

use crate::Failure;

const NAME: &str = "sole_server";
const LENGTH: Duration = Duration::from_secs(caps::SOLE_SERVER_LEASE_SECONDS);
/// Often enough that one answer may be lost.
const RENEWED_EVERY: Duration = Duration::from_secs(caps::SOLE_SERVER_LEASE_SECONDS / 5);
/// Between two looks at another's lease.
const LOOKED_EVERY: Duration = Duration::from_millis(500);

/// Takes the database for this server, and waits for as long as one that was killed may still hold it.
pub(crate) async fn claim(store: &Store, clock: &Clock) -> Result<Lease, Failure> {
    let patience = clock.elapsed().plus(LENGTH + RENEWED_EVERY);
    let mut is_told = false;
    loop {
        if let Some(lease) = store.leases().take(NAME, store.node(), LENGTH).await? {
            return Ok(lease);
        }
        if clock.elapsed() >= patience {
            return Err("another server uses this database. Several servers on one database come in a later release: end the other \
                 one, or give this one a database of its own with --store"
                .into());
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::info!("another server uses this database, or was killed a moment ago; waiting");
        }
        clock.sleep(LOOKED_EVERY).await;
    }
}

/// Keeps the lease until the server stops; the store gives it back when it is closed, behind its last commit. One that it has lost ends the server: another may begin at any moment.
pub(crate) fn keep(store: &Store, lease: &Lease, tasks: &Tasks, clock: &Clock) {
    let (store, lease, time, stopping) = (store.clone(), lease.clone(), clock.clone(), tasks.stopping());
    let work = move || renew(store.clone(), lease.clone(), time.clone(), stopping.clone());
    tasks.keep("lease of the database", clock, work);
}

async fn renew(store: Store, lease: Lease, clock: Clock, mut stopping: Stopping) {
    loop {
        tokio::select! {
            () = clock.sleep(RENEWED_EVERY) => {}
            () = stopping.wait() => return,
        }
        match store.leases().renew(&lease, LENGTH).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(
                    "the database was out of reach for too long and may be another server's: ending"
                );
                end_this_process();
                return;
            }
            Err(error) => tracing::warn!(%error, "the lease of the database could not be renewed"),
        }
    }
}

/// By the signal that ends a server in good order.
fn end_this_process() {
    #[cfg(unix)]
    if let Err(error) =
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
    {
        tracing::error!(%error, "this server cannot end itself");
    }
}
