//! Minted leaves, looked at as a client would.

use base::Clock;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;

fn names(certified: &CertifiedKey) -> Vec<String> {
    let (_, leaf) = X509Certificate::from_der(&certified.cert[0]).unwrap();
    let extension = leaf.subject_alternative_name().unwrap().unwrap();
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(dns) => (*dns).to_owned(),
        GeneralName::IPAddress([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
        other => format!("{other:?}"),
    };
    extension.value.general_names.iter().map(text).collect()
}

fn open(directory: &Path) -> Certificates {
    Certificates::open(directory, Clock::manual(Timestamp::from_unix_seconds(1_750_000_000))).unwrap()
}

#[test]
fn a_leaf_carries_the_asked_name_and_the_dialled_address() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = open(directory.path());
    let local: IpAddr = "127.0.7.9".parse().unwrap();
    let leaf = certificates.for_handshake(Some("Hub.azure-devices.localhost"), local).unwrap();
    let found = names(&leaf);
    for wanted in ["hub.azure-devices.localhost", "localhost", "127.0.7.9", "127.0.0.1"] {
        assert!(found.iter().any(|name| name == wanted), "{wanted} is not in {found:?}");
    }
    let unnamed = certificates.for_handshake(None, local).unwrap();
    assert!(names(&unnamed).contains(&"127.0.7.9".to_owned()));
}

#[test]
fn the_root_outlives_a_restart_and_signs_every_leaf() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let root = std::fs::read_to_string(&first.files().ca).unwrap();
    let second = open(directory.path());
    assert_eq!(std::fs::read_to_string(&second.files().ca).unwrap(), root);
    let der = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    let (_, root_certificate) = X509Certificate::from_der(&der).unwrap();
    let leaf = second.for_handshake(Some("a.localhost"), [127, 0, 0, 1].into()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf.cert[0]).unwrap();
    assert_eq!(leaf.issuer(), root_certificate.subject());
    let is_authority = |extension: &x509_parser::extensions::X509Extension<'_>| {
        extension.oid == x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER
    };
    assert!(leaf.extensions().iter().any(is_authority), "strict verifiers ask for it");
    assert!(std::fs::read_to_string(&second.files().bundle).unwrap().contains(root.trim()));
}

#[cfg(unix)]
#[test]
fn the_roots_key_can_be_read_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    open(directory.path());
    let mode = std::fs::metadata(directory.path().join("ca-key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_cache_is_bounded_whatever_names_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = open(directory.path());
    for number in 0..CACHE_MAX + 10 {
        certificates.for_handshake(Some(&format!("n{number}.localhost")), [127, 0, 0, 1].into()).unwrap();
    }
    let Source::Minted(minted) = &certificates.0.source else { panic!("minted") };
    assert!(minted.cache.len() <= CACHE_MAX);
    assert!(certificates.for_handshake(Some("not a name: \u{e4}"), [127, 0, 0, 1].into()).is_err());
}

#[test]
fn what_a_board_makes_before_it_knows_the_time_serves_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let certificates = Certificates::open(directory.path(), clock.clone()).unwrap();
    let valid_at = |der: &[u8], now: Timestamp| {
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        let at = x509_parser::time::ASN1Time::from_timestamp(now.unix_seconds()).unwrap();
        parsed.validity().is_valid_at(at)
    };
    let root = std::fs::read_to_string(&certificates.files().ca).unwrap();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    let leaf = || certificates.for_handshake(Some("a.localhost"), [127, 0, 0, 1].into()).unwrap();
    let learnt: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    assert!(
        valid_at(&leaf().cert[0], "2026-11-20T00:00:00Z".parse().unwrap()),
        "for clients that know the time"
    );
    for now in [Timestamp::UNIX_EPOCH, learnt] {
        clock.step(now.unix_seconds() - clock.now().unix_seconds());
        assert!(valid_at(&root, now) && valid_at(&leaf().cert[0], now), "at {now}");
    }
}
