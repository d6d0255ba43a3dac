use access::{CaCertificateDraft, Caller, Right};
use base::IfMatch;
use serde_json::json;

use super::*;
use crate::attestation::{AttestationDraft, CertificateDraft, Pair, X509Draft};
use crate::settings::AllocationPolicy;
use crate::testing::{TestService, group, individual, primary_key, registration_id};

#[tokio::test]
async fn an_enrollment_is_created_once_and_replaced_only_under_its_etag() {
    let test = TestService::with_hubs(&["hub"]).await;
    let created = test.put(&individual("dev-1")).await.unwrap();
    assert_eq!(test.put(&individual("DEV-1")).await, Err(Error::AlreadyExists));
    let owner = test.owner();
    let put = |tag: String| {
        let (service, owner) = (test.service.clone(), owner.clone());
        async move { service.put_enrollment(&owner, &individual("dev-1"), &IfMatch::parse(Some(&tag))).await }
    };
    assert_eq!(put("\"stale\"".into()).await, Err(Error::PreconditionFailed));
    let replaced = put(created.etag_text()).await.unwrap();
    assert_ne!(replaced.etag, created.etag);
    assert_eq!(put(created.etag_text()).await, Err(Error::PreconditionFailed));
    let nobody = test.service.put_enrollment(&owner, &individual("dev-2"), &IfMatch::Tag("x".into())).await;
    assert_eq!(nobody, Err(Error::PreconditionFailed));
}

#[tokio::test]
async fn keys_are_made_when_absent_and_kept_when_a_put_leaves_them_out() {
    let test = TestService::with_hubs(&["hub"]).await;
    let made = test.put(&individual("dev-1")).await.unwrap();
    assert_eq!(primary_key(&made).bytes().len(), 64);
    let empty = Some("".into());
    let mut again = individual("dev-1");
    again.attestation = AttestationDraft::SymmetricKey { primary_key: empty.clone(), secondary_key: empty };
    again.is_enabled = false;
    let kept = test.put_again(&again).await;
    assert_eq!(kept.attestation, made.attestation);
    assert!(!kept.is_enabled);
    assert_eq!(kept.created, made.created);
}

type Spoil = fn(&mut EnrollmentDraft);

#[tokio::test]
async fn nonsense_is_refused_and_nothing_is_stored() {
    let test = TestService::with_hubs(&["hub"]).await;
    let cases: Vec<(&str, Spoil)> = vec![
        ("a hub that is not linked", |d| d.iot_hubs = vec!["elsewhere.azure-devices.net".into()]),
        ("static with two hubs", |d| {
            d.allocation_policy = Some(AllocationPolicy::Static);
            d.iot_hubs = vec!["hub".into(), "hub.azure-devices.example.test".into()];
        }),
        ("custom without a webhook", |d| d.allocation_policy = Some(AllocationPolicy::Custom)),
        ("a webhook that is no URL", |d| {
            d.allocation_policy = Some(AllocationPolicy::Custom);
            d.custom_allocation =
                Some(CustomAllocation { webhook_url: "ftp://x".into(), api_version: "2021-10-01".into() });
        }),
        ("a twin that is no object", |d| d.initial_twin = Some(json!([1]))),
        ("tags that are no object", |d| d.initial_twin = Some(json!({"tags": 1}))),
        ("a short key", |d| {
            d.attestation =
                AttestationDraft::SymmetricKey { primary_key: Some("AAAA".into()), secondary_key: None };
        }),
        ("a TPM key that is not base64", |d| {
            d.attestation = AttestationDraft::Tpm { endorsement_key: "?".into(), storage_root_key: None };
        }),
        ("a CA that is not there", |d| {
            let pair = Pair { primary: Some("root".to_owned()), secondary: None };
            d.attestation = AttestationDraft::X509(X509Draft::CaReferences(pair));
        }),
    ];
    for (what, spoil) in cases {
        let mut draft = individual("dev-1");
        spoil(&mut draft);
        let refused = test.put(&draft).await;
        assert!(matches!(refused, Err(Error::BadRequest(_))), "{what}: {refused:?}");
    }
    let (owner, id) = (test.owner(), registration_id("dev-1"));
    let found = test.service.get_enrollment(&owner, EnrollmentKind::Individual, &id).await;
    assert_eq!(found, Err(Error::EnrollmentNotFound));
}

