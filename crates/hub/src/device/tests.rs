//! The registry: conditional writes, keys, scopes, modules, lists, counts, and what goes with a device.

use std::time::Duration;

use access::{Caller, Right};
use base::{IfMatch, Key, caps};
use proptest::prelude::*;

use super::rules::{self, Subject};
use super::*;
use crate::testing::{TestHub, module_spec, next_command, system};

fn spec(device_id: &str) -> DeviceSpec {
    DeviceSpec::new(device_id.parse().unwrap())
}

fn tag(text: &str) -> IfMatch {
    IfMatch::Tag(text.to_owned())
}

fn with_keys(primary: Option<&str>, secondary: Option<&str>) -> AuthenticationSpec {
    AuthenticationSpec {
        primary_key: primary.map(Into::into),
        secondary_key: secondary.map(Into::into),
        ..Default::default()
    }
}

fn with_thumbprints(primary: Option<&str>, secondary: Option<&str>) -> AuthenticationSpec {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    AuthenticationSpec {
        primary_thumbprint: owned(primary),
        secondary_thumbprint: owned(secondary),
        ..Default::default()
    }
}

fn of_kind(kind: AuthenticationKind) -> AuthenticationSpec {
    AuthenticationSpec { kind: Some(kind), ..Default::default() }
}

#[tokio::test]
async fn without_if_match_a_put_creates_and_with_one_it_replaces() {
    let hub = TestHub::new().await;
    let missing = hub.put_device(&system(), &spec("dev1"), &IfMatch::Any).await.unwrap_err();
    assert_eq!(missing.code(), 404_001);
    let missing = hub.put_device(&system(), &spec("dev1"), &tag("x")).await.unwrap_err();
    assert_eq!(missing.code(), 404_001);

    let created = hub.put_device(&system(), &spec("dev1"), &IfMatch::Absent).await.unwrap().identity;
    let duplicate = hub.put_device(&system(), &spec("dev1"), &IfMatch::Absent).await.unwrap_err();
    assert_eq!((duplicate.code(), duplicate.name()), (409_001, "DeviceAlreadyExists"));
    assert_eq!(duplicate.to_string(), "A device with ID 'dev1' is already registered.");
    let stale = hub.put_device(&system(), &spec("dev1"), &tag("bm90IHRoaXM=")).await.unwrap_err();
    assert_eq!((stale.code(), stale.name()), (412_001, "PreconditionFailed"));
    assert_eq!(hub.stored("dev1").await, created, "none of the refusals changed anything");

    let replaced =
        hub.put_device(&system(), &spec("dev1"), &tag(&created.etag_text())).await.unwrap().identity;
    assert_eq!(replaced.etag, created.etag + 1);
    assert_eq!(replaced.generation_id, created.generation_id);
    assert_ne!(replaced.authentication, created.authentication, "left-out keys are made anew");
    hub.put_device(&system(), &spec("dev1"), &IfMatch::Any).await.unwrap();
}

#[tokio::test]
async fn modules_follow_the_same_table() {
    let hub = TestHub::with_device("dev1").await;
    let module = module_spec("dev1/mod1");
    let put = async |if_match: IfMatch| hub.put_module(&system(), &module, &if_match).await;
    let missing = put(IfMatch::Any).await.unwrap_err();
    assert_eq!((missing.code(), missing.name()), (404_010, "ModuleNotFound"));
    let created = put(IfMatch::Absent).await.unwrap().identity;
    let duplicate = put(IfMatch::Absent).await.unwrap_err();
    assert_eq!((duplicate.code(), duplicate.name()), (409_301, "ModuleAlreadyExistsOnDevice"));
    assert_eq!(duplicate.to_string(), "Device dev1 in IotHub hub already contains Module mod1.");
    assert_eq!(put(tag("eA==")).await.unwrap_err().code(), 412_001);
    assert_eq!(put(tag(&created.etag_text())).await.unwrap().identity.etag, created.etag + 1);
    let orphan = hub.put_module(&system(), &module_spec("dev2/mod1"), &IfMatch::Absent).await.unwrap_err();
    assert_eq!(orphan.code(), 404_001);
    let system_module =
        hub.put_module(&system(), &module_spec("dev1/$mine"), &IfMatch::Absent).await.unwrap_err();
    assert_eq!(system_module.code(), 400_004);
}

