//! Uploads, etags and proofs of possession.

use proptest::prelude::*;
use test_certificates::{Certified, authority, leaf};

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_225_600);

fn draft(name: &str, certificate: &Certified, is_verified: Option<bool>) -> CaCertificateDraft {
    CaCertificateDraft { name: name.to_owned(), certificate: certificate.pem.clone(), is_verified }
}

fn tag(certificate: &CaCertificate) -> IfMatch {
    IfMatch::Tag(certificate.etag_text())
}

fn put(
    all: &mut CaCertificates,
    draft: &CaCertificateDraft,
    if_match: &IfMatch,
) -> Result<CaCertificate, CaCertificateError> {
    all.put(draft, if_match, NOW)
}

#[test]
fn a_certificate_is_replaced_and_removed_under_its_etag_alone() {
    let (root, mut all) = (Certified::own(authority("root")), CaCertificates::default());
    let stale = IfMatch::Tag("AAAA".into());
    let refused = Err(CaCertificateError::PreconditionFailed);
    assert_eq!(put(&mut all, &draft("ca", &root, None), &stale), refused);
    let made = put(&mut all, &draft("ca", &root, Some(true)), &IfMatch::Absent).unwrap();
    assert_eq!((made.subject.as_str(), made.is_verified), ("CN=root", true));
    for if_match in [&IfMatch::Absent, &stale] {
        assert_eq!(put(&mut all, &draft("CA", &root, None), if_match), refused);
    }
    let again = put(&mut all, &draft("CA", &root, None), &tag(&made)).unwrap();
    assert_eq!((again.name.as_str(), again.is_verified), ("ca", true), "the same certificate stays verified");
    assert_ne!(again.etag_text(), made.etag_text());
    for if_match in [&IfMatch::Absent, &stale, &tag(&made)] {
        assert_eq!(all.remove("ca", if_match), Err(CaCertificateError::PreconditionFailed));
    }
    assert_eq!(all.find("Ca"), Some(&again));
    assert_eq!(all.remove("CA", &tag(&again)), Ok(true));
    assert_eq!(all.remove("ca", &IfMatch::Any), Ok(false));
    assert_eq!(all, CaCertificates::default());
}

#[test]
fn a_twenty_sixth_certificate_is_one_too_many() {
    let (root, mut all) = (Certified::own(authority("root")), CaCertificates::default());
    for n in 0..=caps::CA_CERTIFICATES_MAX {
        let put = put(&mut all, &draft(&format!("ca-{n}"), &root, None), &IfMatch::Absent);
        assert_eq!(put.is_ok(), n < caps::CA_CERTIFICATES_MAX, "{n}");
    }
    assert_eq!(all.iter().count(), caps::CA_CERTIFICATES_MAX);
    assert!(put(&mut all, &draft("ca-0", &root, None), &IfMatch::Any).is_ok(), "one may be replaced");
}

