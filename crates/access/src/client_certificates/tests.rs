//! Chains as devices present them, good ones and those that a stranger would try.

use proptest::prelude::*;
use test_certificates::{
    CertificateParams, Certified, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    authority, authority_above, date_time_ymd, leaf, with,
};

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_767_225_600);

fn judge(chain: &[&Certified], anchors: &[&Certified]) -> Result<(), &'static str> {
    let chain: Vec<_> = chain.iter().map(|certified| &certified.der).collect();
    let anchors: Vec<_> = anchors.iter().map(|anchor| &anchor.der).collect();
    ClientCertificates::read(&chain)?.lead_to(&anchors, "dev1", NOW)
}

fn is_let_in(chain: &[&Certified], anchors: &[&Certified]) -> bool {
    judge(chain, anchors).is_ok()
}

#[test]
fn a_leaf_is_good_below_a_verified_authority_directly_or_through_intermediates_in_any_order() {
    let root = Certified::own(authority("root"));
    let upper = root.signs(authority("upper"));
    let lower = upper.signs(authority("lower"));
    let (direct, deep) = (root.signs(leaf("dev1")), lower.signs(leaf("dev1")));
    assert!(is_let_in(&[&direct], &[&root]));
    assert!(is_let_in(&[&direct, &root], &[&root]), "the root may come along");
    assert!(is_let_in(&[&deep, &lower, &upper], &[&root]));
    assert!(is_let_in(&[&deep, &upper, &lower, &root], &[&root]));
    assert!(is_let_in(&[&deep], &[&lower]), "an intermediate that is verified ends the chain");
    assert!(!is_let_in(&[&deep], &[&root]), "a link is missing");
    assert!(!is_let_in(&[&deep, &lower], &[&root]), "a link is missing");
    assert!(!is_let_in(&[&deep, &lower, &upper, &root], &[]), "nobody vouches for what is only presented");
}

#[test]
fn who_only_bears_the_name_of_an_authority_is_none() {
    let root = Certified::own(authority("root"));
    let impostor = Certified::own(authority("root"));
    assert!(!is_let_in(&[&impostor.signs(leaf("dev1")), &impostor], &[&root]));
    let intermediate = root.signs(authority("intermediate"));
    let other = impostor.signs(authority("intermediate"));
    assert!(!is_let_in(&[&other.signs(leaf("dev1")), &intermediate], &[&root]));
    let unknown = Certified::own(leaf("dev1"));
    assert!(!is_let_in(&[&unknown, &root], &[&root]));
}

#[test]
fn a_leaf_signs_nothing_and_no_authority_signs_more_than_it_may() {
    let root = Certified::own(authority("root"));
    let device = root.signs(leaf("dev2"));
    assert!(!is_let_in(&[&device.signs(leaf("dev1")), &device], &[&root]), "a device is no authority");
    let denying = root.signs(with(authority("dev2"), |params| params.is_ca = IsCa::ExplicitNoCa));
    assert!(
        !is_let_in(&[&denying.signs(leaf("dev1")), &denying], &[&root]),
        "it says itself that it is none"
    );
    let other_usage = vec![KeyUsagePurpose::DigitalSignature];
    let not_signing = root.signs(with(authority("intermediate"), |params| params.key_usages = other_usage));
    assert!(!is_let_in(&[&not_signing.signs(leaf("dev1")), &not_signing], &[&root]));
    for (depth, fits) in [(0, false), (1, true)] {
        let upper = root.signs(authority_above(depth, "upper"));
        let lower = upper.signs(authority_above(0, "lower"));
        assert_eq!(is_let_in(&[&lower.signs(leaf("dev1")), &lower, &upper], &[&root]), fits, "{depth}");
        assert!(is_let_in(&[&upper.signs(leaf("dev1")), &upper], &[&root]));
    }
}

#[test]
fn the_common_name_is_the_id_and_nothing_else() {
    let root = Certified::own(authority("root"));
    for name in ["DEV1", "dev11", "dev1/mod1", "", "dev1\0"] {
        assert!(!is_let_in(&[&root.signs(leaf(name))], &[&root]), "{name:?}");
    }
    let mut elsewhere = leaf("dev2");
    elsewhere.subject_alt_names.push(SanType::DnsName("dev1".try_into().unwrap()));
    assert!(!is_let_in(&[&root.signs(elsewhere)], &[&root]));
}

#[test]
fn every_certificate_of_the_chain_has_to_be_valid_now() {
    let [from, today, until] = [2025, 2026, 2027].map(|year| date_time_ymd(year, 1, 1));
    let valid =
        |params, from, until| with(params, |params| (params.not_before, params.not_after) = (from, until));
    let cases = [(from, until, true), (today, until, true), (from, today, true), (until, until, false)];
    for (from, until, is_good) in cases.into_iter().chain([(from, from, false)]) {
        let root = Certified::own(valid(authority("root"), from, until));
        assert_eq!(is_let_in(&[&root.signs(leaf("dev1"))], &[&root]), is_good, "{from} to {until}");
        let root = Certified::own(authority("root"));
        let intermediate = root.signs(valid(authority("intermediate"), from, until));
        assert_eq!(is_let_in(&[&intermediate.signs(leaf("dev1")), &intermediate], &[&root]), is_good);
        assert_eq!(is_let_in(&[&root.signs(valid(leaf("dev1"), from, until))], &[&root]), is_good);
    }
}

