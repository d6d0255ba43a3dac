//! X.509 certificates of enrollments: every form that tools send becomes base64 of DER with the description that the service gives back.

use access::certificates::{der_of, describe};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::Error;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct X509Certificate {
    /// Base64 of DER.
    pub certificate: String,
    pub info: CertificateInfo,
}

/// The description that the service puts beside a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateInfo {
    pub subject_name: String,
    pub sha1_thumbprint: String,
    pub sha256_thumbprint: String,
    pub issuer_name: String,
    pub not_before_utc: String,
    pub not_after_utc: String,
    pub serial_number: String,
    pub version: u32,
}

/// Takes PEM with or without newlines, bare base64 of DER, or base64 of a PEM file (`dps.md` §2.2).
pub fn parse(text: &str) -> Result<X509Certificate, Error> {
    let der = der_of(text).ok_or_else(|| Error::bad("The certificate is neither PEM nor base64 of DER."))?;
    let info = describe(&der).ok_or_else(|| Error::bad("The certificate cannot be read."))?;
    let info = CertificateInfo {
        subject_name: info.subject,
        sha1_thumbprint: info.sha1_thumbprint,
        sha256_thumbprint: info.sha256_thumbprint,
        issuer_name: info.issuer,
        not_before_utc: info.not_before.iso_trimmed(),
        not_after_utc: info.not_after.iso_trimmed(),
        serial_number: info.serial_number,
        version: info.version,
    };
    Ok(X509Certificate { certificate: STANDARD.encode(der), info })
}

#[cfg(test)]
mod tests {
    use base::caps;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::CERTIFICATE;

    #[test]
    fn a_text_of_16_kilobytes_is_read_and_one_byte_more_is_not() {
        let padded = |bytes: usize| format!("{CERTIFICATE}{}", " ".repeat(bytes - CERTIFICATE.len()));
        assert_eq!(parse(&padded(caps::CERTIFICATE_BYTES_MAX)).unwrap().info.subject_name, "CN=root");
        assert!(parse(&padded(caps::CERTIFICATE_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
            let _ = parse(&STANDARD.encode(&bytes));
            let _ = parse(&format!("-----BEGIN CERTIFICATE-----{text}-----END CERTIFICATE-----"));
        }

        #[test]
        fn no_damage_to_a_certificate_makes_it_panic(at in 0_usize..300, byte: u8, length in 0_usize..311) {
            let mut der = STANDARD.decode(CERTIFICATE).unwrap();
            let at = at % der.len();
            der[at] = byte;
            let _ = parse(&STANDARD.encode(&der));
            der.truncate(length);
            let _ = parse(&STANDARD.encode(&der));
        }
    }
}
