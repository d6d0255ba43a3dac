//! How a device proves that it belongs to an enrollment: the stored form, what a caller may write, and the checks between them.

use base::{Key, Secret};
use serde::{Deserialize, Serialize};

use crate::certificate::{self, X509Certificate};
use crate::error::Error;
use crate::settings::ServiceSettings;

/// Generated keys have this many bytes.
const KEY_BYTES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Attestation {
    SymmetricKey {
        primary_key: Key,
        secondary_key: Key,
    },
    Tpm {
        endorsement_key: String,
        storage_root_key: Option<String>,
    },
    /// Boxed because it is some ten times as large as the others.
    X509(Box<X509Attestation>),
}

/// Exactly one of the three forms of X.509 attestation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "camelCase")]
pub enum X509Attestation {
    ClientCertificates(Pair<X509Certificate>),
    SigningCertificates(Pair<X509Certificate>),
    CaReferences(Pair<String>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<T> {
    pub primary: Option<T>,
    pub secondary: Option<T>,
}

/// What a caller writes. `None` and the empty text mean: make one, or keep the stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttestationDraft {
    SymmetricKey { primary_key: Option<Secret>, secondary_key: Option<Secret> },
    Tpm { endorsement_key: String, storage_root_key: Option<String> },
    X509(X509Draft),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum X509Draft {
    ClientCertificates(Pair<CertificateDraft>),
    SigningCertificates(Pair<CertificateDraft>),
    CaReferences(Pair<String>),
}

/// A certificate's text, or nothing when the caller sends back only what it read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateDraft {
    pub certificate: Option<String>,
    /// Whether a description came along: then a missing text means the stored one.
    pub has_info: bool,
}

impl AttestationDraft {
    /// Makes what is to be stored. `stored` is the present attestation, whose secrets a round trip keeps (`dps.md` §2.4).
    pub fn resolve(
        &self,
        stored: Option<&Attestation>,
        settings: &ServiceSettings,
        is_group: bool,
    ) -> Result<Attestation, Error> {
        match self {
            Self::SymmetricKey { primary_key, secondary_key } => {
                let kept = match stored {
                    Some(Attestation::SymmetricKey { primary_key, secondary_key }) => {
                        (Some(primary_key), Some(secondary_key))
                    }
                    _ => (None, None),
                };
                Ok(Attestation::SymmetricKey {
                    primary_key: key(primary_key.as_ref(), kept.0)?,
                    secondary_key: key(secondary_key.as_ref(), kept.1)?,
                })
            }
            Self::Tpm { .. } if is_group => Err(Error::bad("A TPM cannot attest an enrollment group.")),
            Self::Tpm { endorsement_key, storage_root_key } => {
                check_base64(endorsement_key, "endorsementKey")?;
                if let Some(key) = storage_root_key {
                    check_base64(key, "storageRootKey")?;
                }
                let storage_root_key = storage_root_key.clone();
                Ok(Attestation::Tpm { endorsement_key: endorsement_key.clone(), storage_root_key })
            }
            Self::X509(draft) => Ok(Attestation::X509(Box::new(draft.resolve(stored, settings, is_group)?))),
        }
    }
}

impl X509Draft {
    fn resolve(
        &self,
        stored: Option<&Attestation>,
        settings: &ServiceSettings,
        is_group: bool,
    ) -> Result<X509Attestation, Error> {
        let stored = match stored {
            Some(Attestation::X509(stored)) => Some(&**stored),
            _ => None,
        };
        match self {
            Self::ClientCertificates(_) if is_group => Err(Error::bad(
                "An enrollment group takes signingCertificates or caReferences, not clientCertificates.",
            )),
            Self::SigningCertificates(_) if !is_group => Err(Error::bad(
                "An individual enrollment takes clientCertificates or caReferences, not signingCertificates.",
            )),
            Self::ClientCertificates(pair) => {
                let kept = match stored {
                    Some(X509Attestation::ClientCertificates(kept)) => Some(kept),
                    _ => None,
                };
                Ok(X509Attestation::ClientCertificates(certificates(pair, kept)?))
            }
            Self::SigningCertificates(pair) => {
                let kept = match stored {
                    Some(X509Attestation::SigningCertificates(kept)) => Some(kept),
                    _ => None,
                };
                Ok(X509Attestation::SigningCertificates(certificates(pair, kept)?))
            }
            Self::CaReferences(pair) => {
                // A certificate that is gone must not keep anybody from disabling its enrollments.
                let is_kept = |name: &str| match stored {
                    Some(X509Attestation::CaReferences(kept)) => {
                        kept.primary.iter().chain(&kept.secondary).any(|kept| kept.eq_ignore_ascii_case(name))
                    }
                    _ => false,
                };
                let named = pair.primary.iter().chain(&pair.secondary);
                for name in named.filter(|name| !is_kept(name)) {
                    let known = settings.certificates.iter().find(|ca| ca.name.eq_ignore_ascii_case(name));
                    if !known.is_some_and(|ca| ca.is_verified) {
                        return Err(Error::bad(format!(
                            "CA certificate '{name}' does not exist or is not verified."
                        )));
                    }
                }
                if pair.primary.is_none() {
                    return Err(Error::bad("The primary CA reference is missing."));
                }
                Ok(X509Attestation::CaReferences(pair.clone()))
            }
        }
    }
}

fn certificates(
    draft: &Pair<CertificateDraft>,
    stored: Option<&Pair<X509Certificate>>,
) -> Result<Pair<X509Certificate>, Error> {
    let resolve = |draft: Option<&CertificateDraft>, kept: Option<&X509Certificate>| match draft {
        Some(CertificateDraft { certificate: Some(text), .. }) if !text.trim().is_empty() => {
            certificate::parse(text).map(Some)
        }
        Some(CertificateDraft { has_info: true, .. }) => Ok(kept.cloned()),
        Some(_) | None => Ok(None),
    };
    let pair = Pair {
        primary: resolve(draft.primary.as_ref(), stored.and_then(|s| s.primary.as_ref()))?,
        secondary: resolve(draft.secondary.as_ref(), stored.and_then(|s| s.secondary.as_ref()))?,
    };
    if pair.primary.is_none() && pair.secondary.is_none() {
        return Err(Error::bad("X.509 attestation needs at least one certificate."));
    }
    Ok(pair)
}

fn key(given: Option<&Secret>, kept: Option<&Key>) -> Result<Key, Error> {
    match given.map(Secret::expose).filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map_err(|error| Error::bad(format!("Invalid symmetric key: {error}."))),
        None => Ok(kept.cloned().unwrap_or_else(|| Key::generate(KEY_BYTES))),
    }
}

fn check_base64(text: &str, name: &str) -> Result<(), Error> {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    if decoded.is_ok_and(|bytes| !bytes.is_empty()) {
        return Ok(());
    }
    Err(Error::bad(format!("{name} is not base64.")))
}
