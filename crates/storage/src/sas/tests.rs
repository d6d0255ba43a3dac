//! Tokens that azure-storage-blob 12.31.1 of Python made, and what each of their limits keeps out.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::*;

const OF_BLOB: &str = "st=2020-01-01T00%3A00%3A00Z&se=2033-05-18T03%3A33%3A20Z&sp=rcw&spr=https&sv=2026-10-06&sr=b&rscd=attachment%3B%20filename%3Dx&rsct=text/plain&sig=3l46lZcvLFGBXCFUyrgfnBoQzD1ueZbBe1nkivnTLBM%3D";
const OF_CONTAINER: &str = "se=2033-05-18T03%3A33%3A20Z&sp=rwl&sip=127.0.0.1-127.0.0.9&sv=2026-10-06&sr=c&sig=2H3/6P2WKbxs4pJLMfJo/kwVCyIDxQr7WmLAvr9RP84%3D";
const BY_POLICY: &str = "sv=2026-10-06&si=readers&sr=c&sig=ga1BRJOFhuMfzhjRciWn7ODmw6XGR6ICwSNyTrywwX4%3D";
const OF_ACCOUNT: &str = "st=2020-01-01T00%3A00%3A00Z&se=2033-05-18T03%3A33%3A20Z&sp=rwl&sv=2026-10-06&ss=b&srt=sco&sig=1GugGf%2BPlXFk/le2OmggNSEcIkGnTBE6NXsRGlekGfo%3D";

/// A request for a blob that all four tokens let pass; each test changes one thing.
struct Wanted {
    account: AccountName,
    container: ContainerName,
    blob: BlobName,
    key: Key,
    permissions: Vec<Permission>,
    is_https: bool,
    peer: IpAddr,
    now: Timestamp,
    policy: Option<AccessPolicy>,
}

impl Wanted {
    fn read() -> Self {
        Self {
            account: "unitaccount".parse().unwrap(),
            container: "uploads".parse().unwrap(),
            blob: "dev 1/a+b é.txt".parse().unwrap(),
            key: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().unwrap(),
            permissions: vec![Permission::Read],
            is_https: true,
            peer: "127.0.0.1".parse().unwrap(),
            now: "2026-11-28T07:00:00Z".parse().unwrap(),
            policy: None,
        }
    }

    fn check_at(&self, token: &str, target: Target<'_>) -> Result<(), Refusal> {
        let wanted = Use {
            account: &self.account,
            target,
            permissions: &self.permissions,
            is_https: self.is_https,
            peer: self.peer,
            now: self.now,
            policy: self.policy.as_ref(),
        };
        parse(token)?.unwrap().check([&Key::from_bytes(vec![1; 32]), &self.key], wanted)
    }

    fn check(&self, token: &str) -> Result<(), Refusal> {
        self.check_at(token, Target::Blob(&self.container, &self.blob))
    }
}

fn parse(token: &str) -> Result<Option<Sas>, Refusal> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs: Vec<_> = token.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name, decoded(value))).collect();
    Sas::parse(&pairs.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>())
}

fn reading() -> AccessPolicy {
    AccessPolicy {
        permissions: Some("r".to_owned()),
        start: None,
        expiry: Some("2033-05-18T03:33:20Z".parse().unwrap()),
    }
}

#[test]
fn the_tokens_of_a_client_open_what_they_are_for() {
    let wanted = Wanted::read();
    assert_eq!(wanted.check(OF_BLOB), Ok(()));
    assert_eq!(wanted.check(OF_CONTAINER), Ok(()));
    assert_eq!(wanted.check(OF_ACCOUNT), Ok(()));
    assert_eq!(Wanted { policy: Some(reading()), ..wanted }.check(BY_POLICY), Ok(()));
}

#[test]
fn a_token_of_another_key_account_container_or_blob_opens_nothing() {
    let others = [
        Wanted { key: Key::from_bytes(vec![2; 32]), ..Wanted::read() },
        Wanted { account: "otheraccount".parse().unwrap(), ..Wanted::read() },
        Wanted { container: "downloads".parse().unwrap(), ..Wanted::read() },
        Wanted { blob: "dev 2/a+b é.txt".parse().unwrap(), ..Wanted::read() },
    ];
    for other in &others {
        assert_eq!(other.check(OF_BLOB), Err(Refusal::Signature));
    }
    assert_eq!(others[2].check(OF_CONTAINER), Err(Refusal::Signature));
    assert_eq!(others[1].check(OF_ACCOUNT), Err(Refusal::Signature));
}

#[test]
fn every_signed_field_is_covered() {
    let wanted = Wanted::read();
    for (from, to) in
        [("sp=rcw", "sp=rcwd"), ("2033", "2034"), ("text/plain", "text/html"), ("spr=https&", "")]
    {
        assert_eq!(wanted.check(&OF_BLOB.replace(from, to)), Err(Refusal::Signature), "{from}");
    }
    for (from, to) in [("srt=sco", "srt=o"), ("ss=b", "ss=bq"), ("sp=rwl", "sp=rw"), ("2020", "2019")] {
        assert_eq!(wanted.check(&OF_ACCOUNT.replace(from, to)), Err(Refusal::Signature), "{from}");
    }
}

