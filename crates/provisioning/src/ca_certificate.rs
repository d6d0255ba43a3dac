//! CA certificates of a provisioning service: uploaded once, named by enrollments. Resource Manager calls, and asks whether the
//! caller may. They are kept with the service's settings, of which `Services::ensure` knows everything else.

use base::{IfMatch, Timestamp, caps};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use store::{Batch, Key, retry_on_conflict};

use crate::certificate;
use crate::error::Error;
use crate::service::Service;
use crate::settings::ServiceSettings;

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

impl CaCertificate {
    /// Base64 of eight bytes, as the resource provider writes it.
    pub fn etag_text(&self) -> String {
        STANDARD.encode(self.version.to_be_bytes())
    }
}

impl Service {
    /// In the order of their upload.
    pub fn certificates(&self) -> Vec<CaCertificate> {
        self.settings().certificates.clone()
    }

    pub fn certificate(&self, name: &str) -> Option<CaCertificate> {
        position(&self.settings().certificates, name).map(|at| self.settings().certificates[at].clone())
    }

    /// Uploads a certificate, or replaces one under its etag.
    pub async fn put_certificate(
        &self,
        draft: &CaCertificateDraft,
        if_match: &IfMatch,
    ) -> Result<CaCertificate, Error> {
        self.change_certificates(|certificates, now| {
            let at = position(certificates, &draft.name);
            let new = put(at.map(|at| &certificates[at]), draft, if_match, now)?;
            match at {
                Some(at) => certificates[at] = new.clone(),
                None if certificates.len() >= caps::CA_CERTIFICATES_MAX => return Err(Error::QuotaExceeded),
                None => certificates.push(new.clone()),
            }
            Ok(new)
        })
        .await
    }

    /// Whether there was one to delete. An enrollment that names it lets nobody in any more.
    pub async fn delete_certificate(&self, name: &str, if_match: &IfMatch) -> Result<bool, Error> {
        self.change_certificates(|certificates, _| {
            let Some(at) = position(certificates, name) else { return Ok(false) };
            if if_match.is_absent() || !if_match.allows(&certificates[at].etag_text()) {
                return Err(Error::PreconditionFailed);
            }
            certificates.remove(at);
            Ok(true)
        })
        .await
    }

    async fn change_certificates<T>(
        &self,
        change: impl Fn(&mut Vec<CaCertificate>, Timestamp) -> Result<T, Error>,
    ) -> Result<T, Error> {
        retry_on_conflict(async || {
            let key = Key::instance(self.instance());
            let old = self.store().get::<ServiceSettings>(&key).await?.ok_or(Error::ServerError)?;
            let mut new = old.record.clone();
            let result = change(&mut new.certificates, self.now())?;
            let mut batch = Batch::default();
            batch.replace(&old, &new);
            let committed = self.commit(batch).await?;
            self.apply(committed.stored(new));
            Ok(result)
        })
        .await
    }
}

fn position(certificates: &[CaCertificate], name: &str) -> Option<usize> {
    certificates.iter().position(|certificate| certificate.name.eq_ignore_ascii_case(name))
}

