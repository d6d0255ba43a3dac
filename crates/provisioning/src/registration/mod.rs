//! Registrations: a device proves itself, is given a hub, and reads what became of it (`dps.md` §1, §2, §4).
//! The doors call `authenticate`, `register` and `operation_status`. What the hub needs is written before the device is told.

mod assign;
mod polls;
mod record;
#[cfg(test)]
mod tests;

use access::{Caller, Permission};
use base::sas::SasToken;
use base::{Continuation, IfMatch, Meter, Page, Refused, caps};
use store::{Batch, Counter, Find, Key, Record, Stored, retry_on_conflict};

pub(crate) use self::polls::Polls;
pub use self::record::{Assignment, FailureReason, ProvedKeys, Registration, RegistrationState, Substatus};
use crate::attestation::Attestation;
use crate::enrollment::{Enrollment, EnrollmentKind, not_found};
use crate::error::Error;
use crate::ids::RegistrationId;
use crate::service::Service;
use crate::version::ApiVersion;
use crate::view::RegistrationRequest;

/// A device that has proved to belong to an enrollment, with the keys it will use at its hub.
#[derive(Clone, Debug)]
pub struct Attested {
    pub registration_id: RegistrationId,
    pub(crate) enrollment: Enrollment,
    pub(crate) keys: ProvedKeys,
}

/// What register and poll answer.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrationOperation {
    pub operation_id: String,
    pub registration: Registration,
}

const RANDOM_BYTES: usize = 8;

impl Service {
    /// Whether `token` opens `registration_id`: an individual enrollment if there is one, else the first group that fits. An
    /// unknown id and a wrong key look the same from outside.
    pub async fn authenticate(
        &self,
        registration_id: &RegistrationId,
        token: Option<&SasToken>,
    ) -> Result<Attested, Refused<Error>> {
        let done = async {
            let refused = |why| Refused::new(Error::Unauthorized, why);
            let token = token.ok_or_else(|| refused("it presented no token"))?;
            let resource = token.resource();
            let expected = format!("{}/registrations/{registration_id}", self.id_scope());
            let is_ours = resource.eq_ignore_ascii_case(&expected)
                || base_decoded(&resource).eq_ignore_ascii_case(&expected);
            if !is_ours {
                return Err(refused("the token is made out to another registration"));
            }
            if token.key_name().is_some_and(|name| name != "registration") {
                return Err(refused("the token names a policy instead of `registration`"));
            }
            if token.is_expired(self.now()) {
                return Err(refused("the token has expired"));
            }
            if let Some(individual) = self.enrollment(EnrollmentKind::Individual, registration_id).await? {
                let Attestation::SymmetricKey { primary_key, secondary_key } = &individual.record.attestation
                else {
                    return Err(refused("its enrollment does not attest by symmetric key"));
                };
                let keys =
                    ProvedKeys { primary_key: primary_key.clone(), secondary_key: secondary_key.clone() };
                return attested(registration_id, individual.record, keys, token)
                    .ok_or_else(|| refused("the token is signed with another key than its enrollment's"));
            }
            for group in self.groups().await? {
                let Attestation::SymmetricKey { primary_key, secondary_key } = &group.attestation else {
                    continue;
                };
                // Devices hash the id as they were given it, which need not be how they write it now.
                for id in [registration_id.as_str(), &registration_id.folded()] {
                    let keys = ProvedKeys {
                        primary_key: primary_key.derive(id),
                        secondary_key: secondary_key.derive(id),
                    };
                    if let Some(attested) = attested(registration_id, group.clone(), keys, token) {
                        return Ok(attested);
                    }
                }
            }
            Err(refused("it has no enrollment, and the token is signed with no enrollment group's key"))
        };
        self.measures().attestations.note(done.await)
    }

