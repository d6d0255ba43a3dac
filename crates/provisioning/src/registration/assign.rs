//! Giving a device its hub: choose, make the identity there, write down what became of it. Safe to repeat from any point, so
//! that a poll or a restart completes what was cut off.

use access::Caller;
use base::Timestamp;
use hub::Hub;
use hub::device::{AuthenticationKind, AuthenticationSpec, DeviceSpec};
use hub::twin::rules::TwinReplacement;
use serde_json::json;
use store::{Batch, Find, Key, Stored, retry_on_conflict};

use super::Attested;
use super::record::{Assignment, FailureReason, Registration, RegistrationState, Substatus};
use crate::allocation;
use crate::attestation::Attestation;
use crate::enrollment::{Enrollment, EnrollmentKind, ReprovisionPolicy};
use crate::error::Error;
use crate::service::Service;

const MIGRATE: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: true };
const STAY: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: false, migrate_device_data: false };

/// What an assignment came to.
type Outcome = Result<(Assignment, Substatus), FailureReason>;

impl Service {
    /// Completes the assignment that `begun` stands for, unless a newer one has taken its place.
    pub(super) async fn assign(
        &self,
        begun: &Registration,
        device: &Attested,
    ) -> Result<Registration, Error> {
        let outcome = self.try_assign(begun, device).await?;
        retry_on_conflict(async || {
            let Some(stored) = self.registration(&begun.registration_id).await? else {
                return Err(Error::OperationNotFound);
            };
            let is_ours = stored.record.operation_id == begun.operation_id;
            if !is_ours || stored.record.state != RegistrationState::Assigning {
                return Ok(stored.record);
            }
            let done = conclude(&stored.record, &outcome, self.now());
            let mut batch = Batch::default();
            batch.replace(&stored, &done);
            self.store().commit(batch).await?;
            Ok(done)
        })
        .await
    }

    /// Completes every assignment that a stop cut off. The keys are found again from the enrollments.
    pub(crate) async fn finish_assignments(&self) {
        let find = Find::new(Key::instance(self.instance()), "pending", "yes", base::caps::SCAN_PAGE);
        let pending: Vec<Stored<Registration>> = match self.store().find(find).await {
            Ok(pending) => pending,
            Err(error) => {
                tracing::error!(%error, "unfinished registrations cannot be read; devices will register again");
                return;
            }
        };
        for stored in pending {
            let finished = match self.attested_again(&stored.record).await {
                Some(device) => self.assign(&stored.record, &device).await.map(drop),
                None => continue,
            };
            if let Err(error) = finished {
                tracing::warn!(%error, registration = %stored.record.registration_id, "an assignment stays unfinished");
            }
        }
    }

    async fn attested_again(&self, registration: &Registration) -> Option<Attested> {
        let kind = registration.enrollment_kind;
        let enrollment = self.enrollment(kind, &registration.enrollment_id).await.ok()??.record;
        let Attestation::SymmetricKey { primary_key, secondary_key } = &enrollment.attestation else {
            return None;
        };
        let registration_id = registration.registration_id.clone();
        let (primary_key, secondary_key) = match kind {
            EnrollmentKind::Individual => (primary_key.clone(), secondary_key.clone()),
            EnrollmentKind::Group => {
                (primary_key.derive(registration_id.as_str()), secondary_key.derive(registration_id.as_str()))
            }
        };
        Some(Attested { registration_id, enrollment, primary_key, secondary_key })
    }

