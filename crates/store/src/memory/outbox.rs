//! The outbox in lanes, each under a lease: rows go to streams, into records and out of the outbox in one step that looks at the epochs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use base::{InstanceId, caps};
use tokio::sync::watch;

use super::Memory;
use super::state::State;
use crate::batch::{Batch, OutboxRow};
use crate::engine::Outbox;
use crate::error::{CommitError, StoreError};
use crate::outbox::{Claim, Errand};
use crate::postgres::lane;

fn names() -> impl Iterator<Item = String> {
    lane::all().into_iter().map(|lane| format!("outbox/{lane:02}"))
}

impl State {
    fn holds(&self, claim: &Claim, now: base::Elapsed) -> bool {
        let stands = |(name, epoch): &(String, u64)| {
            self.leases.get(name).is_some_and(|held| held.epoch == *epoch && held.until > now)
        };
        claim.leases.iter().all(stands)
    }

    fn run(
        &mut self,
        errands: BTreeMap<InstanceId, Errand>,
    ) -> Result<HashMap<InstanceId, StoreError>, CommitError> {
        let (mut failed, mut batch, mut appends) = (HashMap::new(), Batch::default(), Vec::new());
        for (instance, errand) in errands {
            let missing =
                errand.appends.iter().find(|append| !self.has_partition(&append.stream, append.partition));
            if let Some(missing) = missing {
                failed.insert(instance, StoreError::NoStream(missing.stream.to_string()));
                continue;
            }
            batch.merge(errand.batch);
            errand.done.into_iter().for_each(|id| batch.outbox_done(id));
            appends.extend(errand.appends);
        }
        self.commit(&batch)?;
        for append in appends {
            let records = append.records.into_iter().map(|(_, record)| record);
            let possible = records
                .filter(|record| crate::streams::check(&append.stream, std::iter::once(record)).is_ok());
            let possible = possible.collect();
            self.append(&append.stream, append.partition, possible)?;
        }
        Ok(failed)
    }
}

impl Outbox for Memory {
    async fn claim(&self) -> Result<Option<Claim>, StoreError> {
        let (database, faults, node) = (&self.part().database, self.part().faults(), self.node());
        let taken = self.part().change(|state| {
            let now = database.now();
            let until = now.plus(Duration::from_secs(caps::OUTBOX_LEASE_SECONDS));
            let names = names().filter(|_| !faults.ends_a_lease());
            let take = |name: String| {
                let epoch = state.take_or_keep(&name, node.number, now, until)?;
                Some((name, epoch))
            };
            names.filter_map(take).collect::<Vec<_>>()
        });
        let leases = taken.await?;
        Ok((!leases.is_empty()).then_some(Claim { leases }))
    }

    async fn rows(
        &self,
        claim: &Claim,
        held: &HashSet<InstanceId>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let limit = self.part().faults().count(limit);
        let lanes: Vec<i16> = lane::all()
            .into_iter()
            .filter(|lane| claim.leases.iter().any(|(name, _)| *name == format!("outbox/{lane:02}")))
            .collect();
        // Lost as soon as it is made use of, so that another may have it before this one comes back with what it did.
        let (database, lost) = (&self.part().database, self.part().faults().ends_a_lease());
        let rows = self.part().step(|state| {
            for (name, _) in claim.leases.iter().filter(|_| lost) {
                if let Some(held) = state.leases.get_mut(name) {
                    held.until = database.now();
                }
            }
            let claimed = state.outbox.values().filter(|waiting| lanes.contains(&waiting.lane));
            let rows = claimed.map(|waiting| &waiting.row).filter(|row| !held.contains(&row.instance));
            rows.take(limit).cloned().collect()
        });
        rows.await
    }

    async fn run(
        &self,
        claim: &Claim,
        errands: HashMap<InstanceId, Errand>,
    ) -> Result<HashMap<InstanceId, StoreError>, StoreError> {
        let part = self.part();
        let ran = part.change(|state| {
            let now = part.database.now();
            if !state.holds(claim, now) {
                return Err(StoreError::Unavailable("a lease is another's by now".into()));
            }
            state.run(errands.into_iter().collect()).map_err(CommitError::unconditional)
        });
        let failed = ran.await??;
        part.database.tell(&part.tails);
        Ok(failed)
    }

    async fn bytes(&self) -> Result<Vec<(InstanceId, u64)>, StoreError> {
        self.outbox_bytes().await
    }

    fn written(&self) -> watch::Receiver<u64> {
        self.outbox_written()
    }

    fn pause(&self) -> Option<Duration> {
        Some(Duration::from_millis(caps::OUTBOX_POLL_MILLIS))
    }
}
