//! The CA certificates of one instance, a hub or a provisioning service: uploaded under a name, and verified by whoever shows that
//! he holds the key (`dps.md` §5.4). Pure: an instance keeps them with its settings and commits what is changed here.

#[cfg(test)]
mod tests;

use base::{IfMatch, Timestamp, caps};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use store::{CommitError, MayConflict, StoreError};

use crate::certificates;
use crate::client_certificates::is_proof;

/// Bytes of a verification code; it is written in hex.
const CODE_BYTES: usize = 24;

/// In the order of their upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaCertificates(Vec<CaCertificate>);

/// A CA certificate as uploaded, and whether its owner proved, or said, to hold the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaCertificate {
    pub name: String,
    /// Base64 of the DER form.
    pub certificate: String,
    pub is_verified: bool,
    pub subject: String,
    /// SHA-1 in upper-case hex.
    pub thumbprint: String,
    pub expires: Timestamp,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// Grows with every write, also of a certificate that was deleted between.
    pub version: u64,
    /// What the holder of the key is to issue a certificate to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_code: Option<String>,
}

/// What a caller uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificateDraft {
    pub name: String,
    /// In any of the forms that tools send.
    pub certificate: String,
    /// Absent: as it is for the same certificate, else not verified.
    pub is_verified: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaCertificateError {
    #[error("The certificate is neither PEM nor base64 of DER.")]
    NoCertificate,
    #[error("The certificate cannot be read.")]
    Unreadable,
    #[error("At most {} CA certificates can be uploaded.", caps::CA_CERTIFICATES_MAX)]
    TooMany,
    #[error("The certificate '{0}' could not be found.")]
    NotFound(String),
    #[error("The etag of the certificate in If-Match is missing, or is not its present one.")]
    PreconditionFailed,
    #[error("The certificate '{0}' has no verification code. Generate one, and issue a certificate to it.")]
    NoCode(String),
    #[error(
        "The certificate is no proof: it must have the verification code as its common name and be signed with the key of '{0}'."
    )]
    NoProof(String),
    /// The instance is not there any more.
    #[error("The instance of the certificate could not be found.")]
    Gone,
    /// Someone else wrote first; never leaves the change.
    #[error("The certificate was changed by another request. Please retry.")]
    Conflict,
    #[error("The certificates cannot be stored.")]
    Store(StoreError),
}

impl CaCertificate {
    /// Base64 of eight bytes, as the resource provider writes it.
    pub fn etag_text(&self) -> String {
        STANDARD.encode(self.version.to_be_bytes())
    }

    fn must_match(&self, if_match: &IfMatch) -> Result<(), CaCertificateError> {
        let is_known = !if_match.is_absent() && if_match.allows(&self.etag_text());
        if is_known { Ok(()) } else { Err(CaCertificateError::PreconditionFailed) }
    }

    fn touch(&mut self, now: Timestamp) {
        self.updated = now;
        self.version = tick(now).max(self.version + 1);
    }
}

impl CaCertificates {
    pub fn iter(&self) -> impl Iterator<Item = &CaCertificate> {
        self.0.iter()
    }

    /// Names differ by more than case.
    pub fn find(&self, name: &str) -> Option<&CaCertificate> {
        self.0.iter().find(|known| known.name.eq_ignore_ascii_case(name))
    }

    /// Those in whose name devices may be let in, in DER.
    pub fn verified(&self) -> Vec<Vec<u8>> {
        let verified = self.0.iter().filter(|known| known.is_verified);
        verified.filter_map(|known| STANDARD.decode(&known.certificate).ok()).collect()
    }

