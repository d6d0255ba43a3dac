use std::sync::Arc;
use std::time::Duration;

use base::{DeviceId, IfMatch, Key};
use hub::device::{Authentication, Identity};
use serde_json::{Value, json};

use super::*;
use crate::attestation::AttestationDraft;
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

/// A request that says nothing.
const NOTHING: RegistrationRequest = RegistrationRequest { model_id: None };

#[tokio::test]
async fn a_device_is_made_in_its_hub_with_its_keys_and_its_initial_twin() {
    let test = TestService::with_hubs(&["hub"]).await;
    let mut draft = with_twin(individual("dev-1"), 1);
    draft.device_id = Some("Pump-7".parse().unwrap());
    let key = primary_key(&test.put(&draft).await.unwrap());
    let registered = test.register("dev-1", &key).await.unwrap();
    assert_eq!(substatus(&registered), Substatus::InitialAssignment);
    let assignment = registered.assignment.unwrap();
    assert_eq!(assignment.hub_name, "hub");
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
    let (first, second) = (Key::generate(64), Key::generate(64));
    let mut two = group("two", &first);
    two.attestation = AttestationDraft::SymmetricKey {
        primary_key: Some((&first).into()),
        secondary_key: Some((&second).into()),
    };
    test.put(&two).await.unwrap();
    test.register("dev-02", &second.derive("dev-02")).await.unwrap();
    let identity = device(&test, "hub", "dev-02").await.unwrap();
    let Authentication::Sas { primary_key, secondary_key } = identity.authentication else {
        panic!("not by key")
    };
    assert_eq!((primary_key, secondary_key), (first.derive("dev-02"), second.derive("dev-02")));
}

#[tokio::test]
async fn of_two_groups_that_fit_the_older_one_lets_the_device_in_and_disabled_it_keeps_it_out() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = Key::generate(64);
    let mut older = group("zzz", &key);
    test.put(&older).await.unwrap();
    test.clock.advance(std::time::Duration::from_secs(1));
    test.put(&group("aaa", &key)).await.unwrap();
    let registered = test.register("dev-1", &key.derive("dev-1")).await.unwrap();
    assert_eq!(registered.enrollment_id.as_str(), "zzz");
    older.is_enabled = false;
    test.put_again(&older).await;
    let told = test.register("dev-1", &key.derive("dev-1")).await.unwrap();
    assert_eq!(told.state, RegistrationState::Disabled);
    // What it was assigned is not forgotten.
    older.is_enabled = true;
    test.put_again(&older).await;
    let again = test.register("dev-1", &key.derive("dev-1")).await.unwrap();
    assert_eq!(substatus(&again), Substatus::ReprovisionedToInitialAssignment);
    // A device that changes its group stays the same registration.
    let kind = EnrollmentKind::Group;
    test.service
        .delete_enrollment(&test.owner(), kind, &registration_id("zzz"), &IfMatch::Any)
        .await
        .unwrap();
    let moved = test.register("dev-1", &key.derive("dev-1")).await.unwrap();
    assert_eq!((moved.enrollment_id.as_str(), moved.created), ("aaa", registered.created));
    let of = |group: &str| {
        let (service, owner, group) = (test.service.clone(), test.owner(), registration_id(group));
        async move { service.query_registrations(&owner, &group, 10, None).await.map(|page| page.items.len()) }
    };
    assert_eq!((of("aaa").await, of("zzz").await), (Ok(1), Err(Error::EnrollmentGroupNotFound)));
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
    assert_eq!(
        test.service.authenticate(&id, None).await.err().map(|refused| refused.error),
        Some(Error::Unauthorized)
    );
    let other = test.token("dev-2", &key);
    assert_eq!(
        test.service.authenticate(&id, Some(&other)).await.err().map(|refused| refused.error),
        Some(Error::Unauthorized)
    );
    let good = test.token("dev-1", &key);
    assert!(test.service.authenticate(&id, Some(&good)).await.is_ok());
    test.clock.advance(std::time::Duration::from_secs(60 + 301));
    assert_eq!(
        test.service.authenticate(&id, Some(&good)).await.err().map(|refused| refused.error),
        Some(Error::Unauthorized)
    );
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