#[test]
fn a_leaf_for_servers_alone_is_no_clients_and_one_that_does_not_say_is() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let root = Certified::own(authority("root"));
    for (usages, is_good) in [
        (vec![], true),
        (vec![ClientAuth], true),
        (vec![Any], true),
        (vec![ServerAuth, ClientAuth], true),
        (vec![ServerAuth], false),
    ] {
        let device = root.signs(with(leaf("dev1"), |params| params.extended_key_usages = usages));
        assert_eq!(is_let_in(&[&device], &[&root]), is_good);
    }
}

#[test]
fn what_is_critical_and_unknown_is_not_passed_over() {
    let root = Certified::own(authority("root"));
    let extended = |params, is_critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999], vec![5, 0]);
        extension.set_criticality(is_critical);
        with(params, |params: &mut CertificateParams| params.custom_extensions.push(extension))
    };
    for is_critical in [false, true] {
        assert_eq!(is_let_in(&[&root.signs(extended(leaf("dev1"), is_critical))], &[&root]), !is_critical);
        let intermediate = root.signs(extended(authority("intermediate"), is_critical));
        assert_eq!(is_let_in(&[&intermediate.signs(leaf("dev1")), &intermediate], &[&root]), !is_critical);
    }
}

#[test]
fn either_thumbprint_in_any_case_is_the_leafs_and_only_the_leafs() {
    let (device, other) = (Certified::own(leaf("dev1")), Certified::own(leaf("dev1")));
    let chain = [&device.der, &other.der];
    let presented = ClientCertificates::read(&chain).unwrap();
    let [sha1, sha256] = thumbprints(&device.der);
    assert_eq!((sha1.len(), sha256.len()), (40, 64));
    for registered in [&sha1, &sha256, &sha1.to_lowercase(), &sha256.to_lowercase()] {
        assert!(presented.match_thumbprint([registered.as_str()]).is_ok());
        assert!(presented.match_thumbprint(["00", registered]).is_ok(), "as the secondary");
    }
    let [_, behind] = thumbprints(&other.der);
    for registered in [&behind[..], &sha256[..40], ""] {
        assert!(presented.match_thumbprint([registered]).is_err(), "{registered}");
    }
    assert!(presented.match_thumbprint([]).is_err());
}

#[test]
fn no_more_certificates_are_read_than_a_chain_may_have() {
    let device = Certified::own(leaf("dev1"));
    let chain = vec![&device.der; caps::CLIENT_CERTIFICATES_MAX + 1];
    assert!(ClientCertificates::read(&chain[1..]).is_ok());
    assert!(ClientCertificates::read(&chain).is_err());
    assert!(ClientCertificates::read(&[&device.der; 0]).is_err());
    let mut with_tail = device.der.clone();
    with_tail.push(0);
    assert!(ClientCertificates::read(&[with_tail]).is_err());
}

proptest! {
    #[test]
    fn no_damage_to_a_chain_makes_it_panic_or_good(
        which in 0_usize..2,
        at in 0_usize..2000,
        byte: u8,
        length in 0_usize..2000,
    ) {
        // A key of each kind of certificate is made once, not at every try.
        static CHAIN: std::sync::LazyLock<[Certified; 3]> = std::sync::LazyLock::new(|| {
            let root = Certified::own(authority("root"));
            let intermediate = root.signs(authority("intermediate"));
            [intermediate.signs(leaf("dev1")), intermediate, root]
        });
        let [_, _, root] = &*CHAIN;
        let anchors = [&root.der];
        let mut chain = [CHAIN[0].der.clone(), CHAIN[1].der.clone()];
        let judge = |chain: &[Vec<u8>; 2]| {
            ClientCertificates::read(chain).and_then(|read| read.lead_to(&anchors, "dev1", NOW))
        };
        prop_assert!(judge(&chain).is_ok());
        let at = at % chain[which].len();
        let is_changed = std::mem::replace(&mut chain[which][at], byte) != byte;
        prop_assert_eq!(judge(&chain).is_err(), is_changed);
        chain[which].truncate(length);
        let _ = judge(&chain);
    }

    #[test]
    fn no_bytes_make_it_panic(der in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ClientCertificates::read(&[&der]).map(|read| read.lead_to(&[&der], "", NOW));
        let _ = key_algorithm(&der);
    }
}

#[test]
fn key_algorithms_are_read_without_panic() {
    for der in [
        &b""[..],
        b"\x30",
        b"\x30\x82",
        b"\x30\x82\xff\xff",
        b"\x30\x02\x30\x00",
        b"\x30\x80\x00",
        b"\x30\x04\x30\x7f\x01\x02",
    ] {
        let _ = key_algorithm(der);
    }
    assert_eq!(key_algorithm(b"\x30\x05\x30\x01\x07\x03\x00"), Some(&b"\x07"[..]));
}