    /// `RuntimeRegistration_RegisterDevice`. The assignment is under way when this returns, and usually done.
    pub async fn register(
        &self,
        device: &Attested,
        api_version: &ApiVersion,
        request: &RegistrationRequest,
    ) -> Result<RegistrationOperation, Error> {
        let done = async {
            self.charge(Meter::DeviceRegistration)?;
            let begun = retry_on_conflict(async || {
                let enrollment = device.enrollment.key();
                if self.store().get::<Enrollment>(&enrollment).await?.is_none() {
                    return Err(Error::Unauthorized);
                }
                let old = self.registration(&device.registration_id).await?;
                let begun = begin(self, device, old.as_ref().map(|old| &old.record), api_version.is_sticky());
                let new = Registration { model_id: request.model_id.clone(), ..begun };
                let mut batch = Batch::default();
                // An enrollment that is deleted meanwhile must not leave a registration behind.
                batch.guard_exists::<Enrollment>(enrollment);
                if let Some(old) = &old {
                    batch.replace(old, &new);
                } else {
                    batch.insert(&new);
                    batch.add(self.registration_count(), 1, caps::REGISTRATIONS_MAX);
                }
                self.commit(batch).await?;
                Ok::<_, Error>(new)
            })
            .await?;
            self.assign(&begun).await?;
            Ok(RegistrationOperation { operation_id: begun.operation_id.clone(), registration: begun })
        };
        self.measures().registrations.note(done.await)
    }

    /// `RuntimeRegistration_OperationStatusLookup`.
    pub async fn operation_status(
        &self,
        device: &Attested,
        operation_id: &str,
    ) -> Result<RegistrationOperation, Error> {
        self.charge(Meter::DeviceRegistrationPoll)?;
        let stored = self.registration(&device.registration_id).await?.ok_or(Error::OperationNotFound)?;
        let is_known = |record: &Registration| {
            record.operation_id == operation_id
                || record.earlier_operation_ids.iter().any(|earlier| earlier == operation_id)
        };
        if !is_known(&stored.record) {
            return Err(Error::OperationNotFound);
        }
        self.charge_poll(&device.registration_id)?;
        // Whoever cut the assignment off, the device that asks for it completes it.
        let registration = self.assign(&stored.record).await?;
        Ok(RegistrationOperation { operation_id: operation_id.to_owned(), registration })
    }

    /// `RuntimeRegistration_DeviceRegistrationStatusLookup`: the bare state, as the device itself may read it.
    pub async fn lookup(&self, device: &Attested) -> Result<Registration, Error> {
        self.charge(Meter::DeviceRegistrationPoll)?;
        let stored = self.registration(&device.registration_id).await?;
        Ok(stored.ok_or(Error::RegistrationNotFound)?.record)
    }

    /// `DeviceRegistrationState_Get`.
    pub async fn get_registration(
        &self,
        caller: &Caller,
        id: &RegistrationId,
    ) -> Result<Registration, Error> {
        self.admit(caller, Permission::RegistrationRead)?;
        Ok(self.registration(id).await?.ok_or(Error::RegistrationNotFound)?.record)
    }

    /// `DeviceRegistrationState_Delete`: the device in the hub stays; its next registration is a first one.
    pub async fn delete_registration(
        &self,
        caller: &Caller,
        id: &RegistrationId,
        if_match: &IfMatch,
    ) -> Result<(), Error> {
        self.admit(caller, Permission::RegistrationDelete)?;
        retry_on_conflict(async || {
            let old = self.registration(id).await?.ok_or(Error::RegistrationNotFound)?;
            if !if_match.allows(&old.record.etag) && !if_match.allows(&old.record.etag_text()) {
                return Err(Error::PreconditionFailed);
            }
            let mut batch = Batch::default();
            self.forget_registration(&mut batch, &old);
            Ok(self.commit(batch).await.map(drop)?)
        })
        .await
    }

