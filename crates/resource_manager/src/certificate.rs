//! CA certificates of hubs and provisioning services (`iothub-service.md` §15, `dps.md` §5.4). They are kept by the instance itself,
//! and their rules are `access::ca_certificates`; here is who may touch them.

use access::{CaCertificate, CaCertificateDraft, CaCertificateError, CaCertificates, Caller};
use base::{IfMatch, Timestamp, caps};
use hub::Hub;
use provisioning::Service;

use crate::error::Error;
use crate::id::ResourceId;
use crate::provider::ResourceType;
use crate::{ResourceManager, provisioning_service};

/// The operations for which a role may hold the right, as the resource providers name them.
#[derive(Clone, Copy)]
enum Action {
    Read,
    Write,
    Delete,
    GenerateVerificationCode,
    Verify,
}

/// The instance that keeps the certificates.
enum Keeper {
    Hub(Hub),
    Service(Service),
}

impl ResourceManager {
    /// `Certificates_ListByIotHub`, `DpsCertificate_List`.
    pub async fn certificates(&self, caller: &Caller, id: &ResourceId) -> Result<CaCertificates, Error> {
        Ok(self.keeper(caller, Action::Read, id).await?.certificates())
    }

    /// `Certificates_Get`, `DpsCertificate_Get`.
    pub async fn certificate(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<CaCertificate, Error> {
        let all = self.keeper(caller, Action::Read, id).await?.certificates();
        all.find(name).cloned().ok_or_else(|| not_found(id, name))
    }

    /// `Certificates_CreateOrUpdate`, `DpsCertificate_CreateOrUpdate`.
    pub async fn put_certificate(
        &self,
        caller: &Caller,
        id: &ResourceId,
        draft: &CaCertificateDraft,
        if_match: &IfMatch,
    ) -> Result<CaCertificate, Error> {
        let keeper = self.keeper(caller, Action::Write, id).await?;
        check_name(&draft.name)?;
        keeper.change(|all, now| all.put(draft, if_match, now)).await.map_err(|error| refused(id, error))
    }

    /// `Certificates_Delete`, `DpsCertificate_Delete`; whether there was one. Devices and enrollments that rely on it are let in no
    /// more.
    pub async fn delete_certificate(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
        if_match: &IfMatch,
    ) -> Result<bool, Error> {
        let keeper = self.keeper(caller, Action::Delete, id).await?;
        keeper.change(|all, _| all.remove(name, if_match)).await.map_err(|error| refused(id, error))
    }

    /// `Certificates_GenerateVerificationCode`, `DpsCertificate_GenerateVerificationCode`.
    pub async fn generate_verification_code(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
        if_match: &IfMatch,
    ) -> Result<CaCertificate, Error> {
        let keeper = self.keeper(caller, Action::GenerateVerificationCode, id).await?;
        let changed = keeper.change(|all, now| all.generate_verification_code(name, if_match, now)).await;
        changed.map_err(|error| refused(id, error))
    }

    /// `Certificates_Verify`, `DpsCertificate_VerifyCertificate`.
    pub async fn verify_certificate(
        &self,
        caller: &Caller,
        id: &ResourceId,
        (name, proof): (&str, &str),
        if_match: &IfMatch,
    ) -> Result<CaCertificate, Error> {
        let keeper = self.keeper(caller, Action::Verify, id).await?;
        let changed = keeper.change(|all, now| all.verify(name, proof, if_match, now)).await;
        changed.map_err(|error| refused(id, error))
    }

    async fn keeper(&self, caller: &Caller, action: Action, id: &ResourceId) -> Result<Keeper, Error> {
        let is_hub = id.resource_type == ResourceType::IotHub;
        self.allow(caller, action.name(is_hub), &id.scope(), &id.group.subscription).await?;
        let resource = self.must_get(id).await?;
        let found = if is_hub {
            Some(Keeper::Hub(self.hub_of(&resource).await?))
        } else {
            let properties = provisioning_service::properties(&resource)?;
            self.services.get_now(&properties.instance).await?.map(Keeper::Service)
        };
        found.ok_or_else(|| Error::not_ready(id))
    }
}

impl Action {
    fn name(self, is_hub: bool) -> &'static str {
        match (self, is_hub) {
            (Self::Read, true) => "Microsoft.Devices/iotHubs/certificates/Read",
            (Self::Read, false) => "Microsoft.Devices/provisioningServices/certificates/Read",
            (Self::Write, true) => "Microsoft.Devices/iotHubs/certificates/Write",
            (Self::Write, false) => "Microsoft.Devices/provisioningServices/certificates/Write",
            (Self::Delete, true) => "Microsoft.Devices/iotHubs/certificates/Delete",
            (Self::Delete, false) => "Microsoft.Devices/provisioningServices/certificates/Delete",
            (Self::GenerateVerificationCode, true) => {
                "Microsoft.Devices/iotHubs/certificates/generateVerificationCode/Action"
            }
            (Self::GenerateVerificationCode, false) => {
                "Microsoft.Devices/provisioningServices/certificates/generateVerificationCode/Action"
            }
            (Self::Verify, true) => "Microsoft.Devices/iotHubs/certificates/verify/Action",
            (Self::Verify, false) => "Microsoft.Devices/provisioningServices/certificates/verify/Action",
        }
    }
}

impl Keeper {
    fn certificates(&self) -> CaCertificates {
        match self {
            Self::Hub(hub) => hub.settings().certificates.clone(),
            Self::Service(service) => service.settings().certificates.clone(),
        }
    }

    async fn change<T>(
        &self,
        change: impl Fn(&mut CaCertificates, Timestamp) -> Result<T, CaCertificateError>,
    ) -> Result<T, CaCertificateError> {
        match self {
            Self::Hub(hub) => hub.change_certificates(change).await,
            Self::Service(service) => service.change_certificates(change).await,
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if (1..=caps::CERTIFICATE_NAME_CHARACTERS_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::InvalidResourceName(format!(
        "The certificate name '{name}' must have 1 to {} letters, digits, '-', '.' and '_'.",
        caps::CERTIFICATE_NAME_CHARACTERS_MAX
    )))
}

fn not_found(id: &ResourceId, name: &str) -> Error {
    Error::ResourceNotFound(format!("{}/certificates/{name}", id.relative()), id.group.name.clone())
}

fn refused(id: &ResourceId, error: CaCertificateError) -> Error {
    use CaCertificateError as Of;
    match error {
        Of::NotFound(name) => not_found(id, &name),
        Of::PreconditionFailed => Error::PreconditionFailed("If-Match"),
        Of::NoCertificate | Of::Unreadable | Of::NoCode(_) | Of::NoProof(_) => {
            Error::BadRequest(error.to_string())
        }
        Of::TooMany => Error::QuotaExceeded(error.to_string()),
        Of::Gone => Error::not_found(id),
        Of::Conflict => Error::WrittenMeanwhile,
        Of::Store(error) => Error::Store(error),
    }
}