#[tokio::test]
async fn a_delete_needs_an_etag_and_the_right_one() {
    let hub = TestHub::with_module().await;
    let (device_id, module) = ("dev1".parse().unwrap(), "dev1/mod1".parse().unwrap());
    let without = hub.delete_device(&system(), &device_id, &IfMatch::Absent).await.unwrap_err();
    assert_eq!((without.code(), without.to_string().as_str()), (412_001, "Etag missing"));
    assert_eq!(hub.delete_module(&system(), &module, &IfMatch::Absent).await.unwrap_err().code(), 412_001);
    assert_eq!(hub.delete_device(&system(), &device_id, &tag("eA==")).await.unwrap_err().code(), 412_001);
    assert_eq!(hub.delete_module(&system(), &module, &tag("eA==")).await.unwrap_err().code(), 412_001);
    let etag = hub.stored("dev1/mod1").await.etag_text();
    hub.delete_module(&system(), &module, &tag(&etag)).await.unwrap();
    assert_eq!(hub.delete_module(&system(), &module, &IfMatch::Any).await.unwrap_err().code(), 404_010);
    hub.delete_device(&system(), &device_id, &IfMatch::Any).await.unwrap();
    assert_eq!(hub.delete_device(&system(), &device_id, &IfMatch::Any).await.unwrap_err().code(), 404_001);
}

#[tokio::test]
async fn a_deleted_device_takes_its_twin_and_modules_with_it() {
    let hub = TestHub::with_module().await;
    hub.patch("dev1/mod1", serde_json::json!({"tags": {"a": 1}})).await.unwrap();
    let old = hub.stored("dev1").await;
    hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    hub.clock.advance(Duration::from_secs(1));
    let new = hub.create_device("dev1").await.identity;
    assert_ne!(new.generation_id, old.generation_id);
    assert!(hub.list_modules(&system(), &"dev1".parse().unwrap()).await.unwrap().is_empty());
    assert_eq!(hub.get_twin(&system(), &"dev1/mod1".parse().unwrap()).await.unwrap_err().code(), 404_001);
    hub.create_module("dev1/mod1").await;
    assert!(hub.twin("dev1/mod1").await.twin.tags.is_empty());
}

#[tokio::test]
async fn a_hub_cannot_have_more_identities_than_azure_allows() {
    let hub = TestHub::with_device("dev1").await;
    let mut batch = Batch::default();
    batch.add(hub.identities(), caps::DEVICES_PER_HUB_MAX - 2, caps::DEVICES_PER_HUB_MAX);
    hub.context.store.commit(batch).await.unwrap();
    hub.create_device("dev2").await;
    let refusal = hub.put_device(&system(), &spec("dev3"), &IfMatch::Absent).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.name()), (403_002, "IotHubQuotaExceeded"));
    let refusal = hub.put_module(&system(), &module_spec("dev1/m"), &IfMatch::Absent).await.unwrap_err();
    assert_eq!(refusal.code(), 403_002);
    assert_eq!(hub.list_devices(&system(), None).await.unwrap().len(), 2);
    assert_eq!(hub.list_modules(&system(), &"dev1".parse().unwrap()).await.unwrap(), []);
    hub.delete_device(&system(), &"dev2".parse().unwrap(), &IfMatch::Any).await.unwrap();
    hub.create_module("dev1/m").await;
}

#[tokio::test]
async fn a_device_cannot_have_more_modules_than_azure_allows() {
    let hub = TestHub::with_device("dev1").await;
    for n in 0..caps::MODULES_PER_DEVICE_MAX {
        hub.create_module(&format!("dev1/m{n}")).await;
    }
    let refusal = hub.put_module(&system(), &module_spec("dev1/more"), &IfMatch::Absent).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.name()), (413_003, "TooManyModulesOnDevice"));
    hub.delete_module(&system(), &"dev1/m0".parse().unwrap(), &IfMatch::Any).await.unwrap();
    hub.create_module("dev1/more").await;
    let listed = hub.list_modules(&system(), &"dev1".parse().unwrap()).await.unwrap();
    assert_eq!(i64::try_from(listed.len()), Ok(caps::MODULES_PER_DEVICE_MAX));
    hub.delete_device(&system(), &"dev1".parse().unwrap(), &IfMatch::Any).await.unwrap();
    hub.create_device("dev1").await;
    hub.create_module("dev1/again").await;
}

