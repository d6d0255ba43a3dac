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

/// Keeps the lease until the server stops; the store gives it back when it is closed, behind its last commit. One that ran out while
/// the database was away, as while a standby takes over, is taken again, unless another server had it meanwhile: that ends this one.
pub(crate) fn keep(store: &Store, lease: &Lease, tasks: &Tasks, clock: &Clock) {
    let (store, lease, time, stopping) = (store.clone(), lease.clone(), clock.clone(), tasks.stopping());
    let work = move || renew(store.clone(), lease.clone(), time.clone(), stopping.clone());
    tasks.keep("lease of the database", clock, work);
}

async fn renew(store: Store, mut lease: Lease, clock: Clock, mut stopping: Stopping) {
    loop {
        tokio::select! {
            () = clock.sleep(RENEWED_EVERY) => {}
            () = stopping.wait() => return,
        }
        match store.leases().renew(&lease, LENGTH).await {
            Ok(true) => {}
            Ok(false) => match take_again(&store, &lease).await {
                Ok(Some(again)) => {
                    tracing::warn!("the database was out of reach for long; no other server took it");
                    lease = again;
                }
                Ok(None) => {
                    tracing::error!(
                        "the database was out of reach for too long and is another server's: ending"
                    );
                    end_this_process();
                    return;
                }
                Err(error) => tracing::warn!(%error, "the lease of the database could not be taken again"),
            },
            Err(error) => tracing::warn!(%error, "the lease of the database could not be renewed"),
        }
    }
}

/// A lease that ran out, unless another server has it or had it since: each that takes it raises its epoch.
async fn take_again(store: &Store, lost: &Lease) -> Result<Option<Lease>, store::StoreError> {
    let taken = store.leases().take(NAME, store.node(), LENGTH).await?;
    Ok(taken.filter(|taken| taken.epoch == lost.epoch + 1))
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