    async fn try_assign(&self, begun: &Registration, device: &Attested) -> Result<Outcome, Error> {
        let (settings, enrollment) = (self.settings(), &device.enrollment);
        let default_policy = if begun.sticky_when_unset { STAY } else { MIGRATE };
        let policy = enrollment.reprovision_policy.unwrap_or(default_policy);
        let present = begun.assignment.as_ref();
        let current = present.and_then(|assignment| self.hubs().get(&assignment.hub_instance));
        let hub = match (&current, policy.update_hub_assignment) {
            (Some(current), false) => current.clone(),
            _ => match allocation::choose(enrollment, &settings, begun.registration_id.as_str()) {
                Ok(linked) => match self.hub_at(&linked.host_name) {
                    Some(hub) => hub,
                    None => return Ok(Err(FailureReason::NoHub)),
                },
                Err(reason) => return Ok(Err(reason)),
            },
        };
        let device_id = match (present, &enrollment.device_id) {
            (Some(assignment), _) => Ok(assignment.device_id.clone()),
            (None, Some(device_id)) => Ok(device_id.clone()),
            (None, None) => begun.registration_id.as_str().parse(),
        };
        let device_id = device_id.map_err(|error| Error::bad(error.to_string()))?;
        let assignment =
            Assignment { assigned_hub: hub.host_name(), hub_instance: hub.instance().clone(), device_id };
        Ok(place(&hub, current.as_ref(), present.is_some(), policy, device, &assignment).await)
    }
}

/// Makes the device in its hub, carries its data over where it moves, and says which of the four cases it was.
async fn place(
    hub: &Hub,
    previous: Option<&Hub>,
    is_repeat: bool,
    policy: ReprovisionPolicy,
    device: &Attested,
    assignment: &Assignment,
) -> Outcome {
    let caller = Caller::system();
    let moved_from = previous.filter(|previous| previous.instance() != hub.instance());
    let mut spec = device_spec(device, assignment);
    let refused = |error: hub::Error| FailureReason::HubRefused(hub_text(&error));
    let mut substatus = Substatus::InitialAssignment;
    if let Some(old) = moved_from {
        substatus = Substatus::DeviceDataReset;
        if policy.migrate_device_data {
            let id = base::ids::IdentityId::device(assignment.device_id.clone());
            // A device that is gone from the old hub has no data to carry: it starts anew.
            if let Ok(twin) = old.export_twin(&caller, &id).await {
                spec.initial_twin = twin;
                substatus = Substatus::DeviceDataMigrated;
            }
        }
    } else if is_repeat {
        substatus = Substatus::ReprovisionedToInitialAssignment;
    }
    let ensured = hub.ensure_device(&caller, &spec).await.map_err(refused)?;
    let resets = is_repeat && policy.update_hub_assignment && !policy.migrate_device_data;
    if resets && moved_from.is_none() && !ensured.created {
        let id = base::ids::IdentityId::device(assignment.device_id.clone());
        let twin = &spec.initial_twin;
        hub.replace_twin(&caller, &id, twin, &base::IfMatch::Any).await.map_err(refused)?;
    }
    if let Some(old) = moved_from {
        old.remove_device_if_present(&caller, &assignment.device_id).await.map_err(refused)?;
    }
    Ok((assignment.clone(), substatus))
}

fn device_spec(device: &Attested, assignment: &Assignment) -> DeviceSpec {
    let Enrollment { iot_edge, initial_twin, .. } = &device.enrollment;
    let mut spec = DeviceSpec::new(assignment.device_id.clone());
    spec.iot_edge = *iot_edge;
    spec.authentication = AuthenticationSpec {
        kind: Some(AuthenticationKind::Sas),
        primary_key: Some(device.primary_key.text().to_owned()),
        secondary_key: Some(device.secondary_key.text().to_owned()),
        ..AuthenticationSpec::default()
    };
    // What the enrollment stored was checked to be a twin; a limit it breaks shows as the hub's refusal.
    spec.initial_twin =
        initial_twin.as_ref().and_then(|twin| TwinReplacement::from_json(twin).ok()).unwrap_or_default();
    spec
}

/// The hub's error as a device sees it in `errorMessage`.
fn hub_text(error: &hub::Error) -> String {
    json!({"Message": format!("ErrorCode:{};{error}", error.name())}).to_string()
}

fn conclude(begun: &Registration, outcome: &Outcome, now: Timestamp) -> Registration {
    let mut done = begun.clone();
    done.last_updated = now;
    done.etag = crate::enrollment::new_etag();
    match outcome {
        Ok((assignment, substatus)) => {
            done.assignment = Some(assignment.clone());
            done.state = RegistrationState::Assigned { substatus: *substatus };
        }
        Err(reason) => done.state = RegistrationState::Failed { reason: reason.clone() },
    }
    done
}
