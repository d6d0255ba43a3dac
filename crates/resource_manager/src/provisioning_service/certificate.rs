//! CA certificates of a provisioning service (`dps.md` §5.4). They are kept by the service itself; here is who may touch them.

use access::Caller;
use base::IfMatch;
use base::caps;
use provisioning::{CaCertificate, CaCertificateDraft, Service};

use super::properties;
use crate::ResourceManager;
use crate::error::Error;
use crate::id::ResourceId;

const READ: &str = "Microsoft.Devices/provisioningServices/certificates/Read";
const WRITE: &str = "Microsoft.Devices/provisioningServices/certificates/Write";
const DELETE: &str = "Microsoft.Devices/provisioningServices/certificates/Delete";

impl ResourceManager {
    /// `DpsCertificate_List`.
    pub async fn provisioning_certificates(
        &self,
        caller: &Caller,
        id: &ResourceId,
    ) -> Result<Vec<CaCertificate>, Error> {
        Ok(self.running_service(caller, READ, id).await?.certificates())
    }

    /// `DpsCertificate_Get`.
    pub async fn provisioning_certificate(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
    ) -> Result<CaCertificate, Error> {
        let found = self.running_service(caller, READ, id).await?.certificate(name);
        found.ok_or_else(|| {
            Error::ResourceNotFound(format!("{}/certificates/{name}", id.relative()), id.group.name.clone())
        })
    }

    /// `DpsCertificate_CreateOrUpdate`.
    pub async fn put_provisioning_certificate(
        &self,
        caller: &Caller,
        id: &ResourceId,
        draft: &CaCertificateDraft,
        if_match: &IfMatch,
    ) -> Result<CaCertificate, Error> {
        let service = self.running_service(caller, WRITE, id).await?;
        check_name(&draft.name)?;
        service.put_certificate(draft, if_match).await.map_err(refused)
    }

    /// `DpsCertificate_Delete`; whether there was one.
    pub async fn delete_provisioning_certificate(
        &self,
        caller: &Caller,
        id: &ResourceId,
        name: &str,
        if_match: &IfMatch,
    ) -> Result<bool, Error> {
        let service = self.running_service(caller, DELETE, id).await?;
        service.delete_certificate(name, if_match).await.map_err(refused)
    }

    async fn running_service(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &ResourceId,
    ) -> Result<Service, Error> {
        self.allow(caller, action, &id.scope(), &id.group.subscription).await?;
        let resource = self.must_get(id).await?;
        self.services.get_now(&properties(&resource)?.instance).await?.ok_or_else(|| {
            Error::Conflict(format!("The provisioning service '{}' is not ready yet.", id.name))
        })
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

fn refused(error: provisioning::Error) -> Error {
    use provisioning::Error as Refusal;
    match error {
        Refusal::BadRequest(message) => Error::BadRequest(message),
        Refusal::PreconditionFailed | Refusal::AlreadyExists => Error::PreconditionFailed("If-Match"),
        Refusal::QuotaExceeded => Error::QuotaExceeded(error.to_string()),
        Refusal::Conflict => Error::WrittenMeanwhile,
        Refusal::Unauthorized
        | Refusal::PrincipalUnauthorized(_)
        | Refusal::RegistrationNotFound
        | Refusal::EnrollmentNotFound
        | Refusal::EnrollmentGroupNotFound
        | Refusal::OperationNotFound
        | Refusal::MessageTooLarge
        | Refusal::Throttled { .. }
        | Refusal::ServerBusy
        | Refusal::ServerError => Error::Store(store::StoreError::Unavailable(error.to_string())),
    }
}