#[test]
fn a_token_is_good_from_its_start_until_its_expiry() {
    let at = |text: &str| Wanted { now: text.parse().unwrap(), ..Wanted::read() }.check(OF_BLOB);
    assert_eq!(at("2019-12-31T23:59:59Z"), Err(Refusal::Time));
    assert_eq!(at("2020-01-01T00:00:00Z"), Ok(()));
    assert_eq!(at("2033-05-18T03:33:19Z"), Ok(()));
    assert_eq!(at("2033-05-18T03:33:20Z"), Err(Refusal::Time));
}

#[test]
fn a_token_permits_what_it_names_and_one_permission_of_several_is_enough() {
    let to = |permissions: &[Permission]| Wanted { permissions: permissions.to_vec(), ..Wanted::read() };
    assert_eq!(to(&[Permission::Create, Permission::Write]).check(OF_BLOB), Ok(()));
    assert_eq!(to(&[Permission::Create, Permission::Write]).check(OF_CONTAINER), Ok(()));
    assert_eq!(to(&[Permission::Delete]).check(OF_BLOB), Err(Refusal::Permission));
    assert_eq!(to(&[Permission::Add]).check(OF_ACCOUNT), Err(Refusal::Permission));
}

#[test]
fn a_token_holds_for_its_protocol_and_its_addresses() {
    assert_eq!(Wanted { is_https: false, ..Wanted::read() }.check(OF_BLOB), Err(Refusal::Protocol));
    assert_eq!(Wanted { is_https: false, ..Wanted::read() }.check(OF_CONTAINER), Ok(()));
    let from = |peer: &str| Wanted { peer: peer.parse().unwrap(), ..Wanted::read() }.check(OF_CONTAINER);
    assert_eq!(from("127.0.0.9"), Ok(()));
    assert_eq!(from("::ffff:127.0.0.2"), Ok(()));
    assert_eq!(from("127.0.0.10"), Err(Refusal::Address));
    assert_eq!(from("::1"), Err(Refusal::Address));
}

#[test]
fn a_token_of_a_blob_opens_no_container_and_that_of_a_container_no_account() {
    let wanted = Wanted { permissions: vec![Permission::List], ..Wanted::read() };
    let container = Target::Container(&wanted.container);
    assert_eq!(wanted.check_at(OF_BLOB, container), Err(Refusal::Signature));
    assert_eq!(wanted.check_at(OF_CONTAINER, container), Ok(()));
    assert_eq!(wanted.check_at(OF_CONTAINER, Target::Service), Err(Refusal::Signature));
    assert_eq!(wanted.check_at(OF_ACCOUNT, Target::Service), Ok(()));
}

/// Signs `fields` as an account would; for tokens that no client of ours makes.
fn signed_account_token(fields: &str) -> String {
    let wanted = Wanted::read();
    let unsigned = parse(&format!("{fields}&sig=AAAA")).unwrap().unwrap();
    let text = unsigned.account_string_to_sign(&wanted.account);
    let signature = STANDARD.encode(wanted.key.hmac_sha256(text.as_bytes()));
    format!("{fields}&sig={}", utf8_percent_encode(&signature, ESCAPED))
}

#[test]
fn an_account_token_reaches_its_services_and_types_of_resources_alone() {
    let check = |services: &str, types: &str| {
        let token =
            signed_account_token(&format!("sv=2019-02-02&ss={services}&srt={types}&sp=r&se=2033-05-18"));
        Wanted::read().check(&token)
    };
    assert_eq!(check("bfqt", "o"), Ok(()));
    assert_eq!(check("fqt", "o"), Err(Refusal::Service));
    assert_eq!(check("b", "sc"), Err(Refusal::ResourceType));
}

#[test]
fn a_policy_gives_what_the_token_leaves_to_it_and_nothing_twice() {
    let by = |policy| Wanted { policy, ..Wanted::read() };
    assert_eq!(by(None).check(BY_POLICY), Err(Refusal::Policy));
    let expired = AccessPolicy { expiry: Some("2026-11-28T07:00:00Z".parse().unwrap()), ..reading() };
    assert_eq!(by(Some(expired)).check(BY_POLICY), Err(Refusal::Time));
    let listing = AccessPolicy { permissions: Some("l".to_owned()), ..reading() };
    assert_eq!(by(Some(listing)).check(BY_POLICY), Err(Refusal::Permission));
    assert_eq!(
        by(Some(AccessPolicy { expiry: None, ..reading() })).check(BY_POLICY),
        Err(Refusal::Malformed)
    );
    // A policy that the token does not name has no say.
    assert_eq!(by(Some(AccessPolicy::default())).check(OF_BLOB), Ok(()));
    assert_eq!(one_of(Some(1), Some(1)), Err(Refusal::Policy));
}