/// On hub `a` with twin 1; its enrollment now names hub `to` and twin 2.
async fn on_its_way(test: &TestService, to: &str, policy: ReprovisionPolicy) -> Key {
    let mut draft = with_twin(individual("dev-1"), 1);
    draft.allocation_policy = Some(AllocationPolicy::Static);
    draft.iot_hubs = vec!["a".into()];
    draft.reprovision_policy = Some(policy);
    let key = primary_key(&test.put(&draft).await.unwrap());
    test.register("dev-1", &key).await.unwrap();
    draft.iot_hubs = vec![to.into()];
    test.put_again(&with_twin(draft, 2)).await;
    key
}

const MIGRATE: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: true };
const RESET: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: true, migrate_device_data: false };
const NEVER: ReprovisionPolicy =
    ReprovisionPolicy { update_hub_assignment: false, migrate_device_data: false };

#[tokio::test]
async fn a_device_that_moves_takes_what_it_reported_and_what_it_can_do() {
    let test = TestService::with_hubs(&["a", "b"]).await;
    let key = on_its_way(&test, "b", MIGRATE).await;
    let (caller, id) = (Caller::system(), base::ids::IdentityId::device("dev-1".parse().unwrap()));
    let old = test.hubs.find("a").unwrap();
    let mut spec = hub::device::DeviceSpec::new("dev-1".parse().unwrap());
    spec.iot_edge = true;
    old.put_device(&caller, &spec, &IfMatch::Any).await.unwrap();
    let itself = Caller::identity(old.scope().clone(), id.clone());
    old.patch_reported(&itself, &id, br#"{"firmware": {"version": 7}}"#, None).await.unwrap();
    let moved = test.register("dev-1", &key).await.unwrap();
    assert_eq!(substatus(&moved), Substatus::DeviceDataMigrated);
    let twin = test.hubs.find("b").unwrap().get_twin(&caller, &id).await.unwrap().twin;
    assert_eq!(twin.properties.reported.values["firmware"], json!({"version": 7}));
    assert_eq!(twin.tags["ring"], 1);
    assert!(device(&test, "b", "dev-1").await.unwrap().iot_edge);
}

#[tokio::test]
async fn a_device_that_moves_to_a_hub_where_it_was_before_takes_its_data_along() {
    for (policy, ring) in [(MIGRATE, 1), (RESET, 2)] {
        let test = TestService::with_hubs(&["a", "b"]).await;
        let key = on_its_way(&test, "b", policy).await;
        let spec = hub::device::DeviceSpec::new("dev-1".parse().unwrap());
        let there = test.hubs.find("b").unwrap();
        there.put_device(&Caller::system(), &spec, &IfMatch::Absent).await.unwrap();
        test.register("dev-1", &key).await.unwrap();
        assert_eq!(twin(&test, "b", "dev-1").await["tags"]["ring"], json!(ring));
        assert!(device(&test, "a", "dev-1").await.is_none());
    }
}

#[tokio::test]
async fn a_move_that_was_cut_off_before_its_end_still_counts_as_one_with_data() {
    let test = TestService::with_hubs(&["a", "b"]).await;
    let key = on_its_way(&test, "b", MIGRATE).await;
    let before = test.service.get_registration(&test.owner(), &registration_id("dev-1")).await.unwrap();
    test.register("dev-1", &key).await.unwrap();
    // As it stood when the device was in its new hub, gone from the old one, and nothing of it written down.
    let stored = test.service.registration(&registration_id("dev-1")).await.unwrap().unwrap();
    let keys = ProvedKeys { primary_key: key.clone(), secondary_key: key };
    let cut_off = Registration { state: RegistrationState::Assigning(keys), ..before };
    let mut batch = Batch::default();
    batch.replace(&stored, &cut_off);
    test.service.store().commit(batch).await.unwrap();
    test.services.load().await.unwrap();
    let finished = test.service.get_registration(&test.owner(), &registration_id("dev-1")).await.unwrap();
    assert_eq!(substatus(&finished), Substatus::DeviceDataMigrated);
    assert_eq!(twin(&test, "b", "dev-1").await["tags"]["ring"], json!(1));
}

#[tokio::test]
async fn a_device_whose_old_hub_is_out_of_reach_starts_anew() {
    type Loss = fn(&mut crate::ServiceSettings);
    let unlinked: Loss = |settings| drop(settings.linked_hubs.remove(0));
    let locked_out: Loss = |settings| {
        settings.linked_hubs[0].connection_string = base::Secret::new("HostName=a;SharedAccessKey=AAAA");
    };
    for lose in [unlinked, locked_out] {
        let test = TestService::with_hubs(&["a", "b"]).await;
        let key = on_its_way(&test, "b", MIGRATE).await;
        let mut settings = (*test.service.settings()).clone();
        lose(&mut settings);
        test.services.ensure(settings).await.unwrap();
        let moved = test.register("dev-1", &key).await.unwrap();
        assert_eq!(substatus(&moved), Substatus::DeviceDataReset);
        assert_eq!(twin(&test, "b", "dev-1").await["tags"]["ring"], json!(2));
        assert!(device(&test, "a", "dev-1").await.is_some(), "a hub that is not ours is left alone");
    }
    let test = TestService::with_hubs(&["a", "b"]).await;
    let key = on_its_way(&test, "b", NEVER).await;
    test.hubs.remove(&base::InstanceId::from_stored("a")).await.unwrap();
    let moved = test.register("dev-1", &key).await.unwrap();
    assert_eq!(substatus(&moved), Substatus::DeviceDataReset, "where it was is no more");
    assert_eq!(moved.assignment.unwrap().hub_name, "b");
}

#[tokio::test]
async fn each_policy_says_what_becomes_of_a_device_that_stays_on_its_hub() {
    for (policy, ring) in [(MIGRATE, 1), (NEVER, 1), (RESET, 2)] {
        let test = TestService::with_hubs(&["a"]).await;
        let key = on_its_way(&test, "a", policy).await;
        let again = test.register("dev-1", &key).await.unwrap();
        assert_eq!(substatus(&again), Substatus::ReprovisionedToInitialAssignment);
        assert_eq!(twin(&test, "a", "dev-1").await["tags"]["ring"], json!(ring), "{policy:?}");
    }
}

#[tokio::test]
async fn a_hub_that_was_linked_by_an_address_is_found_when_that_leads_elsewhere() {
    let test = TestService::with_hubs(&["a", "b"]).await;
    let mut settings = (*test.service.settings()).clone();
    settings.linked_hubs[1].host_name = "127.0.7.7".into();
    test.services.ensure(settings).await.unwrap();
    for (id, host) in [("dev-1", "127.0.7.7"), ("dev-2", "b"), ("dev-3", "b.azure-devices.example.test")] {
        let mut draft = individual(id);
        draft.iot_hubs = vec![host.into()];
        let key = primary_key(&test.put(&draft).await.unwrap());
        assert_eq!(test.register(id, &key).await.unwrap().assignment.unwrap().hub_name, "b", "{host}");
    }
}

#[tokio::test]
async fn never_means_never_and_a_device_id_stays_until_its_registration_goes() {
    let test = TestService::with_hubs(&["a", "b"]).await;
    let key = on_its_way(&test, "b", NEVER).await;
    let mut draft = individual("dev-1");
    draft.reprovision_policy = Some(NEVER);
    draft.device_id = Some("Pump-7".parse().unwrap());
    draft.iot_hubs = vec!["b".into()];
    test.put_again(&draft).await;
    let stays = test.register("dev-1", &key).await.unwrap().assignment.unwrap();
    assert_eq!((stays.hub_name.as_str(), stays.device_id.as_str()), ("a", "dev-1"));
    test.service.delete_registration(&test.owner(), &registration_id("dev-1"), &IfMatch::Any).await.unwrap();
    let anew = test.register("dev-1", &key).await.unwrap().assignment.unwrap();
    assert_eq!((anew.hub_name.as_str(), anew.device_id.as_str()), ("b", "Pump-7"));
}

#[tokio::test]
async fn a_device_is_called_as_its_enrollment_says_however_it_writes_itself() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = primary_key(&test.put(&individual("Dev-1")).await.unwrap());
    let registered = test.register("dEV-1", &key).await.unwrap();
    assert_eq!(registered.assignment.unwrap().device_id.as_str(), "Dev-1");
    // A group does not know its devices: there the device's own spelling counts, and both keys that it may have made of it.
    let group_key = Key::generate(64);
    test.put(&group("group", &group_key)).await.unwrap();
    for key in [group_key.derive("Dev-2"), group_key.derive("dev-2")] {
        let registered = test.register("Dev-2", &key).await.unwrap();
        assert_eq!(registered.assignment.unwrap().device_id.as_str(), "Dev-2");
    }
    assert_eq!(test.register("Dev-2", &group_key.derive("DEV-2")).await, Err(Error::Unauthorized));
}

