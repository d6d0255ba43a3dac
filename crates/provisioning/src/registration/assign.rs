//! Giving a device its hub: choose, make the identity there, write down what became of it. Safe to repeat from any point, so
//! that a poll or a restart completes what was cut off.

use access::Caller;
use base::ids::IdentityId;
use base::{IfMatch, Timestamp, caps};
use hub::Hub;
use hub::device::{AuthenticationKind, AuthenticationSpec, DeviceSpec};
use hub::twin::{InitialTwin, TwinReplacement};
use serde_json::json;
use store::{Batch, Find, Key, Record, Stored, retry_on_conflict};

use super::record::{Assignment, FailureReason, ProvedKeys, Registration, RegistrationState, Substatus};
use crate::allocation;
use crate::enrollment::{Enrollment, EnrollmentKind, ReprovisionPolicy};
use crate::error::Error;
use crate::ids::RegistrationId;
use crate::service::Service;
use crate::settings::{LinkedHub, ServiceSettings};

const MIGRATE: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: true };
const STAY: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: false, migrate_device_data: false };

/// What an assignment came to: where the device now is, if it is anywhere new, and what it is told.
type Outcome = (Option<Assignment>, RegistrationState);

impl Service {
    /// Completes the assignment that `begun` stands for, unless it is over or a newer one has taken its place. Whoever asks, the
    /// device gets the keys that it proved when it began.
    pub(super) async fn assign(&self, begun: &Registration) -> Result<Registration, Error> {
        let RegistrationState::Assigning(keys) = &begun.state else { return Ok(begun.clone()) };
        let outcome = self.outcome(begun, keys).await?;
        retry_on_conflict(async || {
            let Some(stored) = self.registration(&begun.registration_id).await? else {
                return Err(Error::OperationNotFound);
            };
            let is_ours = stored.record.operation_id == begun.operation_id;
            if !is_ours || !matches!(stored.record.state, RegistrationState::Assigning(_)) {
                return Ok(stored.record);
            }
            let done = conclude(&stored.record, &outcome, self.now());
            let mut batch = Batch::default();
            batch.replace(&stored, &done);
            self.commit(batch).await?;
            Ok(done)
        })
        .await
    }

    /// Completes every assignment that a stop cut off.
    pub(crate) async fn finish_assignments(&self) {
        let mut after = None;
        loop {
            let find =
                Find::new(Key::instance(self.instance()), "pending", "yes", caps::SCAN_PAGE).after(after);
            let pending: Vec<Stored<Registration>> = match self.store().find(find).await {
                Ok(pending) => pending,
                Err(error) => {
                    tracing::error!(%error, "unfinished registrations cannot be read; devices will register again");
                    return;
                }
            };
            let Some(last) = pending.last() else { return };
            after = Some(last.record.key());
            for stored in pending {
                self.finish_assignment(&stored.record).await;
            }
        }
    }

    async fn finish_assignment(&self, begun: &Registration) {
        if let Err(error) = self.assign(begun).await {
            tracing::warn!(%error, registration = %begun.registration_id, "an assignment stays unfinished");
        }
    }

    /// What becomes of the device by its enrollment as it is now.
    async fn outcome(&self, begun: &Registration, keys: &ProvedKeys) -> Result<Outcome, Error> {
        let Some(stored) = self.enrollment(begun.enrollment_kind, &begun.enrollment_id).await? else {
            return Ok((None, RegistrationState::Failed { reason: FailureReason::EnrollmentNotFound }));
        };
        let device = Proved { enrollment: stored.record, keys };
        if !device.enrollment.is_enabled {
            // It was disabled after the device had begun.
            return Ok((None, RegistrationState::Disabled));
        }
        Ok(match self.try_assign(begun, &device).await? {
            Ok((assignment, substatus)) => {
                self.measures().assignments.add(1);
                (Some(assignment), RegistrationState::Assigned { substatus })
            }
            Err(reason) => (None, RegistrationState::Failed { reason }),
        })
    }

