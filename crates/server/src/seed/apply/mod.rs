//! Makes what a seed says, in the order in which one thing needs another. Every step looks first: what is there already as it should
//! be is left alone, so that a seed can be applied at every start.

mod devices;
mod digital_twins;
mod endpoints;
mod enrollments;
mod principals;
mod resources;

use access::{Caller, Directory};
use resource_manager::{GroupId, Resource, ResourceId, ResourceManager, ResourceType};

use super::Seed;
use super::entries::Entry;
use crate::Failure;

/// What a seed is applied to.
pub(crate) struct Ground {
    pub(crate) manager: ResourceManager,
    pub(crate) directory: Directory,
    pub(crate) hubs: hub::Hubs,
    pub(crate) services: provisioning::Services,
    pub(crate) instances: ::digital_twins::Instances,
    pub(crate) accounts: storage::Accounts,
    /// Where resources are made.
    pub(crate) group: GroupId,
    /// Keys that are left open are those that everybody knows.
    pub(crate) well_known_keys: bool,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Made,
    Changed,
    Kept,
}

impl Outcome {
    /// Of a whole, by what became of a part.
    fn and(self, part: Self) -> Self {
        if self == Self::Kept && part != Self::Kept { Self::Changed } else { self }
    }
}

#[derive(Default)]
struct Counts {
    made: usize,
    changed: usize,
    kept: usize,
}

/// Names the entry that could not be applied.
#[derive(Debug, thiserror::Error)]
#[error(
    "the seed could not be applied: {place}: {why}. What comes before it is applied; a start with a seed that is right goes on from there"
)]
pub(crate) struct NotApplied {
    place: String,
    why: String,
}

impl Seed {
    pub(crate) async fn apply(&self, ground: &Ground) -> Result<(), NotApplied> {
        let all = &self.entries;
        let mut run = Run { seed: self, counts: Counts::default() };
        run.each(&all.hubs, async |hub| resources::hub(ground, hub).await).await?;
        run.each(&all.namespaces, async |namespace| resources::namespace(ground, namespace).await).await?;
        run.each(&all.accounts, async |account| resources::account(ground, account).await).await?;
        run.each(&all.services, async |service| resources::service(ground, service).await).await?;
        run.each(&all.instances, async |instance| resources::instance(ground, instance).await).await?;
        run.each(&all.principals, async |principal| principals::principal(ground, principal).await).await?;
        run.each(&all.endpoints, async |endpoint| endpoints::endpoint(ground, endpoint).await).await?;
        let devices = devices::parents_first(&all.devices);
        run.each(&devices, async |device| devices::device(ground, device).await).await?;
        run.each(&all.enrollments, async |one| enrollments::enrollment(ground, one).await).await?;
        for upload in digital_twins::uploads(ground, &all.models, &mut run).await? {
            let uploaded = digital_twins::upload(ground, &upload.what).await;
            uploaded.map_err(|why| run.not_applied(&upload, &*why))?;
        }
        run.each(&all.digital_twins, async |twin| digital_twins::twin(ground, twin).await).await?;
        run.each(&all.relationships, async |edge| digital_twins::relationship(ground, edge).await).await?;
        // Last, so that what was there from the beginning is no event.
        run.each(&all.event_routes, async |route| endpoints::event_route(ground, route).await).await?;
        let Counts { made, changed, kept } = run.counts;
        tracing::info!(seed = %self.path.display(), made, changed, kept, "the seed is applied");
        Ok(())
    }
}

struct Run<'s> {
    seed: &'s Seed,
    counts: Counts,
}

impl Run<'_> {
    async fn each<T>(
        &mut self,
        entries: &[Entry<T>],
        apply: impl AsyncFn(&T) -> Result<Outcome, Failure>,
    ) -> Result<(), NotApplied> {
        for entry in entries {
            let outcome = apply(&entry.what).await.map_err(|why| self.not_applied(entry, &*why))?;
            self.count(outcome);
        }
        Ok(())
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Made => self.counts.made += 1,
            Outcome::Changed => self.counts.changed += 1,
            Outcome::Kept => self.counts.kept += 1,
        }
    }

    fn not_applied<T>(&self, entry: &Entry<T>, why: &dyn std::fmt::Display) -> NotApplied {
        let place = format!("{}:{}: {}", self.seed.path.display(), entry.line, entry.name);
        NotApplied { place, why: why.to_string().trim_end_matches('.').to_owned() }
    }
}

/// Everything a seed does is the operator's doing.
fn caller() -> Caller {
    Caller::system()
}

impl Ground {
    fn id(&self, resource_type: ResourceType, name: &str) -> ResourceId {
        ResourceId::new(&self.group, resource_type, name)
    }

    async fn find(&self, id: &ResourceId) -> Result<Option<Resource>, resource_manager::Error> {
        match self.manager.resource(&caller(), id).await {
            Ok(resource) => Ok(Some(resource)),
            Err(
                resource_manager::Error::ResourceNotFound(..)
                | resource_manager::Error::ParentResourceNotFound { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn hub(&self, name: &str) -> Result<hub::Hub, Failure> {
        self.hubs.find(name).ok_or_else(|| format!("there is no hub \"{name}\"").into())
    }

    fn instance(&self, name: &str) -> Result<::digital_twins::Instance, Failure> {
        let found = self.instances.find(name);
        found.ok_or_else(|| format!("there is no Digital Twins instance \"{name}\"").into())
    }
}
