use base::{DeviceId, IfMatch, Key};
use hub::device::{Authentication, Identity};
use serde_json::{Value, json};

use super::*;
use crate::enrollment::{CustomAllocation, EnrollmentDraft, ReprovisionPolicy};
use crate::settings::AllocationPolicy;
use crate::testing::{TODAY, TestService, group, individual, primary_key, registration_id};

fn substatus(registration: &Registration) -> Substatus {
    match registration.state {
        RegistrationState::Assigned { substatus } => substatus,
        ref other => panic!("not assigned: {other:?}"),
    }
}

async fn device(test: &TestService, hub: &str, id: &str) -> Option<Identity> {
    let hub = test.hubs.find(hub).unwrap();
    let id: DeviceId = id.parse().unwrap();
    hub.get_device(&Caller::system(), &id).await.ok().map(|view| view.identity)
}

async fn twin(test: &TestService, hub: &str, id: &str) -> Value {
    let hub = test.hubs.find(hub).unwrap();
    let view = hub.get_twin(&Caller::system(), &id.parse().unwrap()).await.unwrap();
    json!({"tags": view.twin.tags, "properties": {"desired": view.twin.properties.desired.without_metadata()}})
}

fn with_twin(mut draft: EnrollmentDraft, ring: u32) -> EnrollmentDraft {
    draft.initial_twin =
        Some(json!({"tags": {"ring": ring}, "properties": {"desired": {"interval": ring * 10}}}));
    draft
}

#[tokio::test]
async fn a_device_is_made_in_its_hub_with_its_keys_and_its_initial_twin() {
    let test = TestService::with_hubs(&["hub"]).await;
    let mut draft = with_twin(individual("dev-1"), 1);
    draft.device_id = Some("Pump-7".parse().unwrap());
    let key = primary_key(&test.put(&draft).await.unwrap());
    let registered = test.register("dev-1", &key).await.unwrap();
    assert_eq!(substatus(&registered), Substatus::InitialAssignment);
    let assignment = registered.assignment.unwrap();
    assert_eq!(assignment.assigned_hub, "hub.azure-devices.example.test");
    assert_eq!(assignment.device_id.as_str(), "Pump-7");
    let identity = device(&test, "hub", "Pump-7").await.unwrap();
    let Authentication::Sas { primary_key, .. } = identity.authentication else { panic!("not by key") };
    assert_eq!(primary_key, key);
    let twin = twin(&test, "hub", "Pump-7").await;
    assert_eq!((&twin["tags"]["ring"], &twin["properties"]["desired"]["interval"]), (&json!(1), &json!(10)));
}

#[tokio::test]
async fn a_group_lets_in_whoever_holds_a_derived_key_and_nobody_with_the_groups_own() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = Key::generate(64);
    test.put(&group("group", &key)).await.unwrap();
    let registered = test.register("dev-01", &key.derive("dev-01")).await.unwrap();
    assert_eq!(registered.enrollment_id.as_str(), "group");
    let identity = device(&test, "hub", "dev-01").await.unwrap();
    let Authentication::Sas { primary_key, .. } = identity.authentication else { panic!("not by key") };
    assert_eq!(primary_key, key.derive("dev-01"));
    assert_eq!(test.register("dev-02", &key).await, Err(Error::Unauthorized));
    assert_eq!(test.register("dev-02", &key.derive("dev-01")).await, Err(Error::Unauthorized));
    assert!(device(&test, "hub", "dev-02").await.is_none());
}

#[tokio::test]
async fn an_individual_enrollment_stands_before_every_group_even_when_it_is_disabled() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = Key::generate(64);
    test.put(&group("group", &key)).await.unwrap();
    let mut draft = individual("dev-01");
    draft.is_enabled = false;
    let own = primary_key(&test.put(&draft).await.unwrap());
    assert_eq!(test.register("dev-01", &key.derive("dev-01")).await, Err(Error::Unauthorized));
    let disabled = test.register("dev-01", &own).await.unwrap();
    assert_eq!(disabled.state, RegistrationState::Disabled);
    assert!(device(&test, "hub", "dev-01").await.is_none());
}

#[tokio::test]
async fn a_token_of_another_device_service_or_time_is_refused() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = primary_key(&test.put(&individual("dev-1")).await.unwrap());
    let id = registration_id("dev-1");
    assert_eq!(test.service.authenticate(&id, None).await.err(), Some(Error::Unauthorized));
    let other = test.token("dev-2", &key);
    assert_eq!(test.service.authenticate(&id, Some(&other)).await.err(), Some(Error::Unauthorized));
    let good = test.token("dev-1", &key);
    assert!(test.service.authenticate(&id, Some(&good)).await.is_ok());
    test.clock.advance(std::time::Duration::from_secs(60 + 301));
    assert_eq!(test.service.authenticate(&id, Some(&good)).await.err(), Some(Error::Unauthorized));
}

#[tokio::test]
async fn registering_again_stays_on_the_hub_and_keeps_the_twin() {
    let test = TestService::with_hubs(&["a", "b", "c"]).await;
    let key = primary_key(&test.put(&with_twin(individual("dev-1"), 1)).await.unwrap());
    let first = test.register("dev-1", &key).await.unwrap();
    let second = test.register("dev-1", &key).await.unwrap();
    assert_eq!(first.assignment, second.assignment);
    assert_eq!(substatus(&second), Substatus::ReprovisionedToInitialAssignment);
    assert_eq!(first.created, second.created);
    assert_ne!(first.operation_id, second.operation_id);
}

