//! Enrollments: which devices may register, how they prove themselves, and what they are given. The service API's core (`dps.md` §3).
//! Doors call it. An enrollment and the count of its kind commit together.

mod bulk;
mod record;
pub mod rules;
#[cfg(test)]
mod tests;

use access::{Caller, Permission};
use base::{Continuation, IfMatch, Page, caps};
use store::{Batch, Counter, Key, Scan, Stored, retry_on_conflict};

pub use self::bulk::{BulkFailure, BulkItem, BulkMode};
pub use self::record::{CustomAllocation, Enrollment, EnrollmentKind, ReprovisionPolicy};
pub(crate) use self::record::{enrollment_key, new_etag};
pub use self::rules::EnrollmentDraft;
use crate::attestation::Attestation;
use crate::error::Error;
use crate::ids::RegistrationId;
use crate::registration::Registration;
use crate::service::Service;

impl Service {
    /// `IndividualEnrollment_Get`, `EnrollmentGroup_Get`. An individual one comes with what became of its device.
    pub async fn get_enrollment(
        &self,
        caller: &Caller,
        kind: EnrollmentKind,
        id: &RegistrationId,
    ) -> Result<(Enrollment, Option<Registration>), Error> {
        self.admit(caller, read_permission(kind))?;
        let enrollment = self.enrollment(kind, id).await?.ok_or_else(|| not_found(kind))?.record;
        let registration = match kind {
            EnrollmentKind::Individual => self.registration(id).await?,
            EnrollmentKind::Group => None,
        };
        Ok((enrollment, registration.map(|stored| stored.record)))
    }

    /// `IndividualEnrollment_CreateOrUpdate`, `EnrollmentGroup_CreateOrUpdate`: a full replacement, except for secrets that the
    /// caller left out because it was never shown them.
    pub async fn put_enrollment(
        &self,
        caller: &Caller,
        draft: &EnrollmentDraft,
        if_match: &IfMatch,
    ) -> Result<Enrollment, Error> {
        self.admit(caller, write_permission(draft.kind))?;
        retry_on_conflict(async || {
            let old = self.enrollment(draft.kind, &draft.id).await?;
            rules::check_put(old.as_ref().map(|old| &old.record), if_match)?;
            let settings = self.settings();
            let find_link = |text: &str| self.find_link(&settings, text);
            let new = rules::put(
                self.instance(),
                old.as_ref().map(|old| &old.record),
                draft,
                &settings,
                &find_link,
                self.now(),
            )?;
            let (mut batch, max) = (Batch::default(), count_max(draft.kind));
            match &old {
                Some(old) => batch.replace(old, &new),
                None => batch.insert(&new),
            }
            let (before, now) = (old.as_ref().map(|old| counted_as(&old.record)), counted_as(&new));
            if before != Some(now) {
                batch.add(self.count(now), 1, max);
                if let Some(before) = before {
                    batch.add(self.count(before), -1, max);
                }
            }
            self.commit(batch).await?;
            Ok(new)
        })
        .await
    }

    /// `IndividualEnrollment_Delete`, `EnrollmentGroup_Delete`. An individual's registration goes with it; those of a group stay.
    pub async fn delete_enrollment(
        &self,
        caller: &Caller,
        kind: EnrollmentKind,
        id: &RegistrationId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        self.admit(caller, delete_permission(kind))?;
        retry_on_conflict(async || {
            let old = self.enrollment(kind, id).await?.ok_or_else(|| not_found(kind))?;
            if !if_match.allows(&old.record.etag) {
                return Err(Error::PreconditionFailed);
            }
            let mut batch = Batch::default();
            batch.delete(&old);
            batch.add(self.count(counted_as(&old.record)), -1, count_max(kind));
            if kind == EnrollmentKind::Individual {
                match self.registration(id).await? {
                    // Of a device that has not come back since it left its group, it is still the group's.
                    Some(stored) if stored.record.enrollment_kind != kind => {}
                    Some(own) => self.forget_registration(&mut batch, &own),
                    // A device that registers meanwhile must not leave one behind.
                    None => batch.guard_absent::<Registration>(self.registration_key(id)),
                }
            }
            Ok(self.commit(batch).await.map(drop)?)
        })
        .await
    }

    /// `IndividualEnrollment_GetAttestationMechanism`, `EnrollmentGroup_GetAttestationMechanism`: the one read that shows keys.
    pub async fn get_attestation_mechanism(
        &self,
        caller: &Caller,
        kind: EnrollmentKind,
        id: &RegistrationId,
    ) -> Result<Attestation, Error> {
        self.admit(caller, Permission::AttestationMechanismRead)?;
        Ok(self.enrollment(kind, id).await?.ok_or_else(|| not_found(kind))?.record.attestation)
    }

