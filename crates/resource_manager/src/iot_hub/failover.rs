//! The two regions of a hub, and the failover from one to the other. This server is where it is: nothing moves but which region is
//! called the primary one.

use access::Caller;
use serde_json::Value;
use store::{Batch, retry_on_conflict};

use super::record::Properties;
use super::{properties, properties_mut};
use crate::error::Error;
use crate::id::ResourceId;
use crate::operation::Work;
use crate::resource::{self, Accepted, ProvisioningState, Resource};
use crate::{ResourceManager, location};

const FAIL_OVER: &str = "Microsoft.Devices/iotHubs/failover/Action";

/// The display names of a hub's primary region and of the one that it fails over to. A region without a pair, and a hub whose data
/// must stay where they are, has no second one.
pub fn regions(resource: &Resource, own: &Properties) -> (&'static str, Option<&'static str>) {
    let Some(home) = resource.location.as_deref().and_then(location::find) else { return ("", None) };
    let stays = own.sections.get("enableDataResidency").and_then(Value::as_bool).unwrap_or_default();
    match home.pair().filter(|_| !stays) {
        Some(pair) if own.is_failed_over => (pair, Some(home.display_name)),
        pair => (home.display_name, pair),
    }
}

impl ResourceManager {
    /// `IotHub_ManualFailover`. A hub whose primary region is the one that is asked for stays as it is.
    pub async fn fail_over(&self, caller: &Caller, id: &ResourceId, region: &str) -> Result<Accepted, Error> {
        self.allow(caller, FAIL_OVER, &id.scope(), &id.group.subscription).await?;
        retry_on_conflict(async || {
            let old = self.open_for_update(id).await?;
            if !must_move(&old.record, region)? {
                return Ok(Accepted { resource: old.record, operation: None, is_new: false });
            }
            let now = self.clock.now();
            let mut next = old.record.clone();
            let own = properties_mut(&mut next)?;
            own.is_failed_over = !own.is_failed_over;
            next.system_data = resource::system_data(Some(&old.record.system_data), caller, now);
            next.version = resource::next_version(Some(&old.record), now);
            next.provisioning_state = ProvisioningState::Updating;
            let work = Work::Update { tags: None, previous: Box::new(old.record.clone()) };
            self.accept(Some(&old), next, work, Batch::default()).await
        })
        .await
    }
}

/// Whether `region` is the second one, and not the first already.
fn must_move(resource: &Resource, region: &str) -> Result<bool, Error> {
    let (primary, secondary) = regions(resource, properties(resource)?);
    let name = &resource.id.name;
    let Some(secondary) = secondary else {
        return Err(Error::bad_request(format!(
            "The hub '{name}' has no region that it could fail over to."
        )));
    };
    let is_it = |known: &str| location::normalise(known) == location::normalise(region);
    if is_it(primary) || is_it(secondary) {
        return Ok(is_it(secondary));
    }
    Err(Error::bad_request(format!("The hub '{name}' fails over to '{secondary}', not to '{region}'.")))
}