#[tokio::test]
async fn a_ca_reference_needs_a_verified_certificate() {
    let test = TestService::with_hubs(&["hub"]).await;
    let pair = Pair { primary: Some("Root".to_owned()), secondary: None };
    let mut draft = individual("dev-1");
    draft.attestation = AttestationDraft::X509(X509Draft::CaReferences(pair));
    let upload = async |is_verified, if_match| {
        let draft = CaCertificateDraft {
            name: "root".into(),
            certificate: crate::testing::CERTIFICATE.to_owned(),
            is_verified: Some(is_verified),
        };
        test.put_certificate(&draft, &if_match).await
    };
    let unproven = upload(false, IfMatch::Absent).await;
    assert!(test.put(&draft).await.is_err());
    upload(true, IfMatch::Tag(unproven.etag_text())).await;
    assert!(test.put(&draft).await.is_ok());
}

#[tokio::test]
async fn every_name_of_a_linked_hub_finds_it() {
    let test = TestService::with_hubs(&["hub1", "hub2"]).await;
    let at = |name: &str| test.hubs.find(name).unwrap().host_name(&base::hosts::Dialled::here());
    let names = [
        "hub2".to_owned(),
        "HUB2".to_owned(),
        "hub2.azure-devices.net".to_owned(),
        "Hub2.Azure-Devices.NET".to_owned(),
        "hub2.azure-devices.net:443".to_owned(),
        "hub2.azure-devices.example.test".to_owned(),
        at("hub2"),
        format!("{}:8443", at("hub2")),
    ];
    let key = base::Key::generate(64);
    for (number, name) in names.iter().enumerate() {
        for by_host_name in [false, true] {
            let mut draft = group(&format!("group-{number}-{by_host_name}"), &key);
            if by_host_name {
                draft.iot_hub_host_name = Some(name.clone());
            } else {
                draft.allocation_policy = Some(AllocationPolicy::Hashed);
                draft.iot_hubs = vec![name.clone()];
            }
            test.put(&draft).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let id = format!("device-{number}-{by_host_name}");
            let registered = test.register(&id, &key.derive(&id)).await.unwrap();
            assert_eq!(registered.assignment.unwrap().hub_name, "hub2", "{name}");
            let (owner, group) = (test.owner(), registration_id(&format!("group-{number}-{by_host_name}")));
            test.service
                .delete_enrollment(&owner, EnrollmentKind::Group, &group, &IfMatch::Any)
                .await
                .unwrap();
        }
    }
    for name in
        ["hub3", "hub3.azure-devices.net", "hub2.azure-devices", ".azure-devices.net", "hub2.example.com"]
    {
        let mut draft = individual("dev-1");
        draft.iot_hubs = vec![name.into()];
        assert!(matches!(test.put(&draft).await, Err(Error::BadRequest(_))), "{name}");
    }
}

#[tokio::test]
async fn an_enrollment_whose_hub_or_certificate_is_gone_can_still_be_edited() {
    let test = TestService::with_hubs(&["hub1", "hub2"]).await;
    let ca = CaCertificateDraft {
        name: "root".into(),
        certificate: crate::testing::CERTIFICATE.to_owned(),
        is_verified: Some(true),
    };
    test.put_certificate(&ca, &IfMatch::Absent).await;
    let pair = |name: &str| Pair { primary: Some(name.to_owned()), secondary: None };
    let mut draft = individual("dev-1");
    draft.attestation = AttestationDraft::X509(X509Draft::CaReferences(pair("root")));
    draft.allocation_policy = Some(AllocationPolicy::Hashed);
    draft.iot_hubs = vec!["hub1".into(), "hub2".into()];
    let mut other = individual("dev-2");
    other.iot_hub_host_name = Some("hub1".into());
    for draft in [&draft, &other] {
        test.put(draft).await.unwrap();
    }
    let removed = test.service.change_certificates(|all, _| all.remove("root", &IfMatch::Any)).await;
    assert_eq!(removed, Ok(true));
    let mut settings = (*test.service.settings()).clone();
    settings.linked_hubs.retain(|link| link.hub_name != "hub1");
    test.services.ensure(settings).await.unwrap();
    for draft in [&mut draft, &mut other] {
        draft.is_enabled = false;
        assert!(!test.put_again(draft).await.is_enabled);
    }
    draft.attestation = AttestationDraft::X509(X509Draft::CaReferences(pair("ROOT")));
    draft.iot_hubs = vec!["HUB1".into()];
    test.put_again(&draft).await;
    // What is new is checked.
    let owner = test.owner();
    let refused = async |draft: &EnrollmentDraft| {
        test.service.put_enrollment(&owner, draft, &IfMatch::Any).await.unwrap_err()
    };
    let with_hub = EnrollmentDraft { iot_hubs: vec!["hub1".into(), "hub3".into()], ..draft.clone() };
    assert!(matches!(refused(&with_hub).await, Error::BadRequest(_)));
    let attestation = AttestationDraft::X509(X509Draft::CaReferences(pair("root2")));
    let with_certificate = EnrollmentDraft { attestation, ..draft.clone() };
    assert!(matches!(refused(&with_certificate).await, Error::BadRequest(_)));
    let another = EnrollmentDraft { id: registration_id("dev-3"), ..other.clone() };
    assert!(matches!(refused(&another).await, Error::BadRequest(_)));
}