    async fn try_assign(
        &self,
        begun: &Registration,
        device: &Proved<'_>,
    ) -> Result<Result<(Assignment, Substatus), FailureReason>, Error> {
        let (settings, enrollment) = (self.settings(), &device.enrollment);
        let default_policy = if begun.sticky_when_unset { STAY } else { MIGRATE };
        let policy = enrollment.reprovision_policy.unwrap_or(default_policy);
        let present = begun.assignment.as_ref();
        let current = present.and_then(|assignment| self.hubs().get(&assignment.hub_instance));
        let hub = match (&current, policy.update_hub_assignment) {
            (Some(current), false) => current.clone(),
            _ => match self.choose(enrollment, &settings, &begun.registration_id) {
                Ok(linked) => match self.hub_of(linked) {
                    Some(hub) => hub,
                    None => return Ok(Err(FailureReason::NoHub)),
                },
                Err(reason) => return Ok(Err(reason)),
            },
        };
        if self.link_to(&settings, &hub).is_some_and(|link| !link.opens(&hub)) {
            return Ok(Err(refused(&hub::Error::IotHubUnauthorizedAccess)));
        }
        let device_id = match (present, &enrollment.device_id, enrollment.kind) {
            (Some(assignment), ..) => Ok(assignment.device_id.clone()),
            (None, Some(device_id), _) => Ok(device_id.clone()),
            (None, None, EnrollmentKind::Individual) => enrollment.id.as_str().parse(),
            (None, None, EnrollmentKind::Group) => begun.registration_id.as_str().parse(),
        };
        let device_id = device_id.map_err(|error| Error::bad(error.to_string()))?;
        let came_from = match present {
            None => CameFrom::Nowhere,
            Some(present) if present.hub_instance == *hub.instance() => CameFrom::Here,
            Some(_) => {
                let is_ours = |old: &Hub| self.link_to(&settings, old).is_some_and(|link| link.opens(old));
                CameFrom::Elsewhere(current.filter(is_ours))
            }
        };
        let assignment =
            Assignment { hub_name: hub.name().to_owned(), hub_instance: hub.instance().clone(), device_id };
        let placed = async {
            let substatus = place(&hub, &came_from, policy, device, &assignment).await?;
            if let Some(model_id) = &begun.model_id {
                hub.keep_model_id(&IdentityId::device(assignment.device_id.clone()), model_id).await?;
            }
            Ok(substatus)
        };
        let placed = placed.await;
        Ok(placed.map(|substatus| (assignment, substatus)).map_err(|error| refused(&error)))
    }

    fn choose<'a>(
        &self,
        enrollment: &Enrollment,
        settings: &'a ServiceSettings,
        id: &RegistrationId,
    ) -> Result<&'a LinkedHub, FailureReason> {
        let find_link = |text: &str| self.find_link(settings, text);
        allocation::choose(enrollment, settings, id.as_str(), &find_link)
    }

    /// The link by which this service reaches `hub`.
    fn link_to<'a>(&self, settings: &'a ServiceSettings, hub: &Hub) -> Option<&'a LinkedHub> {
        let leads_there =
            |link: &&LinkedHub| self.hub_of(link).is_some_and(|at| at.instance() == hub.instance());
        settings.linked_hubs.iter().find(leads_there)
    }
}

/// A device on its way to a hub: by which enrollment, and with which keys.
struct Proved<'a> {
    enrollment: Enrollment,
    keys: &'a ProvedKeys,
}

/// Where a device was assigned before.
enum CameFrom {
    Nowhere,
    Here,
    /// At another hub; `None` when that is gone, or no longer lets this service in.
    Elsewhere(Option<Hub>),
}

