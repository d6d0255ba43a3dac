//! CA certificates of hubs and provisioning services as Resource Manager shows them (`iothub-service.md` §15, `dps.md` §5.4).

use access::{CaCertificate, CaCertificateDraft};
use resource_manager::ResourceId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::{At, Outcome, parse};
use crate::wire::{Request, Response};

/// Old versions send the members flat, new ones in `properties`; both are taken at every version.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateBody {
    certificate: Option<String>,
    is_verified: Option<bool>,
    properties: Option<CertificateProperties>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateProperties {
    certificate: Option<String>,
    is_verified: Option<bool>,
}

impl CertificateBody {
    /// The text of the certificate, and whether its sender says that it needs no proof.
    fn read(self) -> Result<(String, Option<bool>), Refusal> {
        let nested = self.properties.unwrap_or_default();
        let text = nested.certificate.or(self.certificate);
        let text = text.ok_or_else(|| Refusal::content("The property 'certificate' is required."))?;
        Ok((text, nested.is_verified.or(self.is_verified)))
    }
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let id = parse::owner(request)?;
    let all = at.manager.certificates(&at.caller, &id).await?;
    let all: Vec<_> = all.iter().map(|certificate| body(&id, certificate)).collect();
    Ok(Response::json(200, &json!({"value": all})))
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let (id, name) = (parse::owner(request)?, request.param("certificate"));
    let found = at.manager.certificate(&at.caller, &id, name).await?;
    Ok(Response::json(200, &body(&id, &found)))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let (certificate, is_verified) = parse::body::<CertificateBody>(request)?.read()?;
    let draft =
        CaCertificateDraft { name: request.param("certificate").to_owned(), certificate, is_verified };
    let id = parse::owner(request)?;
    let made = at.manager.put_certificate(&at.caller, &id, &draft, &request.if_match()).await?;
    Ok(Response::json(200, &body(&id, &made)))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let (id, name) = (parse::owner(request)?, request.param("certificate"));
    let existed = at.manager.delete_certificate(&at.caller, &id, name, &request.if_match()).await?;
    Ok(if existed { Response::empty(200) } else { Response::new(204) })
}

pub(super) async fn generate_verification_code(at: At, request: &Request) -> Outcome {
    let (id, name) = (parse::owner(request)?, request.param("certificate"));
    let with_code = at.manager.generate_verification_code(&at.caller, &id, name, &request.if_match()).await?;
    let mut shown = body(&id, &with_code);
    shown["properties"]["verificationCode"] = json!(with_code.verification_code);
    Ok(Response::json(200, &shown))
}

pub(super) async fn verify(at: At, request: &Request) -> Outcome {
    let (id, name) = (parse::owner(request)?, request.param("certificate"));
    let (proof, _) = parse::body::<CertificateBody>(request)?.read()?;
    let verified =
        at.manager.verify_certificate(&at.caller, &id, (name, &proof), &request.if_match()).await?;
    Ok(Response::json(200, &body(&id, &verified)))
}

fn body(owner: &ResourceId, certificate: &CaCertificate) -> Value {
    json!({
        "properties": {
            "subject": certificate.subject,
            "expiry": certificate.expires.rfc1123(),
            "thumbprint": certificate.thumbprint,
            "isVerified": certificate.is_verified,
            "created": certificate.created.rfc1123(),
            "updated": certificate.updated.rfc1123(),
            "certificate": certificate.certificate,
        },
        "id": format!("{}/certificates/{}", owner.path(), certificate.name),
        "name": certificate.name,
        "type": format!("{}/Certificates", owner.resource_type.full_name()),
        "etag": certificate.etag_text(),
    })
}