#[tokio::test]
async fn a_hub_that_no_longer_takes_the_links_key_refuses_and_says_so() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = primary_key(&test.put(&individual("dev-1")).await.unwrap());
    let hub = test.hubs.find("hub").unwrap();
    let before = (*hub.settings()).clone();
    let changes: [fn(&mut hub::HubSettings); 3] = [
        |settings| settings.policies = hub::HubSettings::default_policies(),
        |settings| settings.policies[0].rights = vec![access::Right::RegistryRead],
        |settings| settings.disable_local_auth = true,
    ];
    for change in changes {
        let mut changed = before.clone();
        change(&mut changed);
        test.hubs.ensure(changed).await.unwrap();
        let failed = test.register("dev-1", &key).await.unwrap();
        let RegistrationState::Failed { reason } = &failed.state else { panic!("{failed:?}") };
        assert_eq!(reason.code(), 400_209);
        assert_eq!(reason.message(), r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized"}"#);
        assert!(device(&test, "hub", "dev-1").await.is_none());
    }
    test.hubs.ensure(before).await.unwrap();
    assert_eq!(substatus(&test.register("dev-1", &key).await.unwrap()), Substatus::InitialAssignment);
}

#[tokio::test]
async fn an_initial_twin_that_no_hub_takes_is_refused_or_fails_the_registration_and_makes_nothing() {
    let test = TestService::with_hubs(&["hub"]).await;
    let text = |bytes: usize| vec!["x".repeat(4096 - 64); bytes / 4096];
    for (fits, initial_twin) in [
        (true, json!({"tags": {"a": text(4096)}, "properties": {"desired": {"b": text(28 * 1024)}}})),
        (true, json!({"tags": null, "properties": {"desired": null}})),
        (true, json!({"tags": {"count": null, "deep": {"nothing": null}}})),
        (false, json!({"tags": {"a": text(12 * 1024)}})),
        (false, json!({"properties": {"desired": {"b": text(36 * 1024)}}})),
        (false, json!({"tags": {"$a": 1}})),
        (false, json!({"tags": {"a": base::caps::TWIN_INTEGER_MAX + 1}})),
        (false, json!({"tags": {"a": [null]}})),
    ] {
        test.clock.advance(Duration::from_secs(caps::REGISTRATION_POLLS_SECONDS));
        let mut draft = individual("dev-1");
        draft.initial_twin = Some(initial_twin.clone());
        let put = test.put(&draft).await;
        let key = if fits {
            primary_key(&put.unwrap())
        } else {
            assert!(matches!(put, Err(Error::BadRequest(_))), "{initial_twin}: {put:?}");
            // Earlier versions stored it; what it names can be changed all the same.
            let made = test.put(&individual("dev-1")).await.unwrap();
            let stored = test.service.enrollment(made.kind, &made.id).await.unwrap().unwrap();
            let mut batch = Batch::default();
            batch.replace(&stored, &Enrollment { initial_twin: draft.initial_twin.clone(), ..made });
            test.service.store().commit(batch).await.unwrap();
            draft.optional_device_information = Some(json!({"edited": true}));
            primary_key(&test.put_again(&draft).await)
        };
        let registered = test.register("dev-1", &key).await.unwrap();
        match &registered.state {
            RegistrationState::Assigned { .. } if fits => {}
            RegistrationState::Failed { reason } if !fits => assert_eq!(reason.code(), 400_209),
            other => panic!("{initial_twin}: {other:?}"),
        }
        let (owner, id) = (test.owner(), registration_id("dev-1"));
        assert_eq!(device(&test, "hub", "dev-1").await.is_some(), fits);
        test.service.delete_enrollment(&owner, EnrollmentKind::Individual, &id, &IfMatch::Any).await.unwrap();
        let hub = test.hubs.find("hub").unwrap();
        hub.remove_device_if_present(&Caller::system(), &"dev-1".parse().unwrap()).await.unwrap();
    }
}