    /// `DeviceRegistrationState_Query`: the registrations of one group, in the order of ids.
    pub async fn query_registrations(
        &self,
        caller: &Caller,
        group: &RegistrationId,
        page_size: usize,
        from: Option<&Continuation>,
    ) -> Result<Page<Registration>, Error> {
        self.admit(caller, Permission::RegistrationRead)?;
        let after = match from {
            Some(token) => Some(token.decode::<String>().map_err(|error| Error::bad(error.to_string()))?),
            None if self.enrollment(EnrollmentKind::Group, group).await?.is_none() => {
                let orphans = self.of_group(group, None, 1).await?;
                if orphans.is_empty() {
                    return Err(not_found(EnrollmentKind::Group));
                }
                None
            }
            None => None,
        };
        let mut items = self.of_group(group, after.as_deref(), page_size + 1).await?;
        let has_more = items.len() > page_size;
        items.truncate(page_size);
        let last = items.last().filter(|_| has_more);
        let next = last.map(|last| Continuation::encode(&last.registration_id.folded()));
        Ok(Page { items, next })
    }

    async fn of_group(
        &self,
        group: &RegistrationId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Registration>, Error> {
        let after = after.map(|id| Key::new([self.instance().as_str(), id]));
        let find =
            Find::new(Key::instance(self.instance()), "enrollment_group", group.folded(), limit).after(after);
        let stored: Vec<Stored<Registration>> = self.store().find(find).await?;
        Ok(stored.into_iter().map(|stored| stored.record).collect())
    }

    pub(crate) fn forget_registration(&self, batch: &mut Batch, old: &Stored<Registration>) {
        batch.delete(old);
        batch.add(self.registration_count(), -1, caps::REGISTRATIONS_MAX);
    }

    /// Those that outlived their group count, too.
    pub(crate) fn registration_count(&self) -> Counter {
        Counter::new(self.instance(), "registrations")
    }

    pub(crate) async fn registration(
        &self,
        id: &RegistrationId,
    ) -> Result<Option<Stored<Registration>>, Error> {
        Ok(self.store().get(&self.registration_key(id)).await?)
    }

    pub(crate) fn registration_key(&self, id: &RegistrationId) -> Key {
        Key::new([self.instance().as_str(), &id.folded()])
    }
}

fn attested(
    registration_id: &RegistrationId,
    enrollment: Enrollment,
    keys: ProvedKeys,
    token: &SasToken,
) -> Option<Attested> {
    let is_signed = token.is_signed_by(&keys.primary_key) || token.is_signed_by(&keys.secondary_key);
    let registration_id = registration_id.clone();
    is_signed.then_some(Attested { registration_id, enrollment, keys })
}

/// The registration as it stands when a device has just asked.
fn begin(
    service: &Service,
    device: &Attested,
    old: Option<&Registration>,
    sticky_when_unset: bool,
) -> Registration {
    let now = service.now();
    let state = if device.enrollment.is_enabled {
        RegistrationState::Assigning(device.keys.clone())
    } else {
        RegistrationState::Disabled
    };
    let mut earlier_operation_ids: Vec<String> = old.map_or_else(Vec::new, |old| {
        old.earlier_operation_ids.iter().chain([&old.operation_id]).cloned().collect()
    });
    let forgotten = earlier_operation_ids.len().saturating_sub(caps::REGISTRATION_OPERATIONS_MAX);
    earlier_operation_ids.drain(..forgotten);
    let operation = format!("5.{}.{}", base::secret::random_hex(RANDOM_BYTES), uuid::Uuid::new_v4());
    Registration {
        instance: service.instance().clone(),
        registration_id: old
            .map_or_else(|| device.registration_id.clone(), |old| old.registration_id.clone()),
        enrollment_kind: device.enrollment.kind,
        enrollment_id: device.enrollment.id.clone(),
        operation_id: operation,
        earlier_operation_ids,
        sticky_when_unset,
        model_id: None,
        state,
        assignment: old.and_then(|old| old.assignment.clone()),
        created: old.map_or(now, |old| old.created),
        last_updated: now,
        etag: crate::enrollment::new_etag(),
    }
}

fn base_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