#[test]
fn keys_come_in_pairs_and_are_echoed_byte_for_byte() {
    let (sixteen, sixty_four) = (Key::generate(16), Key::generate(64));
    let given = with_keys(Some(sixteen.text()), Some(sixty_four.text()));
    let expected = Authentication::Sas { primary_key: sixteen.clone(), secondary_key: sixty_four.clone() };
    assert_eq!(rules::authentication(&given, Subject::Device), Ok(expected));
    let refused = [
        (with_keys(Some(sixteen.text()), None), "Either no keys or both keys can be set"),
        (with_keys(None, Some(sixteen.text())), "Either no keys or both keys can be set"),
        (with_keys(Some("AAAA"), Some(sixteen.text())), "Invalid device key length"),
        (with_keys(Some(sixteen.text()), Some(Key::generate(65).text())), "Invalid device key length"),
        (with_keys(Some("not base64!"), Some(sixteen.text())), "Invalid device key: it is not base64"),
    ];
    for (spec, text) in refused {
        let refusal = rules::authentication(&spec, Subject::Device).unwrap_err();
        assert_eq!((refusal.code(), refusal.to_string().as_str()), (400_004, text));
    }
    let Ok(Authentication::Sas { primary_key, secondary_key }) =
        rules::authentication(&AuthenticationSpec::default(), Subject::Device)
    else {
        panic!("keys are made where none are given")
    };
    assert_ne!(primary_key, secondary_key);
    assert_eq!((primary_key.bytes().len(), secondary_key.bytes().len()), (32, 32));
}

#[test]
fn thumbprints_are_sha_1_or_sha_256_in_hex() {
    let (sha1, sha256) = ("aB".repeat(20), "0f".repeat(32));
    let given = with_thumbprints(Some(&sha1), Some(&sha256));
    let expected = Authentication::SelfSigned {
        primary_thumbprint: Some(sha1.clone()),
        secondary_thumbprint: Some(sha256),
    };
    assert_eq!(
        rules::authentication(&given, Subject::Device),
        Ok(expected),
        "a thumbprint implies selfSigned"
    );
    for bad in ["ab".repeat(19), "ab:".repeat(20), "zz".repeat(20), "ab".repeat(33)] {
        let refusal =
            rules::authentication(&with_thumbprints(Some(&bad), None), Subject::Device).unwrap_err();
        assert_eq!(refusal.code(), 400_004, "{bad}");
        assert!(refusal.to_string().contains("StringIsNotThumbprint"));
    }
    let without = Authentication::SelfSigned { primary_thumbprint: None, secondary_thumbprint: None };
    assert_eq!(rules::authentication(&of_kind(AuthenticationKind::SelfSigned), Subject::Device), Ok(without));
}

#[test]
fn only_the_system_modules_go_without_authentication() {
    let none = of_kind(AuthenticationKind::None);
    let refusal = rules::authentication(&none, Subject::Device).unwrap_err();
    assert!(refusal.to_string().contains("DeviceAuthenticationTypeIsMissing"));
    assert!(matches!(rules::authentication(&none, Subject::Module), Ok(Authentication::Sas { .. })));
    assert_eq!(rules::authentication(&none, Subject::SystemModule), Ok(Authentication::None));
}

#[tokio::test]
async fn a_status_reason_may_have_128_characters() {
    let hub = TestHub::new().await;
    let with_reason = |length: usize| DeviceSpec { status_reason: Some("ä".repeat(length)), ..spec("dev1") };
    let long = hub.put_device(&system(), &with_reason(129), &IfMatch::Absent).await.unwrap_err();
    assert_eq!(long.code(), 400_004);
    hub.put_device(&system(), &with_reason(128), &IfMatch::Absent).await.unwrap();
    let cleared = hub.put_device(&system(), &spec("dev1"), &IfMatch::Any).await.unwrap();
    assert_eq!(cleared.identity.status_reason, None);
}