/// Registers one device by several tasks that begin together, each on whatever thread is free.
async fn register_together(test: &TestService, device: &Attested) -> Vec<String> {
    const TASKS: usize = 4;
    let (mut tasks, start) = (tokio::task::JoinSet::new(), Arc::new(tokio::sync::Barrier::new(TASKS)));
    for _ in 0..TASKS {
        let (service, device, start) = (test.service.clone(), device.clone(), start.clone());
        tasks.spawn(async move {
            start.wait().await;
            service.register(&device, &TODAY.parse().unwrap(), &NOTHING).await.unwrap().operation_id
        });
    }
    let all = tokio::time::timeout(Duration::from_secs(30), tasks.join_all());
    all.await.expect("every task comes to its end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_registers_under_one_id_at_the_same_time_polls_its_own_operation() {
    const ROUNDS: usize = 30;
    let test = TestService::with_hubs(&["hub"]).await;
    for round in 0..ROUNDS {
        let id = format!("dev-{round}");
        let key = primary_key(&test.put(&individual(&id)).await.unwrap());
        let token = test.token(&id, &key);
        let attested = test.service.authenticate(&registration_id(&id), Some(&token)).await.unwrap();
        for operation in register_together(&test, &attested).await {
            let told = test.service.operation_status(&attested, &operation).await.unwrap();
            assert!(matches!(told.registration.state, RegistrationState::Assigned { .. }));
            assert_eq!(told.operation_id, operation);
        }
    }
    let counter = test.service.registration_count();
    assert_eq!(test.service.store().counter(&counter).await, Ok(ROUNDS.try_into().unwrap()));
}

#[tokio::test]
async fn a_device_that_polls_too_often_has_to_wait_and_others_do_not() {
    let test = TestService::with_hubs(&["hub"]).await;
    let mut devices = Vec::new();
    for id in ["dev-1", "dev-2"] {
        let key = primary_key(&test.put(&individual(id)).await.unwrap());
        let attested =
            test.service.authenticate(&registration_id(id), Some(&test.token(id, &key))).await.unwrap();
        let begun = test.service.register(&attested, &TODAY.parse().unwrap(), &NOTHING).await.unwrap();
        devices.push((attested, begun.operation_id));
    }
    let poll = async |(device, operation): &(Attested, String)| {
        test.service.operation_status(device, operation).await.map(drop)
    };
    for _ in 0..caps::REGISTRATION_POLLS_MAX {
        assert_eq!(poll(&devices[0]).await, Ok(()));
    }
    let retry_after = Duration::from_secs(caps::REGISTRATION_POLLS_SECONDS);
    assert_eq!(poll(&devices[0]).await, Err(Error::Throttled { retry_after }));
    assert_eq!(poll(&devices[1]).await, Ok(()));
    test.clock.advance(retry_after);
    assert_eq!(poll(&devices[0]).await, Ok(()));
}

#[tokio::test]
async fn a_registration_remembers_its_last_operations_and_forgets_older_ones() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = primary_key(&test.put(&individual("dev-1")).await.unwrap());
    let token = test.token("dev-1", &key);
    let attested = test.service.authenticate(&registration_id("dev-1"), Some(&token)).await.unwrap();
    let version = TODAY.parse().unwrap();
    let register = || test.service.register(&attested, &version, &NOTHING);
    let poll = async |id: &str| {
        test.clock.advance(Duration::from_secs(caps::REGISTRATION_POLLS_SECONDS));
        test.service.operation_status(&attested, id).await
    };
    let mut operations = Vec::new();
    while operations.len() < caps::REGISTRATION_OPERATIONS_MAX + 2 {
        operations.push(register().await.unwrap().operation_id);
    }
    let mut known = 0;
    for id in &operations {
        known += usize::from(poll(id).await.is_ok());
    }
    assert_eq!(known, caps::REGISTRATION_OPERATIONS_MAX + 1, "the last one and so many before it");
    assert_eq!(poll("5.0.0").await, Err(Error::OperationNotFound));
}

