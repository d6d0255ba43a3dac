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

fn files(directory: &Path) -> ServerSecrets {
    ServerSecrets::Files(directory.to_owned())
}

fn open(directory: &Path) -> Certificates {
    Certificates::open(&files(directory), Clock::manual(Timestamp::from_unix_seconds(1_750_000_000))).unwrap()
}

#[test]
fn a_leaf_carries_the_asked_name_and_the_dialled_address() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = open(directory.path());
    let local: IpAddr = "127.0.7.9".parse().unwrap();
    let leaf =
        certificates.for_handshake(KeyKind::Ecdsa, Some("Hub.azure-devices.localhost"), local).unwrap();
    let found = names(&leaf);
    for wanted in ["hub.azure-devices.localhost", "localhost", "127.0.7.9", "127.0.0.1"] {
        assert!(found.iter().any(|name| name == wanted), "{wanted} is not in {found:?}");
    }
    let unnamed = certificates.for_handshake(KeyKind::Ecdsa, None, local).unwrap();
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
    let leaf = second.for_handshake(KeyKind::Ecdsa, Some("a.localhost"), [127, 0, 0, 1].into()).unwrap();
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
        certificates
            .for_handshake(KeyKind::Ecdsa, Some(&format!("n{number}.localhost")), [127, 0, 0, 1].into())
            .unwrap();
    }
    let Source::Minted(minted) = &certificates.0.source else { panic!("minted") };
    assert!(minted.ecdsa.cache.len() <= CACHE_MAX);
    assert!(
        certificates
            .for_handshake(KeyKind::Ecdsa, Some("not a name: \u{e4}"), [127, 0, 0, 1].into())
            .is_err()
    );
}

#[test]
fn what_a_board_makes_before_it_knows_the_time_serves_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let certificates = Certificates::open(&files(directory.path()), clock.clone()).unwrap();
    let valid_at = |der: &[u8], now: Timestamp| {
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        let at = x509_parser::time::ASN1Time::from_timestamp(now.unix_seconds()).unwrap();
        parsed.validity().is_valid_at(at)
    };
    let root = std::fs::read_to_string(&certificates.files().ca).unwrap();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    let leaf =
        || certificates.for_handshake(KeyKind::Ecdsa, Some("a.localhost"), [127, 0, 0, 1].into()).unwrap();
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

fn root(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

#[test]
fn the_rsa_chain_is_made_at_first_need_and_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("ca-rsa.pem"), directory.path().join("ca-rsa-key.pem"));
    let (local, name) = (IpAddr::from([127, 0, 0, 1]), Some("a.localhost"));
    let first = open(directory.path());
    assert!(!certificate.exists() && !key.exists(), "nobody needed it");
    assert!(first.for_handshake(KeyKind::Rsa, name, local).is_err());
    first.open_rsa().unwrap();
    let made = root(&certificate);
    let (_, parsed) = X509Certificate::from_der(&made).unwrap();
    assert!(parsed.public_key().parsed().unwrap().key_size() >= 2048);
    let leaf_of = |certificates: &Certificates| {
        let leaf = certificates.for_handshake(KeyKind::Rsa, name, local).unwrap();
        let (_, leaf) = X509Certificate::from_der(&leaf.cert[0]).unwrap();
        leaf.verify_signature(Some(parsed.public_key())).unwrap();
        assert_eq!(leaf.signature_algorithm.algorithm, x509_parser::oid_registry::OID_PKCS1_SHA256WITHRSA);
    };
    leaf_of(&first);
    let bundle = || std::fs::read_to_string(&first.files().bundle).unwrap();
    let ours = std::fs::read_to_string(&certificate).unwrap();
    assert!(bundle().contains(ours.trim()), "in the bundle at once");
    assert_eq!(first.files().ca, directory.path().join("ca.pem"), "one root stays one root");
    let second = open(directory.path());
    assert!(bundle().contains(ours.trim()), "and at every start");
    second.open_rsa().unwrap();
    second.open_rsa().unwrap();
    assert_eq!(root(&certificate), made);
    leaf_of(&second);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_root_whose_key_is_lost_is_not_replaced() {
    for (kind, key) in [(KeyKind::Ecdsa, "ca-key.pem"), (KeyKind::Rsa, "ca-rsa-key.pem")] {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).open_rsa().unwrap();
        let before = root(&files(directory.path()).file(Name::Root(kind)));
        let aside = directory.path().join("aside");
        std::fs::rename(directory.path().join(key), &aside).unwrap();
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
        let refused = Certificates::open(&files(directory.path()), clock).unwrap_err().to_string();
        assert!(refused.contains(key) && refused.contains("Put it back"), "{refused}");
        assert_eq!(root(&files(directory.path()).file(Name::Root(kind))), before);
        assert!(!directory.path().join(key).exists());
        std::fs::rename(&aside, directory.path().join(key)).unwrap();
        open(directory.path()).open_rsa().unwrap();
    }
}

#[test]
fn a_root_that_is_lost_is_made_again_under_the_name_and_key_that_clients_trust() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    open(directory.path());
    let trusted = root(&path);
    std::fs::remove_file(&path).unwrap();
    let leaf = open(directory.path()).for_handshake(KeyKind::Ecdsa, None, [127, 0, 0, 1].into()).unwrap();
    let (_, trusted) = X509Certificate::from_der(&trusted).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf.cert[0]).unwrap();
    assert_eq!(leaf.issuer(), trusted.subject());
    leaf.verify_signature(Some(trusted.public_key())).unwrap();
}

#[test]
fn a_root_with_the_key_of_another_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(one.path());
    open(other.path());
    std::fs::copy(other.path().join("ca-key.pem"), one.path().join("ca-key.pem")).unwrap();
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_750_000_000));
    assert!(
        Certificates::open(&files(one.path()), clock).unwrap_err().to_string().contains("is not its key")
    );
}

#[test]
fn no_root_has_an_extension_that_small_stacks_refuse() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).open_rsa().unwrap();
    for kind in [KeyKind::Ecdsa, KeyKind::Rsa] {
        let root = root(&files(directory.path()).file(Name::Root(kind)));
        let (_, parsed) = X509Certificate::from_der(&root).unwrap();
        assert!(parsed.name_constraints().unwrap().is_none());
        let critical = parsed.extensions().iter().filter(|extension| extension.critical);
        let known = [
            x509_parser::oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS,
            x509_parser::oid_registry::OID_X509_EXT_KEY_USAGE,
        ];
        assert!(critical.into_iter().all(|extension| known.contains(&extension.oid)), "{kind:?}");
    }
}