#[tokio::test]
async fn an_iot_edge_device_gets_a_scope_and_its_two_modules() {
    let hub = TestHub::new().await;
    let edge = DeviceSpec { iot_edge: true, ..spec("edge-1") };
    let device = hub.put_device(&system(), &edge, &IfMatch::Absent).await.unwrap().identity;
    let scope = format!("ms-azure-iot-edge://edge-1-{}", device.generation_id);
    assert_eq!(device.device_scope.as_deref(), Some(scope.as_str()));
    let modules = hub.list_modules(&system(), &"edge-1".parse().unwrap()).await.unwrap();
    let ids: Vec<_> = modules.iter().map(|module| module.identity.id.module_key()).collect();
    assert_eq!(ids, ["$edgeAgent", "$edgeHub"]);
    assert!(modules.iter().all(|module| module.identity.authentication == Authentication::None
        && module.identity.managed_by.as_deref() == Some("iotEdge")));

    let mut leaf = spec("leaf");
    leaf.scopes.device_scope = Some(scope.clone());
    let leaf = hub.put_device(&system(), &leaf, &IfMatch::Absent).await.unwrap().identity;
    assert_eq!(
        (leaf.device_scope.as_deref(), leaf.parent_scopes),
        (Some(scope.as_str()), vec![scope.clone()])
    );

    let mut child = DeviceSpec { iot_edge: true, ..spec("edge-2") };
    child.scopes.parent_scopes = vec![scope.clone()];
    let child = hub.put_device(&system(), &child, &IfMatch::Absent).await.unwrap().identity;
    assert_eq!(child.parent_scopes, vec![scope.clone()]);

    let mut stray = spec("stray");
    stray.scopes.device_scope = Some("ms-azure-iot-edge://nobody-1".into());
    let refusal = hub.put_device(&system(), &stray, &IfMatch::Absent).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.name()), (400_028, "InvalidDeviceScope"));
    stray.scopes = ScopeSpec { parent_scopes: vec![scope.clone()], ..ScopeSpec::default() };
    let stray = hub.put_device(&system(), &stray, &IfMatch::Absent).await.unwrap().identity;
    assert_eq!(
        (stray.device_scope, stray.parent_scopes),
        (None, vec![]),
        "a leaf's parent is its deviceScope"
    );
}

#[tokio::test]
async fn the_scope_of_an_iot_edge_device_never_changes() {
    let hub = TestHub::new().await;
    let mut edge = DeviceSpec { iot_edge: true, ..spec("edge") };
    let device = hub.put_device(&system(), &edge, &IfMatch::Absent).await.unwrap().identity;
    for other in [None, Some(String::new()), Some("ms-azure-iot-edge://edge-2".to_owned())] {
        edge.scopes.device_scope = other;
        let refusal = hub.put_device(&system(), &edge, &IfMatch::Any).await.unwrap_err();
        assert_eq!(refusal.to_string(), "Device scope is immutable");
    }
    edge.scopes.device_scope.clone_from(&device.device_scope);
    hub.put_device(&system(), &edge, &IfMatch::Any).await.unwrap();

    edge.iot_edge = false;
    let leaf = hub.put_device(&system(), &edge, &IfMatch::Any).await.unwrap().identity;
    assert_eq!((leaf.device_scope, leaf.parent_scopes), (None, vec![]));
    assert!(hub.list_modules(&system(), &"edge".parse().unwrap()).await.unwrap().is_empty());
    edge.iot_edge = true;
    edge.scopes.device_scope = Some(String::new());
    let again = hub.put_device(&system(), &edge, &IfMatch::Any).await.unwrap().identity;
    assert_eq!(again.device_scope.as_deref(), Some("ms-azure-iot-edge://edge-"));
}