#[test]
fn a_certificate_is_verified_by_one_that_was_issued_to_its_newest_code() {
    let (root, mut all) = (Certified::own(authority("root")), CaCertificates::default());
    let made = put(&mut all, &draft("ca", &root, None), &IfMatch::Absent).unwrap();
    assert!(!made.is_verified && all.verified().is_empty());
    let unasked = all.verify("ca", &root.signs(leaf("x")).pem, &tag(&made), NOW);
    assert_eq!(unasked, Err(CaCertificateError::NoCode("ca".into())));
    let first = all.generate_verification_code("ca", &tag(&made), NOW).unwrap();
    let second = all.generate_verification_code("CA", &tag(&first), NOW).unwrap();
    let (old, code) = (first.verification_code.clone().unwrap(), second.verification_code.clone().unwrap());
    assert!(code.len() == 48 && code.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)));
    assert_ne!(old, code);
    let impostor = Certified::own(authority("root"));
    for (what, proof) in [
        ("the code before", root.signs(leaf(&old))),
        ("another name", root.signs(leaf("dev1"))),
        ("another key", impostor.signs(leaf(&code))),
        ("its own key", Certified::own(leaf(&code))),
        ("an intermediate's key", root.signs(authority("root")).signs(leaf(&code))),
    ] {
        let refused = all.verify("ca", &proof.pem, &tag(&second), NOW);
        assert_eq!(refused, Err(CaCertificateError::NoProof("ca".into())), "{what}");
    }
    assert_eq!(
        all.verify("ca", "no certificate", &tag(&second), NOW),
        Err(CaCertificateError::NoCertificate)
    );
    assert!(!all.find("ca").unwrap().is_verified);
    let proof = root.signs(leaf(&code));
    for stale in [&IfMatch::Absent, &tag(&first)] {
        let refused = all.verify("ca", &proof.pem, stale, NOW);
        assert_eq!(refused, Err(CaCertificateError::PreconditionFailed));
        let refused = all.generate_verification_code("ca", stale, NOW);
        assert_eq!(refused, Err(CaCertificateError::PreconditionFailed));
    }
    let verified = all.verify("ca", &STANDARD.encode(&proof.der), &tag(&second), NOW).unwrap();
    assert!(verified.is_verified && verified.verification_code.is_none());
    assert_eq!(all.verified(), std::slice::from_ref(&root.der));
    let again = all.verify("ca", &proof.pem, &tag(&verified), NOW);
    assert_eq!(again, Err(CaCertificateError::NoCode("ca".into())), "a code proves once");
    assert_eq!(
        all.verify("no", &proof.pem, &IfMatch::Any, NOW),
        Err(CaCertificateError::NotFound("no".into()))
    );
}

#[test]
fn another_certificate_under_the_name_is_neither_verified_nor_has_it_the_code() {
    let [root, other] = ["root", "other"].map(|name| Certified::own(authority(name)));
    let mut all = CaCertificates::default();
    put(&mut all, &draft("ca", &root, Some(true)), &IfMatch::Absent).unwrap();
    let with_code = all.generate_verification_code("ca", &IfMatch::Any, NOW).unwrap();
    let same = put(&mut all, &draft("ca", &root, None), &IfMatch::Any).unwrap();
    assert_eq!((same.is_verified, &same.verification_code), (true, &with_code.verification_code));
    let another = put(&mut all, &draft("ca", &other, None), &IfMatch::Any).unwrap();
    assert_eq!((another.is_verified, another.verification_code), (false, None));
}

/// DER that is well formed on the outside, whatever it says.
fn any_der() -> impl Strategy<Value = Vec<u8>> {
    fn wrap(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = u16::try_from(contents.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], contents].concat()
    }
    let tags = || {
        prop::sample::select(vec![
            0x02_u8, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x13, 0x16, 0x17, 0x18, 0x30, 0x31, 0xa0, 0xa3,
        ])
    };
    let leaf = (tags(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(tag, bytes)| wrap(tag, &bytes));
    leaf.prop_recursive(5, 64, 8, move |inner| {
        (tags(), prop::collection::vec(inner, 0..8)).prop_map(|(tag, parts)| wrap(tag, &parts.concat()))
    })
}

proptest! {
    #[test]
    fn no_upload_makes_it_panic_or_grows_beyond_what_was_sent(
        der in any_der(), places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        text in "(-----BEGIN CERTIFICATE-----|-----END CERTIFICATE-----|[A-Za-z0-9+/=\n]{0,40}){0,6}",
    ) {
        static REAL: std::sync::LazyLock<Certified> = std::sync::LazyLock::new(|| Certified::own(authority("root")));
        let mut damaged = REAL.der.clone();
        for (at, byte) in places {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        for der in [der, damaged] {
            let (mut all, certificate) = (CaCertificates::default(), STANDARD.encode(&der));
            let draft = CaCertificateDraft { name: "ca".to_owned(), certificate: certificate.clone(), is_verified: None };
            if let Ok(made) = put(&mut all, &draft, &IfMatch::Absent) {
                // A byte of a name is shown as a few letters.
                prop_assert!(made.subject.len() <= 16 * der.len() + 64);
                prop_assert_eq!(&made.certificate, &certificate);
                let made = all.generate_verification_code("ca", &tag(&made), NOW).unwrap();
                prop_assert!(all.verify("ca", &certificate, &tag(&made), NOW).is_err(), "it is no proof of itself");
            }
        }
        if let Some(der) = certificates::der_of(&text) {
            prop_assert!(der.len() <= text.len());
        }
    }
}