#[tokio::test]
async fn an_enrollment_that_is_disabled_or_deleted_on_the_way_stops_its_device() {
    let test = TestService::with_hubs(&["hub"]).await;
    let mut draft = individual("dev-1");
    let key = primary_key(&test.put(&draft).await.unwrap());
    let (id, token) = (registration_id("dev-1"), test.token("dev-1", &key));
    let attested = test.service.authenticate(&id, Some(&token)).await.unwrap();
    let begun = begin(&test.service, &attested, None, false);
    let mut batch = Batch::default();
    batch.insert(&begun);
    test.service.store().commit(batch).await.unwrap();
    draft.is_enabled = false;
    test.put_again(&draft).await;
    test.services.load().await.unwrap();
    let told = test.service.operation_status(&attested, &begun.operation_id).await.unwrap();
    assert_eq!(told.registration.state, RegistrationState::Disabled);

    test.service
        .delete_enrollment(&test.owner(), EnrollmentKind::Individual, &id, &IfMatch::Any)
        .await
        .unwrap();
    let late = test.service.register(&attested, &TODAY.parse().unwrap(), &NOTHING).await;
    assert_eq!(late, Err(Error::Unauthorized));
    assert_eq!(test.service.get_registration(&test.owner(), &id).await, Err(Error::RegistrationNotFound));
    assert!(device(&test, "hub", "dev-1").await.is_none());
}

