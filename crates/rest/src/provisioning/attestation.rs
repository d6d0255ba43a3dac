//! How a device proves itself, on the wire (`dps.md` §2.4). Symmetric keys show only where a caller may see them.

use base::{Key, Secret};
use provisioning::Error;
use provisioning::attestation::{
    Attestation, AttestationDraft, CertificateDraft, Pair, X509Attestation, X509Draft,
};
use provisioning::certificate::X509Certificate;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttestationBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tpm: Option<TpmBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509: Option<X509Body<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symmetric_key: Option<SymmetricKeyBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TpmBody<'a> {
    endorsement_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_root_key: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SymmetricKeyBody<'a> {
    primary_key: &'a str,
    secondary_key: &'a str,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct X509Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificates: Option<PairBody<&'a X509Certificate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_certificates: Option<PairBody<&'a X509Certificate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_references: Option<PairBody<&'a str>>,
}

#[derive(Serialize)]
struct PairBody<T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secondary: Option<T>,
}

impl<'a> AttestationBody<'a> {
    /// As reads show it: a symmetric key attestation without its keys.
    pub(super) fn new(attestation: &'a Attestation) -> Self {
        let body = |kind| Self { kind, tpm: None, x509: None, symmetric_key: None };
        match attestation {
            Attestation::SymmetricKey { .. } => body("symmetricKey"),
            Attestation::Tpm { endorsement_key, storage_root_key } => {
                let storage_root_key = storage_root_key.as_deref();
                Self { tpm: Some(TpmBody { endorsement_key, storage_root_key }), ..body("tpm") }
            }
            Attestation::X509(x509) => Self { x509: Some(X509Body::new(x509)), ..body("x509") },
        }
    }

    pub(super) fn with_secrets(attestation: &'a Attestation) -> Self {
        let mut body = Self::new(attestation);
        if let Attestation::SymmetricKey { primary_key, secondary_key } = attestation {
            let (primary_key, secondary_key) = (Key::text(primary_key), Key::text(secondary_key));
            body.symmetric_key = Some(SymmetricKeyBody { primary_key, secondary_key });
        }
        body
    }
}

impl<'a> X509Body<'a> {
    fn new(attestation: &'a X509Attestation) -> Self {
        match attestation {
            X509Attestation::ClientCertificates(pair) => {
                Self { client_certificates: Some(PairBody::of(pair)), ..Self::default() }
            }
            X509Attestation::SigningCertificates(pair) => {
                Self { signing_certificates: Some(PairBody::of(pair)), ..Self::default() }
            }
            X509Attestation::CaReferences(pair) => {
                let (primary, secondary) = (pair.primary.as_deref(), pair.secondary.as_deref());
                Self { ca_references: Some(PairBody { primary, secondary }), ..Self::default() }
            }
        }
    }
}

impl<'a> PairBody<&'a X509Certificate> {
    fn of(pair: &'a Pair<X509Certificate>) -> Self {
        Self { primary: pair.primary.as_ref(), secondary: pair.secondary.as_ref() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttestationInput {
    #[serde(rename = "type")]
    kind: Option<String>,
    tpm: Option<TpmInput>,
    x509: Option<X509Input>,
    symmetric_key: Option<SymmetricKeyInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TpmInput {
    endorsement_key: Option<String>,
    storage_root_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SymmetricKeyInput {
    primary_key: Option<Secret>,
    secondary_key: Option<Secret>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct X509Input {
    client_certificates: Option<CertificatesInput>,
    signing_certificates: Option<CertificatesInput>,
    ca_references: Option<NamesInput>,
}

#[derive(Deserialize)]
struct NamesInput {
    primary: Option<String>,
    secondary: Option<String>,
}

#[derive(Deserialize)]
struct CertificatesInput {
    primary: Option<CertificateInput>,
    secondary: Option<CertificateInput>,
}

#[derive(Deserialize)]
struct CertificateInput {
    certificate: Option<String>,
    info: Option<Value>,
}

impl AttestationInput {
    /// The type says which member counts; another one beside it makes the meaning doubtful.
    pub(super) fn into_draft(self) -> Result<AttestationDraft, Error> {
        let kind = self.kind.as_deref().unwrap_or_default().to_ascii_lowercase();
        match (kind.as_str(), self.symmetric_key, self.tpm, self.x509) {
            ("symmetrickey", keys, None, None) => {
                let SymmetricKeyInput { primary_key, secondary_key } = keys.unwrap_or_default();
                Ok(AttestationDraft::SymmetricKey { primary_key, secondary_key })
            }
            ("tpm", None, Some(TpmInput { endorsement_key, storage_root_key }), None) => {
                let endorsement_key =
                    endorsement_key.ok_or_else(|| Error::bad("tpm.endorsementKey is missing."))?;
                let storage_root_key = storage_root_key.filter(|key| !key.is_empty());
                Ok(AttestationDraft::Tpm { endorsement_key, storage_root_key })
            }
            ("x509", None, None, Some(x509)) => x509.into_draft().map(AttestationDraft::X509),
            ("symmetrickey" | "tpm" | "x509", ..) => {
                Err(Error::bad("attestation must hold the one member that its type names."))
            }
            _ => Err(Error::bad("attestation.type must be symmetricKey, tpm or x509.")),
        }
    }
}

impl X509Input {
    fn into_draft(self) -> Result<X509Draft, Error> {
        match (self.client_certificates, self.signing_certificates, self.ca_references) {
            (Some(pair), None, None) => Ok(X509Draft::ClientCertificates(pair.certificates())),
            (None, Some(pair), None) => Ok(X509Draft::SigningCertificates(pair.certificates())),
            (None, None, Some(pair)) => {
                let given = |name: Option<String>| name.filter(|name| !name.is_empty());
                let (primary, secondary) = (given(pair.primary), given(pair.secondary));
                Ok(X509Draft::CaReferences(Pair { primary, secondary }))
            }
            _ => Err(Error::bad(
                "x509 must hold exactly one of clientCertificates, signingCertificates and caReferences.",
            )),
        }
    }
}

impl CertificatesInput {
    fn certificates(self) -> Pair<CertificateDraft> {
        let draft = |input: CertificateInput| CertificateDraft {
            certificate: input.certificate,
            has_info: input.info.is_some_and(|info| !info.is_null()),
        };
        Pair { primary: self.primary.map(draft), secondary: self.secondary.map(draft) }
    }
}
