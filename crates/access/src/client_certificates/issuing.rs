//! Which certificate vouches for which: signatures, validity, and what a certificate says that its key may do. Pure, and
//! written for certificates of any version: older tools make devices' certificates without extensions.

use std::sync::LazyLock;

use base::Timestamp;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use x509_parser::certificate::Validity;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Those that the handshake takes too; there is no SHA-1 among them.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
    LazyLock::new(|| aws_lc_rs::default_provider().signature_verification_algorithms);

/// The one common name of a certificate's subject; of several, none is the right one.
pub(super) fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    if names.next().is_some() { None } else { Some(name) }
}

pub(super) fn is_valid_at(certificate: &X509Certificate<'_>, now: Timestamp) -> bool {
    let Validity { not_before, not_after } = certificate.validity();
    let from = Timestamp::from_unix_seconds(not_before.timestamp());
    // The last second counts as a whole.
    let until = Timestamp::from_unix_seconds(not_after.timestamp().saturating_add(1));
    from <= now && now < until
}

/// A leaf whose issuer meant it for something else than a client does not speak for a device.
pub(super) fn check_leaf(leaf: &X509Certificate<'_>) -> Result<(), &'static str> {
    if !is_understood(leaf) {
        return Err("its certificate has a critical extension that is not known here");
    }
    match leaf.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.any && !usage.value.client_auth => {
            Err("its certificate is not meant for clients")
        }
        Ok(_) => Ok(()),
        Err(_) => Err("its certificate says twice what it is meant for"),
    }
}

/// A certificate in whose name others may be issued, while it is valid.
pub(super) fn read_anchor(der: &[u8], now: Timestamp) -> Option<X509Certificate<'_>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    is_valid_at(&certificate, now).then_some(certificate)
}

/// Whether a certificate that was only presented may stand above `below` others, the leaf not counted.
pub(super) fn may_issue(issuer: &X509Certificate<'_>, below: usize, now: Timestamp) -> bool {
    let Ok(Some(constraints)) = issuer.basic_constraints() else { return false };
    let is_deep_enough =
        constraints.value.path_len_constraint.is_none_or(|most| below <= usize::try_from(most).unwrap_or(0));
    let may_sign = match issuer.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    constraints.value.ca && is_deep_enough && may_sign && is_understood(issuer) && is_valid_at(issuer, now)
}

/// Whether `certificate` names `issuer` and was signed with its key.
pub(super) fn issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    issuer.subject().as_raw() == certificate.issuer().as_raw() && signed_by(issuer, certificate)
}

/// Whether `proof` was issued to `code` by the holder of the key of `authority`.
pub(crate) fn is_proof(proof: &[u8], authority: &[u8], code: &str) -> bool {
    let (Ok((_, proof)), Ok((_, authority))) =
        (X509Certificate::from_der(proof), X509Certificate::from_der(authority))
    else {
        return false;
    };
    common_name(&proof).is_some_and(|name| name.eq_ignore_ascii_case(code)) && issued(&authority, &proof)
}

fn signed_by(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    let key = issuer.public_key();
    let (Some(key_algorithm), Some(signature_algorithm)) =
        (key_algorithm(key.raw), signature_algorithm(certificate))
    else {
        return false;
    };
    let message = certificate.tbs_certificate.as_ref();
    let candidates = ALGORITHMS.all.iter();
    candidates
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_algorithm)
        .filter(|algorithm| algorithm.signature_alg_id().as_ref() == signature_algorithm)
        .any(|algorithm| {
            let (bits, signature) = (&key.subject_public_key.data, &certificate.signature_value.data);
            algorithm.verify_signature(bits, message, signature).is_ok()
        })
}

/// Whether nothing in it is critical that this module passes over.
fn is_understood(certificate: &X509Certificate<'_>) -> bool {
    certificate.extensions().iter().filter(|extension| extension.critical).all(|extension| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_)
                | ParsedExtension::CertificatePolicies(_)
        )
    })
}

/// What stands inside the `AlgorithmIdentifier` of a DER `SubjectPublicKeyInfo`: the form in which rustls names algorithms.
pub fn key_algorithm(subject_public_key_info: &[u8]) -> Option<&[u8]> {
    let (outer, _) = sequence(subject_public_key_info)?;
    let (algorithm, _) = sequence(outer)?;
    Some(algorithm)
}

/// The same of a certificate's signature, provided that what was signed says the same.
fn signature_algorithm<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    if certificate.tbs_certificate.signature != certificate.signature_algorithm {
        return None;
    }
    let (members, _) = sequence(certificate.as_raw())?;
    let behind_signed = members.get(certificate.tbs_certificate.as_ref().len()..)?;
    sequence(behind_signed).map(|(algorithm, _)| algorithm)
}

/// The contents of the DER sequence that `der` begins with, and what follows it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x30, first, rest @ ..] = der else { return None };
    let (length, rest) = match *first {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    rest.split_at_checked(length)
}