#[tokio::test]
async fn a_device_moves_with_its_data_or_without_as_its_enrollment_says() {
    for (migrate, expected, ring) in
        [(true, Substatus::DeviceDataMigrated, 1), (false, Substatus::DeviceDataReset, 2)]
    {
        let test = TestService::with_hubs(&["a", "b"]).await;
        let mut draft = with_twin(individual("dev-1"), 1);
        draft.allocation_policy = Some(AllocationPolicy::Static);
        draft.iot_hubs = vec!["a".into()];
        draft.reprovision_policy =
            Some(ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: migrate });
        let key = primary_key(&test.put(&draft).await.unwrap());
        test.register("dev-1", &key).await.unwrap();
        draft.iot_hubs = vec!["b.azure-devices.example.test".into()];
        test.put_again(&with_twin(draft, 2)).await;
        let moved = test.register("dev-1", &key).await.unwrap();
        assert_eq!(substatus(&moved), expected);
        assert!(device(&test, "a", "dev-1").await.is_none());
        assert_eq!(twin(&test, "b", "dev-1").await["tags"]["ring"], json!(ring));
    }
}

#[tokio::test]
async fn an_enrollment_that_never_updates_keeps_its_device_where_it_is() {
    let test = TestService::with_hubs(&["a", "b"]).await;
    let mut draft = individual("dev-1");
    draft.allocation_policy = Some(AllocationPolicy::Static);
    draft.iot_hubs = vec!["a".into()];
    draft.reprovision_policy =
        Some(ReprovisionPolicy { update_hub_assignment: false, migrate_device_data: false });
    let key = primary_key(&test.put(&draft).await.unwrap());
    test.register("dev-1", &key).await.unwrap();
    draft.iot_hubs = vec!["b".into()];
    draft.reprovision_policy = None;
    test.put_again(&draft).await;
    let old_client = test.register_as("dev-1", &key, "2018-04-01").await.unwrap();
    assert!(old_client.assignment.unwrap().assigned_hub.starts_with("a."));
    let new_client = test.register_as("dev-1", &key, TODAY).await.unwrap();
    assert!(new_client.assignment.unwrap().assigned_hub.starts_with("b."));
}

#[tokio::test]
async fn without_a_hub_or_with_a_webhook_the_registration_fails_and_says_why() {
    let test = TestService::with_hubs(&[]).await;
    let key = primary_key(&test.put(&individual("dev-1")).await.unwrap());
    let failed = test.register("dev-1", &key).await.unwrap();
    assert_eq!(failed.state, RegistrationState::Failed { reason: FailureReason::NoHub });

    let test = TestService::with_hubs(&["hub"]).await;
    let mut draft = individual("dev-1");
    draft.allocation_policy = Some(AllocationPolicy::Custom);
    draft.custom_allocation =
        Some(CustomAllocation { webhook_url: "https://f.test/x".into(), api_version: "2021-10-01".into() });
    let key = primary_key(&test.put(&draft).await.unwrap());
    let failed = test.register("dev-1", &key).await.unwrap();
    let RegistrationState::Failed { reason } = &failed.state else { panic!("{failed:?}") };
    assert!(reason.message().contains("Custom allocation"));
    let shown = test.service.get_registration(&test.owner(), &registration_id("dev-1")).await.unwrap();
    assert_eq!(shown, failed);
}

#[tokio::test]
async fn an_assignment_that_a_stop_cut_off_is_finished_at_the_next_start() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = Key::generate(64);
    test.put(&group("group", &key)).await.unwrap();
    let token = test.token("dev-1", &key.derive("dev-1"));
    let device_ = test.service.authenticate(&registration_id("dev-1"), Some(&token)).await.unwrap();
    let cut_off = begin(&test.service, &device_, None, false);
    let mut batch = Batch::default();
    batch.insert(&cut_off);
    test.service.store().commit(batch).await.unwrap();

    test.services.load().await.unwrap();
    let finished = test.service.operation_status(&device_, &cut_off.operation_id).await.unwrap().registration;
    assert_eq!(substatus(&finished), Substatus::InitialAssignment);
    assert!(device(&test, "hub", "dev-1").await.is_some());
}

#[tokio::test]
async fn deleting_a_registration_leaves_the_device_and_makes_the_next_one_the_first() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = primary_key(&test.put(&individual("dev-1")).await.unwrap());
    test.register("dev-1", &key).await.unwrap();
    let id = registration_id("dev-1");
    let stale = test.service.delete_registration(&test.owner(), &id, &IfMatch::Tag("stale".into())).await;
    assert_eq!(stale, Err(Error::PreconditionFailed));
    test.service.delete_registration(&test.owner(), &id, &IfMatch::Absent).await.unwrap();
    assert!(device(&test, "hub", "dev-1").await.is_some());
    assert_eq!(test.service.get_registration(&test.owner(), &id).await, Err(Error::RegistrationNotFound));
    assert_eq!(substatus(&test.register("dev-1", &key).await.unwrap()), Substatus::InitialAssignment);
}

#[tokio::test]
async fn the_registrations_of_a_group_are_listed_page_by_page() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = Key::generate(64);
    test.put(&group("group", &key)).await.unwrap();
    let own = primary_key(&test.put(&individual("single")).await.unwrap());
    test.register("single", &own).await.unwrap();
    for n in 0..5 {
        let id = format!("dev-{n}");
        test.register(&id, &key.derive(&id)).await.unwrap();
    }
    let group = registration_id("group");
    let first = test.service.query_registrations(&test.owner(), &group, 3, None).await.unwrap();
    let rest = test.service.query_registrations(&test.owner(), &group, 3, first.next.as_ref()).await.unwrap();
    let ids: Vec<_> = first.items.iter().chain(&rest.items).map(|r| r.registration_id.to_string()).collect();
    assert_eq!(ids, ["dev-0", "dev-1", "dev-2", "dev-3", "dev-4"]);
    assert_eq!(rest.next, None);
}