#[tokio::test]
async fn a_tpm_attests_a_device_but_never_a_group() {
    let test = TestService::with_hubs(&["hub"]).await;
    let tpm = AttestationDraft::Tpm { endorsement_key: "AAAA".into(), storage_root_key: None };
    let mut one = individual("dev-1");
    one.attestation = tpm.clone();
    assert!(test.put(&one).await.is_ok());
    let mut many = group("group", &base::Key::generate(32));
    many.attestation = tpm;
    assert!(matches!(test.put(&many).await, Err(Error::BadRequest(_))));
}

#[tokio::test]
async fn a_reader_may_read_but_neither_write_nor_see_keys() {
    let test = TestService::with_hubs(&["hub"]).await;
    test.put(&individual("dev-1")).await.unwrap();
    let reader = Caller::policy(test.service.scope().clone(), "reader", &[Right::EnrollmentRead]);
    let id = registration_id("dev-1");
    let kind = EnrollmentKind::Individual;
    assert!(test.service.get_enrollment(&reader, kind, &id).await.is_ok());
    assert!(test.service.get_attestation_mechanism(&reader, kind, &id).await.is_err());
    assert!(test.service.put_enrollment(&reader, &individual("dev-2"), &IfMatch::Absent).await.is_err());
    assert!(test.service.delete_enrollment(&reader, kind, &id, &IfMatch::Any).await.is_err());
    let foreign = Caller::policy(base::Scope::new("/other"), "owner", &[Right::EnrollmentWrite]);
    assert!(test.service.get_enrollment(&foreign, kind, &id).await.is_err());
}