#[test]
fn what_is_no_token_of_these_kinds_is_refused() {
    assert!(matches!(parse("comp=list&restype=container"), Ok(None)));
    let malformed = [
        "sig=AAAA",
        "sv=2026-10-06&sr=b&sig=not base64",
        "sv=2026-10-06&sr=b&sr=b&sig=AAAA",
        "sv=2026-10-06&sr=b&ss=b&srt=o&sig=AAAA",
        "sv=2026-10-06&sr=d&sdd=1&sig=AAAA",
        "sv=2026-10-06&sr=b&skoid=x&sig=AAAA",
        "sv=2014-02-14&sr=b&sig=AAAA",
        "sv=9&sr=b&sig=AAAA",
        "sv=2026-10-06&sr=b&se=tomorrow&sig=AAAA",
        "sv=2026-10-06&sr=b&sp=r%0A&sig=AAAA",
    ];
    for token in malformed {
        assert!(matches!(parse(token), Err(Refusal::Malformed)), "{token}");
    }
    let long = format!("{OF_BLOB}&x={}", "y".repeat(caps::SAS_TOKEN_BYTES_MAX));
    assert!(matches!(parse(&long), Err(Refusal::Malformed)));
}

#[test]
fn a_token_sets_the_headers_that_it_names_and_prints_no_signature() {
    let token = parse(OF_BLOB).unwrap().unwrap();
    assert_eq!(token.overridden_header("rscd"), Some("attachment; filename=x"));
    assert_eq!(token.overridden_header("rscl"), None);
    assert_eq!(token.overridden_header("sig"), None);
    assert!(!format!("{token:?}").contains("3l46"));
}

#[test]
fn moments_are_read_in_each_form_of_storage() {
    let seconds = |text| moment(Some(text)).unwrap().unwrap().unix_seconds();
    assert_eq!(seconds("2033-05-18"), 1_999_987_200);
    assert_eq!(seconds("2033-05-18T03:33Z"), 1_999_999_980);
    assert_eq!(seconds("2033-05-18T03:33:20Z"), 2_000_000_000);
    assert_eq!(seconds("2033-05-18T03:33:20.0000000Z"), 2_000_000_000);
    assert_eq!(moment(Some("2033-05-18T03:33+00")), Err(Refusal::Malformed));
}

#[test]
fn a_token_that_is_made_for_a_blob_opens_that_blob_until_it_expires() {
    let wanted = Wanted::read();
    let of = |blob: &BlobName| {
        build_for_blob(
            &wanted.account,
            (&wanted.container, blob),
            &[Permission::Read, Permission::Write],
            wanted.now.plus(Duration::from_secs(3600)),
            &wanted.key,
        )
    };
    let token = of(&wanted.blob);
    assert_eq!(wanted.check(&token), Ok(()));
    assert_eq!(wanted.check(&of(&"another".parse().unwrap())), Err(Refusal::Signature));
    let late = Wanted { now: wanted.now.plus(Duration::from_secs(3600)), ..Wanted::read() };
    assert_eq!(late.check(&token), Err(Refusal::Time));
    let deleting = Wanted { permissions: vec![Permission::Delete], ..Wanted::read() };
    assert_eq!(deleting.check(&token), Err(Refusal::Permission));
}

proptest! {
    #[test]
    fn reading_never_panics_and_no_invented_token_opens_anything(
        kind in "(sr=[bcd]|ss=[bq]{1,2}&srt=[sco]{1,3})", version in "20[12][0-9]-1[0-2]-0[1-9]", sp in "[a-z]{0,5}",
        se in "[0-9TZ:.-]{0,20}", sip in "[0-9.-]{0,15}", sig in "[A-Za-z0-9+/]{43}",
    ) {
        let token = format!("{kind}&sv={version}&sp={sp}&se={se}&sip={sip}&sig={sig}=");
        prop_assert!(Wanted::read().check(&token).is_err());
    }

    #[test]
    fn no_fields_that_a_client_sends_make_it_panic_or_open_anything(
        fields in prop::collection::vec(
            (
                prop::sample::select(vec!["sv", "sr", "ss", "srt", "sp", "st", "se", "si", "sip", "spr", "ses", "rsct", "comp", "x"]),
                prop_oneof!["\\PC{0,20}", "[rwdcabco0-9TZ:.-]{0,20}", Just("2026-10-06".to_owned())],
            ),
            0..12,
        ),
        sig in "[A-Za-z0-9+/]{43}=", has_policy: bool,
    ) {
        let mut wanted = Wanted::read();
        let all = AccessPolicy { permissions: Some("r".into()), start: None, expiry: "2099-01-01T00:00:00Z".parse().ok() };
        wanted.policy = has_policy.then_some(all);
        let mut pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        pairs.push(("sig", &sig));
        if let Ok(Some(sas)) = Sas::parse(&pairs) {
            let keys = [&wanted.key, &wanted.key];
            for target in
                [Target::Service, Target::Container(&wanted.container), Target::Blob(&wanted.container, &wanted.blob)]
            {
                let wanted = Use {
                    account: &wanted.account,
                    target,
                    permissions: &wanted.permissions,
                    is_https: true,
                    peer: wanted.peer,
                    now: wanted.now,
                    policy: wanted.policy.as_ref(),
                };
                prop_assert!(sas.check(keys, wanted).is_err());
            }
        }
    }
}