#[tokio::test]
async fn lists_are_in_the_order_of_ids_and_capped() {
    let hub = TestHub::new().await;
    for id in ["b", "a", "c", "B"] {
        hub.create_device(id).await;
    }
    hub.create_module("a/m").await;
    drop(hub.connect("c").await);
    hub.flush_activity().await;
    let ids = async |top| {
        let views = hub.list_devices(&system(), top).await.unwrap();
        views.iter().map(|view| view.identity.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(None).await, ["B", "a", "b", "c"]);
    assert_eq!(ids(Some(2)).await, ["B", "a"]);
    for out_of_range in [0, caps::DEVICE_LIST_MAX + 1] {
        assert_eq!(hub.list_devices(&system(), Some(out_of_range)).await.unwrap_err().code(), 400_004);
    }
    let views = hub.list_devices(&system(), None).await.unwrap();
    assert_ne!(views[3].connection, crate::Connection::NEVER);
    assert_eq!(views[2].connection, crate::Connection::NEVER);
}

#[tokio::test]
async fn statistics_count_devices_by_status_and_connections() {
    let hub = TestHub::with_module().await;
    hub.create_device("dev2").await;
    let disabled = DeviceSpec { status: Status::Disabled, ..spec("dev3") };
    hub.put_device(&system(), &disabled, &IfMatch::Absent).await.unwrap();
    let count = async || {
        let counts = hub.registry_statistics(&system()).await.unwrap();
        (counts.total_devices, counts.enabled_devices, counts.disabled_devices)
    };
    assert_eq!(count().await, (3, 2, 1));
    hub.put_device(&system(), &spec("dev3"), &IfMatch::Any).await.unwrap();
    assert_eq!(count().await, (3, 3, 0));
    hub.put_device(&system(), &disabled, &IfMatch::Any).await.unwrap();
    hub.delete_device(&system(), &"dev3".parse().unwrap(), &IfMatch::Any).await.unwrap();
    assert_eq!(count().await, (2, 2, 0));
    let _sessions = [hub.connect("dev1").await, hub.connect("dev1/mod1").await];
    assert_eq!(hub.service_statistics(&system()).await.unwrap().connected_devices, 1);
}

#[tokio::test]
async fn only_who_may_use_the_registry_uses_it() {
    let hub = TestHub::with_module().await;
    let (device_id, module): (base::DeviceId, base::ids::IdentityId) =
        ("dev1".parse().unwrap(), "dev1/mod1".parse().unwrap());
    let before = (hub.stored("dev1").await, hub.stored("dev1/mod1").await);
    let reader = Caller::policy(hub.scope().clone(), "registryRead", &[Right::RegistryRead]);
    let strangers = [
        Caller::policy(hub.scope().clone(), "service", &[Right::ServiceConnect]),
        Caller::policy(base::Scope::new("/other"), "iothubowner", &[Right::RegistryWrite]),
        Caller::identity(hub.scope().clone(), "dev1".parse().unwrap()),
        Caller::principal("oid", "app", true, Vec::new()),
    ];
    for caller in &strangers {
        assert_eq!(hub.get_device(caller, &device_id).await.unwrap_err().code(), 401_002);
        assert_eq!(hub.list_devices(caller, None).await.unwrap_err().code(), 401_002);
        assert_eq!(hub.get_module(caller, &module).await.unwrap_err().code(), 401_002);
        assert_eq!(hub.list_modules(caller, &device_id).await.unwrap_err().code(), 401_002);
        assert_eq!(hub.registry_statistics(caller).await.unwrap_err().code(), 401_002);
    }
    for caller in strangers.iter().chain([&reader]) {
        let any = IfMatch::Any;
        assert_eq!(hub.put_device(caller, &spec("dev1"), &any).await.unwrap_err().code(), 401_002);
        assert_eq!(hub.put_device(caller, &spec("new"), &IfMatch::Absent).await.unwrap_err().code(), 401_002);
        assert_eq!(hub.delete_device(caller, &device_id, &any).await.unwrap_err().code(), 401_002);
        assert_eq!(
            hub.put_module(caller, &module_spec("dev1/mod1"), &any).await.unwrap_err().code(),
            401_002
        );
        assert_eq!(hub.delete_module(caller, &module, &any).await.unwrap_err().code(), 401_002);
        assert_eq!(hub.ensure_device(caller, &spec("dev1")).await.unwrap_err().code(), 401_002);
    }
    assert_eq!((hub.stored("dev1").await, hub.stored("dev1/mod1").await), before);
    assert!(hub.get_device(&reader, &device_id).await.is_ok());
}

#[tokio::test]
async fn a_policy_is_told_unauthorized_where_a_modules_device_is_missing_or_disabled() {
    let hub = TestHub::with_module().await;
    let owner = Caller::policy(hub.scope().clone(), "iothubowner", &[Right::RegistryWrite]);
    let missing = hub.get_module(&owner, &"dev2/mod1".parse().unwrap()).await.unwrap_err();
    assert_eq!(missing.code(), 401_002);
    assert_eq!(hub.list_modules(&owner, &"dev2".parse().unwrap()).await.unwrap_err().code(), 401_002);
    let disabled = DeviceSpec { status: Status::Disabled, ..spec("dev1") };
    hub.put_device(&system(), &disabled, &IfMatch::Any).await.unwrap();
    assert_eq!(hub.get_module(&owner, &"dev1/mod1".parse().unwrap()).await.unwrap_err().code(), 401_002);
    assert!(hub.get_module(&system(), &"dev1/mod1".parse().unwrap()).await.is_ok(), "others are answered");
}

#[tokio::test]
async fn ensuring_a_device_is_safe_to_repeat() {
    let hub = TestHub::new().await;
    let (first, second) = (Key::generate(32), Key::generate(32));
    let mut wanted = spec("dev1");
    wanted.authentication = with_keys(Some(first.text()), Some(second.text()));
    wanted.initial_twin.tags.insert("site".into(), "a".into());
    wanted.initial_twin.desired.insert("interval".into(), 5.into());
    let made = hub.ensure_device(&system(), &wanted).await.unwrap();
    assert!(made.created);
    let twin = hub.twin("dev1").await.twin;
    assert_eq!((twin.etag.0, twin.version, twin.properties.desired.version), (1, 2, 1));
    assert_eq!(twin.properties.desired.values["interval"], 5);

    let again = hub.ensure_device(&system(), &wanted).await.unwrap();
    assert_eq!((again.created, &again.identity), (false, &made.identity));
    wanted.authentication = with_keys(Some(second.text()), Some(first.text()));
    wanted.iot_edge = true;
    let changed = hub.ensure_device(&system(), &wanted).await.unwrap();
    assert!(!changed.created && changed.identity.iot_edge);
    assert_eq!(changed.identity.etag, made.identity.etag + 1);
    wanted.authentication = AuthenticationSpec::default();
    let kept = hub.ensure_device(&system(), &wanted).await.unwrap();
    assert_eq!(kept.identity, changed.identity, "keys that are left open stay");
    let disabled = DeviceSpec { status: Status::Disabled, ..spec("dev2") };
    hub.put_device(&system(), &disabled, &IfMatch::Absent).await.unwrap();
    let mut wanted = spec("dev2");
    wanted.authentication = with_keys(Some(first.text()), Some(second.text()));
    let ensured = hub.ensure_device(&system(), &wanted).await.unwrap();
    assert_eq!(ensured.identity.status, Status::Disabled, "what an operator disabled stays disabled");
    hub.remove_device_if_present(&system(), &"dev1".parse().unwrap()).await.unwrap();
    hub.remove_device_if_present(&system(), &"dev1".parse().unwrap()).await.unwrap();
}

#[test]
fn an_etag_is_base64_of_a_number() {
    let mut identity = Identity {
        instance: base::InstanceId::from_stored("h"),
        id: "d".parse().unwrap(),
        generation_id: "1".into(),
        etag: 757_014_154,
        status: Status::Enabled,
        status_reason: None,
        status_updated_time: base::Timestamp::NEVER,
        authentication: Authentication::CertificateAuthority,
        iot_edge: false,
        device_scope: None,
        parent_scopes: vec![],
        managed_by: None,
    };
    assert_eq!(identity.etag_text(), "NzU3MDE0MTU0");
    identity.etag += 1;
    assert_eq!(identity.etag_text(), "NzU3MDE0MTU1");
}

proptest! {
    #[test]
    fn no_scope_and_no_key_makes_the_rules_panic(text in ".{0,60}", other in "(ms-azure-iot-edge://)?.{0,30}") {
        let _ = rules::device_of_scope(&other);
        let _ = rules::authentication(&with_keys(Some(&text), Some(&other)), Subject::Device);
        let _ = rules::authentication(&with_thumbprints(Some(&text), None), Subject::Module);
        let _ = AuthenticationKind::parse(&text);
    }

    #[test]
    fn a_scope_names_the_device_it_was_made_of(id in "[A-Za-z0-9._%#*?!(),=@;$':+-]{1,40}", generation in "[0-9]{0,18}") {
        let device_id: base::DeviceId = id.parse().unwrap();
        prop_assert_eq!(rules::device_of_scope(&rules::edge_scope(&device_id, &generation)), Some(device_id));
    }
}

/// The first step of a removal, under requests that have begun.
async fn end_the_record_of(hub: &TestHub) {
    let mut batch = store::Batch::default();
    batch.remove::<HubSettings>(store::Key::instance(hub.instance()));
    hub.context.store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn a_new_identity_behind_the_end_of_its_hub_leaves_nothing() {
    let hub = TestHub::with_device("dev0").await;
    let all = store::Key::instance(hub.instance());
    end_the_record_of(&hub).await;
    let made = hub.put_device(&system(), &spec("dev1"), &IfMatch::Absent).await;
    assert_eq!(made.unwrap_err().code(), 503_005);
    assert!(hub.put_module(&system(), &module_spec("dev0/mod1"), &IfMatch::Absent).await.is_err());
    assert!(hub.ensure_device(&system(), &spec("dev2")).await.is_err());
    let left = hub.context.store.count::<Identity>(&all).await.unwrap();
    assert_eq!(left, 1, "what was there waits for the sweep");
}

#[tokio::test]
async fn a_change_of_a_twin_is_told_whenever_its_caller_goes_away() {
    let hub = TestHub::new().await;
    let mut done = DoneByTheCut::default();
    for waits in 0.. {
        let id = format!("dev{waits}");
        hub.create_device(&id).await;
        let session = hub.connect(&id).await;
        session.subscribe_desired().await.unwrap();
        let etag = hub.twin(&id).await.twin.etag.to_string();
        let patch =
            || hub.patch_if(&id, serde_json::json!({"properties": {"desired": {"a": 1}}}), tag(&etag));
        if hub.is_answered_in(waits, patch()).await {
            break;
        }
        done.count(patch().await);
        assert!(matches!(next_command(&session).await, crate::Command::DesiredChanged { version: 2, .. }));
    }
    done.was_seen(&hub);
}

#[tokio::test]
async fn a_device_that_is_disabled_is_cut_whenever_the_caller_goes_away() {
    let hub = TestHub::new().await;
    let mut done = DoneByTheCut::default();
    for waits in 0.. {
        let id = format!("dev{waits}");
        let etag = hub.create_device(&id).await.identity.etag_text();
        let session = hub.connect(&id).await;
        let (caller, if_match) = (system(), tag(&etag));
        let disabled = DeviceSpec { status: Status::Disabled, ..spec(&id) };
        let put = || hub.put_device(&caller, &disabled, &if_match);
        if hub.is_answered_in(waits, put()).await {
            break;
        }
        done.count(put().await);
        assert_eq!(next_command(&session).await, crate::Command::Close(crate::CloseReason::DeviceDisabled));
    }
    done.was_seen(&hub);
}

#[tokio::test]
async fn what_is_deleted_is_cut_whenever_the_caller_goes_away() {
    let hub = TestHub::new().await;
    let (mut devices, mut modules) = (DoneByTheCut::default(), DoneByTheCut::default());
    let (caller, any) = (system(), IfMatch::Any);
    let closed = crate::Command::Close(crate::CloseReason::DeviceDeleted);
    for waits in 0.. {
        let (id, module_id) = (format!("dev{waits}"), format!("dev{waits}/mod1"));
        hub.create_device(&id).await;
        hub.create_module(&module_id).await;
        let (device, module) = (hub.connect(&id).await, hub.connect(&module_id).await);
        let (id, module_id) = (id.parse().unwrap(), module_id.parse().unwrap());
        let delete = || hub.delete_module(&caller, &module_id, &any);
        let is_answered = hub.is_answered_in(waits, delete()).await;
        if !is_answered {
            modules.count(delete().await);
        }
        assert_eq!(next_command(&module).await, closed);
        let delete = || hub.delete_device(&caller, &id, &any);
        if hub.is_answered_in(waits, delete()).await && is_answered {
            break;
        }
        devices.count(delete().await);
        assert_eq!(next_command(&device).await, closed);
    }
    devices.was_seen(&hub);
    modules.was_seen(&hub);
}

/// Of requests that were cut, those that were done all the same: the same request, made once more, finds nothing left to do.
#[derive(Default)]
struct DoneByTheCut(usize);

impl DoneByTheCut {
    fn count<T>(&mut self, once_more: Result<T, Error>) {
        if let Err(error) = once_more {
            let nothing_is_left = matches!(
                error,
                Error::PreconditionFailed(_) | Error::DeviceNotFound(_) | Error::ModuleNotFound { .. }
            );
            assert!(nothing_is_left, "{error}");
            self.0 += 1;
        }
    }

    /// The embedded engine may commit while nobody waits; then no connection can go away meanwhile.
    fn was_seen(self, hub: &TestHub) {
        assert!(
            self.0 > 0 || !hub.context.store.is_shared(),
            "no wait of the request was the one for its commit"
        );
    }
}