/// The certificate after a PUT over `old`, whose etag must be known to who replaces it.
fn put(
    old: Option<&CaCertificate>,
    draft: &CaCertificateDraft,
    if_match: &IfMatch,
    now: Timestamp,
) -> Result<CaCertificate, Error> {
    let is_known = match old {
        Some(old) => !if_match.is_absent() && if_match.allows(&old.etag_text()),
        None => !matches!(if_match, IfMatch::Tag(_)),
    };
    if !is_known {
        return Err(Error::PreconditionFailed);
    }
    let (read, expires) = certificate::parse_with_expiry(&draft.certificate)?;
    let same = old.filter(|old| old.certificate == read.certificate);
    let tick = u64::try_from(now.ticks()).unwrap_or_default();
    Ok(CaCertificate {
        name: old.map_or_else(|| draft.name.clone(), |old| old.name.clone()),
        is_verified: draft.is_verified.unwrap_or(same.is_some_and(|old| old.is_verified)),
        certificate: read.certificate,
        subject: read.info.subject_name,
        thumbprint: read.info.sha1_thumbprint,
        expires,
        created: old.map_or(now, |old| old.created),
        updated: now,
        version: old.map_or(tick, |old| tick.max(old.version + 1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CERTIFICATE, TestService};

    fn draft(name: &str, is_verified: Option<bool>) -> CaCertificateDraft {
        CaCertificateDraft { name: name.to_owned(), certificate: CERTIFICATE.to_owned(), is_verified }
    }

    #[tokio::test]
    async fn a_certificate_is_replaced_and_deleted_under_its_etag_alone() {
        let test = TestService::with_hubs(&[]).await;
        let put = async |draft, if_match| test.service.put_certificate(&draft, &if_match).await;
        let stale = IfMatch::Tag("AAAA".into());
        assert_eq!(put(draft("ca", None), stale.clone()).await, Err(Error::PreconditionFailed));
        let made = put(draft("ca", Some(true)), IfMatch::Absent).await.unwrap();
        assert_eq!((made.subject.as_str(), made.is_verified), ("CN=root", true));
        for if_match in [IfMatch::Absent, stale.clone()] {
            assert_eq!(put(draft("CA", None), if_match).await, Err(Error::PreconditionFailed));
        }
        let again = put(draft("CA", None), IfMatch::Tag(made.etag_text())).await.unwrap();
        assert_eq!(
            (again.name.as_str(), again.is_verified),
            ("ca", true),
            "the same certificate stays verified"
        );
        assert_ne!(again.etag_text(), made.etag_text());
        for if_match in [IfMatch::Absent, stale, IfMatch::Tag(made.etag_text())] {
            let refused = test.service.delete_certificate("ca", &if_match).await;
            assert_eq!(refused, Err(Error::PreconditionFailed));
        }
        assert_eq!(test.service.certificate("Ca"), Some(again.clone()));
        assert_eq!(test.service.delete_certificate("ca", &IfMatch::Tag(again.etag_text())).await, Ok(true));
        assert_eq!(test.service.delete_certificate("ca", &IfMatch::Any).await, Ok(false));
        assert_eq!(test.service.certificates(), []);
    }

    #[tokio::test]
    async fn new_settings_of_the_service_leave_its_certificates() {
        let test = TestService::with_hubs(&[]).await;
        let before = (*test.service.settings()).clone();
        let made = test.service.put_certificate(&draft("ca", None), &IfMatch::Absent).await.unwrap();
        test.services.ensure(before).await.unwrap();
        assert_eq!(test.service.certificates(), [made]);
    }

    #[tokio::test]
    async fn a_twenty_sixth_certificate_is_one_too_many() {
        let test = TestService::with_hubs(&[]).await;
        for n in 0..=caps::CA_CERTIFICATES_MAX {
            let put = test.service.put_certificate(&draft(&format!("ca-{n}"), None), &IfMatch::Absent).await;
            assert_eq!(put.is_ok(), n < caps::CA_CERTIFICATES_MAX, "{n}");
        }
        assert_eq!(test.service.certificates().len(), caps::CA_CERTIFICATES_MAX);
    }

    #[tokio::test]
    async fn certificates_that_come_at_the_same_time_are_all_kept() {
        let test = TestService::with_hubs(&[]).await;
        let drafts = ["a", "b", "c", "d"].map(|name| draft(name, None));
        let put = |at: usize| test.service.put_certificate(&drafts[at], &IfMatch::Absent);
        let made = tokio::join!(put(0), put(1), put(2), put(3));
        assert!(made.0.is_ok() && made.1.is_ok() && made.2.is_ok() && made.3.is_ok(), "{made:?}");
        assert_eq!(test.service.certificates().len(), 4);
    }
}
