//! Enrollments and enrollment groups.

use base::IfMatch;
use base::hosts::Service as Named;
use provisioning::attestation::{Attestation, AttestationDraft};
use provisioning::{EnrollmentDraft, EnrollmentKind, Service};

use super::{Ground, Outcome, caller};
use crate::Failure;
use crate::seed::entries::provisioning::Enrollment;

/// An enrollment is what the seed says, as after a PUT; keys that it leaves open are made once and kept.
pub(super) async fn enrollment(ground: &Ground, enrollment: &Enrollment) -> Result<Outcome, Failure> {
    let name = &enrollment.service;
    let service = ground.services.find(name);
    let service = service.ok_or_else(|| format!("there is no provisioning service \"{name}\""))?;
    let host = |hub: &String| ground.manager.hosts().canonical(Named::Hub, hub, "");
    let draft = EnrollmentDraft {
        iot_hubs: enrollment.draft.iot_hubs.iter().map(host).collect(),
        ..enrollment.draft.clone()
    };
    let found = service.get_enrollment(&caller(), draft.kind, &draft.id).await;
    let (if_match, outcome) = match found {
        Ok((old, _)) if is_as_said(&service, &draft, &old)? => return Ok(Outcome::Kept),
        Ok(_) => (IfMatch::Any, Outcome::Changed),
        Err(provisioning::Error::EnrollmentNotFound | provisioning::Error::EnrollmentGroupNotFound) => {
            (IfMatch::Absent, Outcome::Made)
        }
        Err(error) => return Err(error.into()),
    };
    service.put_enrollment(&caller(), &draft, &if_match).await?;
    Ok(outcome)
}

fn is_as_said(
    service: &Service,
    draft: &EnrollmentDraft,
    old: &provisioning::Enrollment,
) -> Result<bool, provisioning::Error> {
    let is_group = draft.kind == EnrollmentKind::Group;
    let (settings, stored) = (service.settings(), Some(&old.attestation));
    // Keys that are left open are made anew where another attestation was before.
    let attestation = match (&draft.attestation, stored) {
        (AttestationDraft::SymmetricKey { .. }, Some(Attestation::SymmetricKey { .. }))
        | (AttestationDraft::Tpm { .. } | AttestationDraft::X509(_), _) => {
            draft.attestation.resolve(stored, &settings, is_group)?
        }
        (AttestationDraft::SymmetricKey { .. }, _) => return Ok(false),
    };
    Ok(attestation == old.attestation
        && draft.device_id == old.device_id
        && draft.optional_device_information == old.optional_device_information
        && draft.iot_edge == old.iot_edge
        && draft.initial_twin == old.initial_twin
        && draft.is_enabled == old.is_enabled
        && draft.reprovision_policy == old.reprovision_policy
        && draft.allocation_policy == old.allocation_policy
        && draft.iot_hubs == old.iot_hubs)
}
