//! The RSA key that signs access tokens, and the compact JWS form (RS256) around it.
//! Used by the directory; it must never give the private half out except to be stored.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    self, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use aws_lc_rs::{digest, error};
use base::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

/// As it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SigningKeyRecord {
    /// PKCS#8 in base64.
    pkcs8: Secret,
    /// A self-signed certificate of the key in base64, for `x5c` and `x5t`.
    certificate: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the token signing key is not usable: {0}")]
pub struct SigningKeyError(String);

pub(crate) struct SigningKey {
    pair: KeyPair,
    public: PublicSigningKey,
}

/// What a JSON Web Key Set tells of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicSigningKey {
    pub key_id: String,
    /// SHA-1 thumbprint of the certificate, base64url; Entra uses it as the key id too.
    pub thumbprint: String,
    pub modulus: String,
    pub exponent: String,
    pub certificate: String,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    x5t: &'a str,
    kid: &'a str,
}

#[derive(Deserialize)]
struct ReadHeader {
    alg: String,
    kid: Option<String>,
}

/// Why a text is not a token of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSigned {
    Malformed,
    UnknownKey,
    BadSignature,
}

impl SigningKeyRecord {
    /// A new RSA-2048 key with its certificate. Takes a tenth of a second or more.
    pub(crate) fn generate() -> Result<Self, SigningKeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| failed("RSA key generation failed"))?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| failed("the RSA key does not encode"))?;
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(pkcs8.as_ref());
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256)
            .map_err(|error| failed(&error.to_string()))?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "accounts.accesscontrol.twinhub");
        let certificate = params.self_signed(&key).map_err(|error| failed(&error.to_string()))?;
        let pkcs8 = Secret::new(STANDARD.encode(pkcs8.as_ref()));
        Ok(Self { pkcs8, certificate: STANDARD.encode(certificate.der()) })
    }
}

fn failed(why: &str) -> SigningKeyError {
    SigningKeyError(why.to_owned())
}

impl SigningKey {
    pub(crate) fn load(record: &SigningKeyRecord) -> Result<Self, SigningKeyError> {
        let pkcs8 = STANDARD.decode(record.pkcs8.expose()).map_err(|_| failed("not base64"))?;
        let pair = KeyPair::from_pkcs8(&pkcs8).map_err(|error| failed(&error.to_string()))?;
        let certificate = STANDARD.decode(&record.certificate).map_err(|_| failed("not base64"))?;
        let thumbprint =
            URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate));
        let der = pair.public_key().as_ref();
        let (_, public) = RSAPublicKey::from_der(der).map_err(|error| failed(&error.to_string()))?;
        let public = PublicSigningKey {
            key_id: thumbprint.clone(),
            thumbprint,
            modulus: integer(public.modulus),
            exponent: integer(public.exponent),
            certificate: record.certificate.clone(),
        };
        Ok(Self { pair, public })
    }

    pub(crate) fn public(&self) -> &PublicSigningKey {
        &self.public
    }

    /// `header.claims.signature`, each part in base64url.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> String {
        let header =
            Header { typ: "JWT", alg: "RS256", x5t: &self.public.thumbprint, kid: &self.public.key_id };
        let mut token = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.signature_of(token.as_bytes()).expect("a loaded RSA key signs any text");
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    fn signature_of(&self, message: &[u8]) -> Result<Vec<u8>, error::Unspecified> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }

    /// The claims of a token that this key signed.
    pub(crate) fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<C, NotSigned> {
        let (message, signature) = token.rsplit_once('.').ok_or(NotSigned::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(NotSigned::Malformed)?;
        let header: ReadHeader = decode(header)?;
        if header.alg != "RS256" {
            return Err(NotSigned::Malformed);
        }
        if header.kid.is_some_and(|kid| kid != self.public.key_id) {
            return Err(NotSigned::UnknownKey);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| NotSigned::Malformed)?;
        let algorithm: &dyn signature::VerificationAlgorithm = &RSA_PKCS1_2048_8192_SHA256;
        UnparsedPublicKey::new(algorithm, self.pair.public_key().as_ref())
            .verify(message.as_bytes(), &signature)
            .map_err(|_| NotSigned::BadSignature)?;
        decode(claims)
    }
}

fn encode(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("claims are plain JSON"))
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, NotSigned> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| NotSigned::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| NotSigned::Malformed)
}

/// A big-endian integer without leading zeros, in base64url (RFC 7518 §6.3.1).
fn integer(bytes: &[u8]) -> String {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    URL_SAFE_NO_PAD.encode(&bytes[first..])
}
