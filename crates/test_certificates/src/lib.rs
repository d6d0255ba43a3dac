//! Certificates for the tests of whoever judges them: authorities, what they sign, and leaves that sign themselves, each with its
//! key. Nothing that is shipped may use it.

use rcgen::{BasicConstraints, DnType, Issuer, KeyPair};
pub use rcgen::{
    CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    date_time_ymd,
};

/// A certificate and its key.
pub struct Certified {
    pub der: Vec<u8>,
    pub pem: String,
    key: KeyPair,
    params: CertificateParams,
}

/// Of a certificate that may sign others, with the common name `name`. A test may change them, by [`with`].
pub fn authority(name: &str) -> CertificateParams {
    let mut params = leaf(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// An authority with at most `depth` others below it.
pub fn authority_above(depth: u8, name: &str) -> CertificateParams {
    with(authority(name), |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth)))
}

/// Of a certificate that says nothing but its common name.
pub fn leaf(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// `params` with a change.
pub fn with(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    change(&mut params);
    params
}

impl Certified {
    /// A certificate that signed itself.
    ///
    /// # Panics
    /// When the parameters make no certificate.
    pub fn own(params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let made = params.self_signed(&key).expect("the parameters make a certificate");
        Self { der: made.der().to_vec(), pem: made.pem(), key, params }
    }

    /// A certificate that this one signed, whether it may or not.
    ///
    /// # Panics
    /// When the parameters make no certificate.
    #[must_use]
    pub fn signs(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let made = params.signed_by(&key, &issuer).expect("the parameters make a certificate");
        Self { der: made.der().to_vec(), pem: made.pem(), key, params }
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// PKCS#8 in DER.
    pub fn key_der(&self) -> Vec<u8> {
        self.key.serialize_der()
    }
}