    /// `IndividualEnrollment_Query`, `EnrollmentGroup_Query`: those that `keep` keeps, in the order of ids.
    pub async fn query_enrollments(
        &self,
        caller: &Caller,
        kind: EnrollmentKind,
        keep: impl Fn(&Enrollment) -> bool,
        page_size: usize,
        from: Option<&Continuation>,
    ) -> Result<Page<Enrollment>, Error> {
        self.admit(caller, read_permission(kind))?;
        let prefix = Key::new([self.instance().as_str(), kind.key_text()]);
        let mut after = match from {
            Some(token) => Some(token.decode::<String>().map_err(|error| Error::bad(error.to_string()))?),
            None => None,
        };
        let (mut items, mut seen) = (Vec::new(), 0);
        loop {
            let start = after.as_ref().map(|id| enrollment_key(self.instance(), kind, id));
            let page: Vec<Stored<Enrollment>> =
                self.store().scan(Scan::new(prefix.clone(), caps::SCAN_PAGE).after(start)).await?;
            let is_last = page.len() < caps::SCAN_PAGE;
            for stored in page {
                if items.len() == page_size || seen == caps::QUERY_ROWS_MAX {
                    let next = after.as_ref().map(Continuation::encode);
                    return Ok(Page { items, next });
                }
                (after, seen) = (Some(stored.record.id.folded()), seen + 1);
                if keep(&stored.record) {
                    items.push(stored.record);
                }
            }
            if is_last {
                return Ok(Page { items, next: None });
            }
        }
    }

    pub(crate) async fn enrollment(
        &self,
        kind: EnrollmentKind,
        id: &RegistrationId,
    ) -> Result<Option<Stored<Enrollment>>, Error> {
        Ok(self.store().get(&enrollment_key(self.instance(), kind, &id.folded())).await?)
    }

    /// Every group, oldest first: when several fit a device, the first one made wins.
    pub(crate) async fn groups(&self) -> Result<Vec<Enrollment>, Error> {
        let prefix = Key::new([self.instance().as_str(), EnrollmentKind::Group.key_text()]);
        let limit = 2 * usize::try_from(caps::ENROLLMENT_GROUPS_MAX).expect("a small number");
        let stored: Vec<Stored<Enrollment>> = self.store().scan(Scan::new(prefix, limit)).await?;
        let mut groups: Vec<Enrollment> = stored.into_iter().map(|stored| stored.record).collect();
        groups.sort_by(|a, b| (a.created, a.id.as_str()).cmp(&(b.created, b.id.as_str())));
        Ok(groups)
    }

    fn count(&self, counted_as: &str) -> Counter {
        Counter::new(self.instance(), format!("enrollments/{counted_as}"))
    }
}

/// What an enrollment is counted among. Groups with certificates and groups with keys have a limit each.
fn counted_as(enrollment: &Enrollment) -> &'static str {
    match (enrollment.kind, &enrollment.attestation) {
        (EnrollmentKind::Individual, _) => "individual",
        (EnrollmentKind::Group, Attestation::X509(_)) => "group/x509",
        (EnrollmentKind::Group, Attestation::SymmetricKey { .. } | Attestation::Tpm { .. }) => "group",
    }
}

fn count_max(kind: EnrollmentKind) -> i64 {
    match kind {
        EnrollmentKind::Individual => caps::ENROLLMENTS_MAX,
        EnrollmentKind::Group => caps::ENROLLMENT_GROUPS_MAX,
    }
}

fn read_permission(kind: EnrollmentKind) -> Permission {
    match kind {
        EnrollmentKind::Individual => Permission::EnrollmentRead,
        EnrollmentKind::Group => Permission::EnrollmentGroupRead,
    }
}

fn write_permission(kind: EnrollmentKind) -> Permission {
    match kind {
        EnrollmentKind::Individual => Permission::EnrollmentWrite,
        EnrollmentKind::Group => Permission::EnrollmentGroupWrite,
    }
}

fn delete_permission(kind: EnrollmentKind) -> Permission {
    match kind {
        EnrollmentKind::Individual => Permission::EnrollmentDelete,
        EnrollmentKind::Group => Permission::EnrollmentGroupDelete,
    }
}

pub(crate) fn not_found(kind: EnrollmentKind) -> Error {
    match kind {
        EnrollmentKind::Individual => Error::EnrollmentNotFound,
        EnrollmentKind::Group => Error::EnrollmentGroupNotFound,
    }
}