#[tokio::test]
async fn a_query_pages_through_everything_in_order_and_only_once() {
    let test = TestService::with_hubs(&["hub"]).await;
    for n in 0..7 {
        test.put(&individual(&format!("dev-{n}"))).await.unwrap();
    }
    let (mut seen, mut from) = (Vec::new(), None);
    loop {
        let (owner, kind) = (test.owner(), EnrollmentKind::Individual);
        let page = test.service.query_enrollments(&owner, kind, |_| true, 3, from.as_ref()).await.unwrap();
        seen.extend(page.items.iter().map(|e| e.id.to_string()));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..7).map(|n| format!("dev-{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_looks_at_ten_thousand_rows_and_the_next_one_goes_on() {
    let test = TestService::with_hubs(&[]).await;
    let mut last = String::new();
    for thousand in 0..11 {
        let mut batch = Batch::default();
        for n in 0..1000 {
            last = format!("dev-{thousand:02}-{n:03}");
            batch.insert(&crate::testing::enrollment(&last));
        }
        test.service.store().commit(batch).await.unwrap();
    }
    let (owner, kind) = (test.owner(), EnrollmentKind::Individual);
    let query = async |from: Option<&base::Continuation>| {
        let keep = |enrollment: &Enrollment| enrollment.id.as_str() == last;
        test.service.query_enrollments(&owner, kind, keep, 10, from).await.unwrap()
    };
    let first = query(None).await;
    assert_eq!(first.items.len(), 0);
    let second = query(Some(&first.next.unwrap())).await;
    assert_eq!((second.items.len(), second.next), (1, None));
    let full =
        test.service.query_enrollments(&owner, kind, |_| true, caps::QUERY_PAGE_MAX, None).await.unwrap();
    assert_eq!((full.items.len(), full.next.is_some()), (caps::QUERY_PAGE_MAX, true));
}

/// A group that attests by certificates.
fn x509_group(id: &str) -> EnrollmentDraft {
    let certificate =
        CertificateDraft { certificate: Some(crate::testing::CERTIFICATE.to_owned()), has_info: false };
    let pair = Pair { primary: Some(certificate), secondary: None };
    let attestation = AttestationDraft::X509(X509Draft::SigningCertificates(pair));
    EnrollmentDraft { attestation, ..group(id, &base::Key::generate(32)) }
}

#[tokio::test]
async fn a_hundred_groups_of_each_attestation_fit_and_a_deleted_or_changed_one_makes_room() {
    let test = TestService::with_hubs(&["hub"]).await;
    let by_key = |id: &str| group(id, &base::Key::generate(32));
    let makers: [&dyn Fn(&str) -> EnrollmentDraft; 2] = [&by_key, &x509_group];
    for (kind, make) in makers.into_iter().enumerate() {
        for n in 0..caps::ENROLLMENT_GROUPS_MAX {
            test.put(&make(&format!("group-{kind}-{n}"))).await.unwrap();
        }
        assert_eq!(test.put(&make("more")).await, Err(Error::QuotaExceeded));
    }
    let delete = async |id: &str| {
        let (owner, kind) = (test.owner(), EnrollmentKind::Group);
        test.service.delete_enrollment(&owner, kind, &registration_id(id), &IfMatch::Absent).await.unwrap();
    };
    delete("group-0-0").await;
    test.put_again(&by_key("group-1-0")).await;
    assert_eq!(test.put(&by_key("more")).await, Err(Error::QuotaExceeded));
    assert!(test.put(&x509_group("more")).await.is_ok(), "one of them attests by key now");
    // The last of two hundred lets its devices in.
    let key = base::Key::generate(64);
    delete("group-0-1").await;
    test.put(&group("zzz", &key)).await.unwrap();
    assert!(test.register("dev-1", &key.derive("dev-1")).await.is_ok());
}

#[tokio::test]
async fn a_service_holds_a_million_enrollments_and_no_more() {
    let test = TestService::with_hubs(&["hub"]).await;
    let mut batch = Batch::default();
    batch.add(test.service.count("individual"), caps::ENROLLMENTS_MAX - 1, caps::ENROLLMENTS_MAX);
    test.service.store().commit(batch).await.unwrap();
    assert!(test.put(&individual("dev-1")).await.is_ok());
    assert_eq!(test.put(&individual("dev-2")).await, Err(Error::QuotaExceeded));
    test.put_again(&individual("dev-1")).await;
    test.service
        .delete_enrollment(
            &test.owner(),
            EnrollmentKind::Individual,
            &registration_id("dev-1"),
            &IfMatch::Any,
        )
        .await
        .unwrap();
    assert!(test.put(&individual("dev-2")).await.is_ok());
}

#[tokio::test]
async fn a_service_token_opens_its_own_service_only() {
    let test = TestService::with_hubs(&["hub"]).await;
    let policy = test.service.settings().policies[0].clone();
    let host = "dps.azure-devices-provisioning.example.test";
    let at = |seconds| test.clock.now().plus(std::time::Duration::from_secs(seconds));
    let token = |resource: &str, key: &base::Key, name: &str, until| {
        base::sas::SasToken::parse(&base::sas::build(resource, key, until, Some(name))).unwrap()
    };
    let open = |token| test.service.authenticate_service(host, "/enrollments/x", &token).is_ok();
    let name = policy.key_name.as_str();
    assert!(open(token(host, &policy.primary_key, name, at(60))));
    assert!(open(token(&format!("{host}/enrollments"), &policy.secondary_key, name, at(60))));
    assert!(!open(token(&format!("{host}/registrations"), &policy.primary_key, name, at(60))));
    assert!(!open(token("other.azure-devices-provisioning.example.test", &policy.primary_key, name, at(60))));
    assert!(!open(token(host, &base::Key::generate(32), name, at(60))));
    assert!(!open(token(host, &policy.primary_key, "nobody", at(60))));
    let old = test.clock.now().minus(std::time::Duration::from_secs(301));
    assert!(!open(token(host, &policy.primary_key, name, old)));
}

#[tokio::test]
async fn what_comes_after_the_removal_of_its_service_leaves_nothing_behind() {
    let test = TestService::with_hubs(&["hub"]).await;
    let made = test.put(&individual("dev-1")).await.unwrap();
    let instance = test.service.instance().clone();
    test.services.remove(&instance).await.unwrap();
    assert!(test.put(&individual("dev-2")).await.is_err());
    assert!(test.register("dev-1", &primary_key(&made)).await.is_err());
    assert_eq!(test.service.store().count::<Enrollment>(&store::Key::instance(&instance)).await, Ok(0));
    test.services.remove(&instance).await.unwrap();
}