    /// Uploads a certificate, or replaces one under its etag.
    pub fn put(
        &mut self,
        draft: &CaCertificateDraft,
        if_match: &IfMatch,
        now: Timestamp,
    ) -> Result<CaCertificate, CaCertificateError> {
        match self.find(&draft.name) {
            Some(old) => old.must_match(if_match)?,
            None if matches!(if_match, IfMatch::Tag(_)) => {
                return Err(CaCertificateError::PreconditionFailed);
            }
            None if self.0.len() >= caps::CA_CERTIFICATES_MAX => return Err(CaCertificateError::TooMany),
            None => {}
        }
        let mut new = made(draft, now)?;
        let Some(old) = self.find_mut(&draft.name) else {
            self.0.push(new.clone());
            return Ok(new);
        };
        let same = Some(&*old).filter(|old| old.certificate == new.certificate);
        new.is_verified = draft.is_verified.unwrap_or(same.is_some_and(|old| old.is_verified));
        new.verification_code = same.and_then(|old| old.verification_code.clone());
        (new.name, new.created, new.version) = (old.name.clone(), old.created, old.version);
        new.touch(now);
        old.clone_from(&new);
        Ok(new)
    }

    /// Whether there was one to remove.
    pub fn remove(&mut self, name: &str, if_match: &IfMatch) -> Result<bool, CaCertificateError> {
        let Some(old) = self.find(name) else { return Ok(false) };
        old.must_match(if_match)?;
        self.0.retain(|known| !known.name.eq_ignore_ascii_case(name));
        Ok(true)
    }

    /// The certificate with a code that nobody could know before.
    pub fn generate_verification_code(
        &mut self,
        name: &str,
        if_match: &IfMatch,
        now: Timestamp,
    ) -> Result<CaCertificate, CaCertificateError> {
        let known = self.must_find(name)?;
        known.must_match(if_match)?;
        known.verification_code = Some(base::secret::random_hex(CODE_BYTES).to_uppercase());
        known.touch(now);
        Ok(known.clone())
    }

    /// Takes a certificate that was issued to the code as the proof that whoever uploaded the CA certificate holds its key.
    pub fn verify(
        &mut self,
        name: &str,
        proof: &str,
        if_match: &IfMatch,
        now: Timestamp,
    ) -> Result<CaCertificate, CaCertificateError> {
        let known = self.must_find(name)?;
        known.must_match(if_match)?;
        let Some(code) = &known.verification_code else {
            return Err(CaCertificateError::NoCode(known.name.clone()));
        };
        let proof = certificates::der_of(proof).ok_or(CaCertificateError::NoCertificate)?;
        let authority = STANDARD.decode(&known.certificate).unwrap_or_default();
        if !is_proof(&proof, &authority, code) {
            return Err(CaCertificateError::NoProof(known.name.clone()));
        }
        known.is_verified = true;
        known.verification_code = None;
        known.touch(now);
        Ok(known.clone())
    }

    fn find_mut(&mut self, name: &str) -> Option<&mut CaCertificate> {
        self.0.iter_mut().find(|known| known.name.eq_ignore_ascii_case(name))
    }

    fn must_find(&mut self, name: &str) -> Result<&mut CaCertificate, CaCertificateError> {
        self.find_mut(name).ok_or_else(|| CaCertificateError::NotFound(name.to_owned()))
    }
}

fn made(draft: &CaCertificateDraft, now: Timestamp) -> Result<CaCertificate, CaCertificateError> {
    let der = certificates::der_of(&draft.certificate).ok_or(CaCertificateError::NoCertificate)?;
    let description = certificates::describe(&der).ok_or(CaCertificateError::Unreadable)?;
    Ok(CaCertificate {
        name: draft.name.clone(),
        certificate: STANDARD.encode(der),
        is_verified: draft.is_verified.unwrap_or(false),
        subject: description.subject,
        thumbprint: description.sha1_thumbprint,
        expires: description.not_after,
        created: now,
        updated: now,
        version: tick(now),
        verification_code: None,
    })
}

fn tick(now: Timestamp) -> u64 {
    u64::try_from(now.ticks()).unwrap_or_default()
}

impl MayConflict for CaCertificateError {
    fn is_conflict(&self) -> bool {
        *self == Self::Conflict
    }
}

impl From<StoreError> for CaCertificateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CommitError> for CaCertificateError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Conflict,
            CommitError::CounterLimit { .. } => Self::TooMany,
            CommitError::Store(error) => Self::Store(error),
        }
    }
}