#[tokio::test]
async fn an_enrollment_takes_its_own_registration_along_and_not_its_groups() {
    let test = TestService::with_hubs(&["hub"]).await;
    let (group_key, id) = (Key::generate(64), registration_id("dev-1"));
    test.put(&group("group", &group_key)).await.unwrap();
    let of_group = test.register("dev-1", &group_key.derive("dev-1")).await.unwrap();
    let delete = || async {
        let kind = EnrollmentKind::Individual;
        test.service.delete_enrollment(&test.owner(), kind, &id, &IfMatch::Any).await.unwrap();
    };
    test.put(&individual("dev-1")).await.unwrap();
    delete().await;
    assert_eq!(test.service.get_registration(&test.owner(), &id).await, Ok(of_group));
    let key = primary_key(&test.put(&individual("dev-1")).await.unwrap());
    let of_its_own = test.register("dev-1", &key).await.unwrap();
    assert_eq!(of_its_own.enrollment_kind, EnrollmentKind::Individual);
    assert_eq!(substatus(&of_its_own), Substatus::ReprovisionedToInitialAssignment);
    delete().await;
    assert_eq!(test.service.get_registration(&test.owner(), &id).await, Err(Error::RegistrationNotFound));
}

#[tokio::test]
async fn a_service_holds_a_million_registrations_and_no_more() {
    let test = TestService::with_hubs(&["hub"]).await;
    let key = Key::generate(64);
    test.put(&group("group", &key)).await.unwrap();
    let mut batch = Batch::default();
    batch.add(test.service.registration_count(), caps::REGISTRATIONS_MAX - 1, caps::REGISTRATIONS_MAX);
    test.service.store().commit(batch).await.unwrap();
    assert!(test.register("dev-1", &key.derive("dev-1")).await.is_ok());
    assert_eq!(test.register("dev-2", &key.derive("dev-2")).await, Err(Error::QuotaExceeded));
    assert!(device(&test, "hub", "dev-2").await.is_none());
    assert!(test.register("dev-1", &key.derive("dev-1")).await.is_ok(), "who is known may come again");
    let id = registration_id("dev-1");
    test.service.delete_registration(&test.owner(), &id, &IfMatch::Absent).await.unwrap();
    assert!(test.register("dev-2", &key.derive("dev-2")).await.is_ok());
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
    assert!(old_client.assignment.unwrap().hub_name == "a");
    let new_client = test.register_as("dev-1", &key, TODAY).await.unwrap();
    assert!(new_client.assignment.unwrap().hub_name == "b");
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

/// A registration of a device of a group that a stop cut off before its hub heard of it.
async fn cut_off(test: &TestService, id: &str, key: &Key) -> Registration {
    let token = test.token(id, key);
    let device = test.service.authenticate(&registration_id(id), Some(&token)).await.unwrap();
    let old = test.service.registration(&registration_id(id)).await.unwrap();
    let begun = begin(&test.service, &device, old.as_ref().map(|old| &old.record), false);
    let mut batch = Batch::default();
    batch.put(&begun);
    test.service.store().commit(batch).await.unwrap();
    begun
}

async fn primary_key_in_hub(test: &TestService, id: &str) -> Key {
    match device(test, "hub", id).await.unwrap().authentication {
        Authentication::Sas { primary_key, .. } => primary_key,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_stop_cut_off_is_finished_with_the_keys_that_were_proved_however_the_id_was_spelled() {
    let test = TestService::with_hubs(&["hub"]).await;
    let group_key = Key::generate(64);
    test.put(&group("group", &group_key)).await.unwrap();
    // The record keeps the first spelling; the keys must be those of the last.
    for (spelled, first) in [("Dev-1", None), ("dev-2", Some("DEV-2")), ("DEV-3", Some("dev-3"))] {
        if let Some(first) = first {
            test.register(first, &group_key.derive(first)).await.unwrap();
        }
        let proved = group_key.derive(spelled);
        cut_off(&test, spelled, &proved).await;
        test.services.load().await.unwrap();
        let in_hub = first.unwrap_or(spelled);
        assert_eq!(primary_key_in_hub(&test, in_hub).await, proved, "{spelled} after a start");
    }
    // A device that polls with another spelling than it began with.
    let (began, polls) = (group_key.derive("DEV-4"), group_key.derive("dev-4"));
    let begun = cut_off(&test, "DEV-4", &began).await;
    let token = test.token("dev-4", &polls);
    let device = test.service.authenticate(&registration_id("dev-4"), Some(&token)).await.unwrap();
    test.service.operation_status(&device, &begun.operation_id).await.unwrap();
    assert_eq!(primary_key_in_hub(&test, "DEV-4").await, began, "after a poll");
    // A group whose keys change before the start.
    let proved = group_key.derive("dev-5");
    cut_off(&test, "dev-5", &proved).await;
    test.put_again(&group("group", &Key::generate(64))).await;
    test.services.load().await.unwrap();
    assert_eq!(primary_key_in_hub(&test, "dev-5").await, proved, "after the group's keys changed");
    let stored = test.service.registration(&registration_id("dev-5")).await.unwrap().unwrap().record;
    assert!(!serde_json::to_string(&stored).unwrap().contains(proved.text()), "kept no longer than needed");
}

#[tokio::test]
async fn a_registration_whose_group_is_deleted_on_the_way_fails_at_the_next_start() {
    let test = TestService::with_hubs(&["hub"]).await;
    let group_key = Key::generate(64);
    test.put(&group("group", &group_key)).await.unwrap();
    cut_off(&test, "dev-1", &group_key.derive("dev-1")).await;
    let (kind, id) = (EnrollmentKind::Group, registration_id("group"));
    test.service.delete_enrollment(&test.owner(), kind, &id, &IfMatch::Any).await.unwrap();
    test.services.load().await.unwrap();
    let told = test.service.get_registration(&test.owner(), &registration_id("dev-1")).await.unwrap();
    let RegistrationState::Failed { reason } = &told.state else { panic!("{told:?}") };
    assert_eq!(reason.code(), 404_202);
    assert!(device(&test, "hub", "dev-1").await.is_none());
    // The device itself is let in by nothing any more.
    assert_eq!(test.register("dev-1", &group_key.derive("dev-1")).await, Err(Error::Unauthorized));
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

#[tokio::test]
async fn no_registration_outlives_an_enrollment_that_is_deleted_at_the_same_moment() {
    let test = TestService::with_hubs(&["hub"]).await;
    let (owner, version) = (test.owner(), TODAY.parse().unwrap());
    // Who of the two is first in the store is chance, so both are tried often.
    for round in 0..100 {
        let (text, id) = (format!("dev-{round}"), registration_id(&format!("dev-{round}")));
        let key = primary_key(&test.put(&individual(&text)).await.unwrap());
        let device = test.service.authenticate(&id, Some(&test.token(&text, &key))).await.unwrap();
        let delete = test.service.delete_enrollment(&owner, EnrollmentKind::Individual, &id, &IfMatch::Any);
        let register = test.service.register(&device, &version, &NOTHING);
        if round % 2 == 0 {
            tokio::join!(delete, register).0.unwrap();
        } else {
            tokio::join!(register, delete).1.unwrap();
        }
        assert!(test.service.registration(&id).await.unwrap().is_none(), "round {round}");
    }
}

#[tokio::test]
async fn what_a_device_says_to_be_is_in_its_twin_wherever_it_is_assigned() {
    let test = TestService::with_hubs(&["a"]).await;
    let key = primary_key(&test.put(&with_twin(individual("dev-1"), 1)).await.unwrap());
    let device =
        test.service.authenticate(&registration_id("dev-1"), Some(&test.token("dev-1", &key))).await.unwrap();
    let says = async |model_id: Option<&str>| {
        let request = RegistrationRequest { model_id: model_id.map(str::to_owned) };
        test.service.register(&device, &TODAY.parse().unwrap(), &request).await.unwrap();
        let id = base::ids::IdentityId::device("dev-1".parse().unwrap());
        let twin = test.hubs.find("a").unwrap().get_twin(&Caller::system(), &id).await.unwrap();
        twin.document()["modelId"].clone()
    };
    assert_eq!(says(Some("dtmi:com:example:T;1")).await, "dtmi:com:example:T;1");
    assert_eq!(says(None).await, "dtmi:com:example:T;1", "who says nothing stays what he was");
    assert_eq!(says(Some("dtmi:com:example:T;2")).await, "dtmi:com:example:T;2");
}
