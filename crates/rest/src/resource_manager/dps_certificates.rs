//! CA certificates of provisioning services as Resource Manager shows them (`dps.md` §5.4).

use provisioning::{CaCertificate, CaCertificateDraft};
use resource_manager::{ResourceId, ResourceType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::parse;
use super::{At, Outcome};
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

fn id(request: &Request) -> ResourceId {
    parse::resource(request, ResourceType::ProvisioningService)
}

pub(super) async fn list(at: At, request: &Request) -> Outcome {
    let id = id(request);
    let all = at.manager.provisioning_certificates(&at.caller, &id).await?;
    let all: Vec<_> = all.iter().map(|certificate| body(&id, certificate)).collect();
    Ok(Response::json(200, &json!({"value": all})))
}

pub(super) async fn get(at: At, request: &Request) -> Outcome {
    let (id, name) = (id(request), request.param("certificate"));
    let found = at.manager.provisioning_certificate(&at.caller, &id, name).await?;
    Ok(Response::json(200, &body(&id, &found)))
}

pub(super) async fn put(at: At, request: &Request) -> Outcome {
    let sent: CertificateBody = parse::body(request)?;
    let nested = sent.properties.unwrap_or_default();
    let certificate = nested.certificate.or(sent.certificate);
    let draft = CaCertificateDraft {
        name: request.param("certificate").to_owned(),
        certificate: certificate
            .ok_or_else(|| Refusal::content("The property 'certificate' is required."))?,
        is_verified: nested.is_verified.or(sent.is_verified),
    };
    let id = id(request);
    let made = at.manager.put_provisioning_certificate(&at.caller, &id, &draft, &request.if_match()).await?;
    Ok(Response::json(200, &body(&id, &made)))
}

pub(super) async fn delete(at: At, request: &Request) -> Outcome {
    let (id, name) = (id(request), request.param("certificate"));
    let existed =
        at.manager.delete_provisioning_certificate(&at.caller, &id, name, &request.if_match()).await?;
    Ok(if existed { Response::empty(200) } else { Response::new(204) })
}

fn body(service: &ResourceId, certificate: &CaCertificate) -> Value {
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
        "id": format!("{}/certificates/{}", service.path(), certificate.name),
        "name": certificate.name,
        "type": "Microsoft.Devices/provisioningServices/Certificates",
        "etag": certificate.etag_text(),
    })
}