/// Makes the device in its hub, carries its data over where it moves, and says which of the four cases it was.
async fn place(
    hub: &Hub,
    came_from: &CameFrom,
    policy: ReprovisionPolicy,
    device: &Proved<'_>,
    assignment: &Assignment,
) -> Result<Substatus, hub::Error> {
    let (caller, id) = (Caller::system(), IdentityId::device(assignment.device_id.clone()));
    let resets = policy.update_hub_assignment && !policy.migrate_device_data;
    let twin = initial_twin(&device.enrollment);
    let mut spec = device_spec(device, assignment, twin.clone().into());
    match came_from {
        CameFrom::Nowhere => {
            hub.ensure_device(&caller, &spec).await?;
            Ok(Substatus::InitialAssignment)
        }
        CameFrom::Here => {
            let ensured = hub.ensure_device(&caller, &spec).await?;
            if resets && !ensured.created {
                hub.replace_twin(&caller, &id, &twin, &IfMatch::Any).await?;
            }
            Ok(Substatus::ReprovisionedToInitialAssignment)
        }
        CameFrom::Elsewhere(old) => {
            let old = old.as_ref();
            let moved = match old.filter(|_| !resets) {
                Some(old) => export(old, &id).await?,
                None => None,
            };
            let has_data = moved.is_some();
            if let Some((twin, iot_edge)) = moved {
                (spec.initial_twin, spec.iot_edge) = (twin, iot_edge);
            }
            let ensured = hub.ensure_device(&caller, &spec).await?;
            if !ensured.created && (has_data || resets) {
                let InitialTwin { tags, desired, .. } = spec.initial_twin;
                hub.replace_twin(&caller, &id, &TwinReplacement { tags, desired }, &IfMatch::Any).await?;
            }
            // Only now: until the new hub has it, the old one does.
            if let Some(old) = old {
                old.remove_device_if_present(&caller, &assignment.device_id).await?;
            }
            // A device that is gone there and is here came over before this was cut off.
            let has_come_before = !resets && old.is_some() && !ensured.created;
            Ok(if has_data || has_come_before {
                Substatus::DeviceDataMigrated
            } else {
                Substatus::DeviceDataReset
            })
        }
    }
}

/// What a device takes along; nothing when it is gone from there.
async fn export(old: &Hub, id: &IdentityId) -> Result<Option<(InitialTwin, bool)>, hub::Error> {
    let caller = Caller::system();
    let identity = match old.get_device(&caller, &id.device_id).await {
        Ok(view) => view.identity,
        Err(hub::Error::DeviceNotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some((old.export_twin(&caller, id).await?, identity.iot_edge)))
}

/// What the enrollment stored was checked to be a twin; a limit that it breaks shows as the hub's refusal.
fn initial_twin(enrollment: &Enrollment) -> TwinReplacement {
    let twin = enrollment.initial_twin.as_ref();
    twin.and_then(|twin| TwinReplacement::from_json(twin).ok()).unwrap_or_default()
}

fn device_spec(device: &Proved<'_>, assignment: &Assignment, initial_twin: InitialTwin) -> DeviceSpec {
    let authentication = AuthenticationSpec {
        kind: Some(AuthenticationKind::Sas),
        primary_key: Some((&device.keys.primary_key).into()),
        secondary_key: Some((&device.keys.secondary_key).into()),
        ..AuthenticationSpec::default()
    };
    let iot_edge = device.enrollment.iot_edge;
    DeviceSpec { authentication, iot_edge, initial_twin, ..DeviceSpec::new(assignment.device_id.clone()) }
}

/// The hub's error as a device sees it in `errorMessage`.
fn refused(error: &hub::Error) -> FailureReason {
    let text = json!({"Message": format!("ErrorCode:{};{error}", error.name())});
    FailureReason::HubRefused(text.to_string())
}

fn conclude(begun: &Registration, (assignment, state): &Outcome, now: Timestamp) -> Registration {
    Registration {
        state: state.clone(),
        assignment: assignment.clone().or_else(|| begun.assignment.clone()),
        last_updated: now,
        etag: crate::enrollment::new_etag(),
        ..begun.clone()
    }
}
