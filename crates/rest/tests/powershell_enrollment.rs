//! `Set-AzIoTDeviceProvisioningServiceEnrollment` (`dps.md` §6): its published examples, then each of its parameters. The cmdlet's
//! part is played by [`Set`]: it looks the service up in Resource Manager, lists its keys, gets the enrollment, edits it as the
//! .NET SDK holds it, puts it back under its etag. What is tested is what it then finds.
#![allow(clippy::unwrap_used, reason = "a test may panic at a surprise")]

mod cloud;
mod powershell;

use std::time::Duration;

use base::{Key, sas};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cloud::{Cloud, DPS, GROUP, service_path};
use powershell::{By, ID, Set, Test, VERSION, bare, pem, remove, sequence, subject, x509};
use serde_json::{Value, json};

// The published examples.

#[tokio::test]
async fn example_1_changes_the_allocation_policy_and_the_hubs() {
    let test = Test::new().await;
    let set =
        Set { allocation_policy: Some("Hashed"), iot_hub: Some(vec!["hub1", "hub2"]), ..Set::default() };
    test.sets(set, |e| {
        e["allocationPolicy"] = json!("hashed");
        e["iotHubs"] = json!(["hub1", "hub2"]);
    })
    .await;
}

#[tokio::test]
async fn example_2_changes_the_initial_twin() {
    let test = Test::new().await;
    let set = Set {
        tag: Some(json!({"environment": "updatedenv"})),
        desired: Some(json!({"version_dps": "updateddps"})),
        ..Set::default()
    };
    let twin = json!({"tags": {"environment": "updatedenv"}, "properties": {"desired": {"version_dps": "updateddps"}}});
    test.sets(set, |e| e["initialTwin"] = twin).await;
}

#[tokio::test]
async fn example_3_changes_both_certificates() {
    let test = Test::with(x509).await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (primary, secondary) = (pem("primary"), pem("secondary"));
    // One file is text, the other the bytes themselves: both are `.cer` files in the field.
    std::fs::write(path("primaryCertificate.cer"), &primary).unwrap();
    std::fs::write(path("secondaryCertificate.cer"), STANDARD.decode(bare(&secondary)).unwrap()).unwrap();
    let set = Set {
        primary_certificate: Some(path("primaryCertificate.cer")),
        secondary_certificate: Some(path("secondaryCertificate.cer")),
        ..Set::default()
    };
    let found = set.run(&test.cloud).await.unwrap();
    assert_eq!(test.cloud.take_requests(), sequence(None));
    let pair = &found["attestation"]["x509"]["clientCertificates"];
    assert_eq!(
        (&pair["primary"]["certificate"], &pair["secondary"]["certificate"]),
        (&json!(bare(&primary)), &json!(bare(&secondary)))
    );
    assert_eq!(
        (subject(&found, "primary"), subject(&found, "secondary")),
        (json!("CN=primary"), json!("CN=secondary"))
    );
    assert_eq!(test.shown().await, found);
}

#[tokio::test]
async fn example_3_on_a_symmetric_key_enrollment_changes_nothing_of_its_attestation() {
    let test = Test::new().await;
    let set =
        Set { primary_certificate: Some(pem("a")), secondary_certificate: Some(pem("b")), ..Set::default() };
    test.sets(set, |_| {}).await;
}

// Where the service is: -ResourceGroupName and -DpsName, -DpsObject, -ResourceId.

#[tokio::test]
async fn a_service_is_found_by_group_and_name_in_any_case() {
    let test = Test::new().await;
    let by = By::Name { group: GROUP.to_owned(), dps: DPS.to_owned() };
    test.sets(Set { by: Some(by), edge_enabled: Some(true), ..Set::default() }, |e| {
        e["capabilities"]["iotEdge"] = json!(true);
    })
    .await;
    let by = By::Name { group: GROUP.to_owned(), dps: "MyDps".to_owned() };
    let set = Set { by: Some(by), edge_enabled: Some(false), ..Set::default() };
    assert_eq!(set.run(&test.cloud).await.unwrap()["capabilities"]["iotEdge"], false);
}

#[tokio::test]
async fn a_service_object_spares_the_look_up() {
    let test = Test::new().await;
    let object = test.cloud.manage("GET", &service_path(DPS), Value::Null).await;
    test.cloud.take_requests();
    let set = Set { by: Some(By::Object(object)), edge_enabled: Some(true), ..Set::default() };
    test.sets(set, |e| e["capabilities"]["iotEdge"] = json!(true)).await;
}

#[tokio::test]
async fn a_service_is_found_by_its_resource_id() {
    let test = Test::new().await;
    let shown = test.cloud.manage("GET", &service_path(DPS), Value::Null).await;
    test.cloud.take_requests();
    let by = By::ResourceId(shown["id"].as_str().unwrap().to_owned());
    let set = Set { by: Some(by), edge_enabled: Some(true), ..Set::default() };
    test.sets(set, |e| e["capabilities"]["iotEdge"] = json!(true)).await;
}

// -RegistrationId

#[tokio::test]
async fn a_registration_id_is_found_in_any_case_and_an_absent_one_is_not_found() {
    let test = Test::new().await;
    let set = Set { registration_id: Some("ENROLL1"), device_id: Some("d"), ..Set::default() };
    assert_eq!(set.run(&test.cloud).await.unwrap()["registrationId"], ID);
    let set = Set { registration_id: Some("nobody"), device_id: Some("d"), ..Set::default() };
    test.refuses(set, "404 Not Found").await;
}

// -DeviceId

#[tokio::test]
async fn a_device_id_is_set_and_stays_through_the_next_call() {
    let test = Test::new().await;
    test.sets(Set { device_id: Some("Device-A"), ..Set::default() }, |e| e["deviceId"] = json!("Device-A"))
        .await;
    test.cloud.clock.advance(Duration::from_secs(1));
    test.sets(Set { edge_enabled: Some(true), ..Set::default() }, |e| {
        e["capabilities"]["iotEdge"] = json!(true);
    })
    .await;
    test.refuses(Set { device_id: Some("not a device"), ..Set::default() }, "400 Bad Request").await;
}

// -ProvisioningStatus

#[tokio::test]
async fn an_enrollment_is_disabled_and_enabled_again() {
    let test = Test::new().await;
    for (status, wire) in [("Disabled", "disabled"), ("Enabled", "enabled")] {
        test.cloud.clock.advance(Duration::from_secs(1));
        let set = Set { provisioning_status: Some(status), ..Set::default() };
        test.sets(set, |e| e["provisioningStatus"] = json!(wire)).await;
    }
}

// -Tag

#[tokio::test]
async fn tags_are_replaced_as_a_whole_and_the_desired_properties_stay() {
    let twin = json!({"tags": {"a": 1, "b": 2}, "properties": {"desired": {"rate": 5}}});
    let test = Test::with(|e| e["initialTwin"] = twin).await;
    let tags = json!({"count": 1, "version": "x", "deep": {"er": [1, {"est": true}]}});
    test.sets(Set { tag: Some(tags.clone()), ..Set::default() }, |e| e["initialTwin"]["tags"] = tags).await;
}

#[tokio::test]
async fn tags_of_an_enrollment_without_a_twin_come_with_empty_desired_properties() {
    let test = Test::with(|e| remove(e, "initialTwin")).await;
    let twin = json!({"tags": {"a": 1}, "properties": {"desired": {}}});
    test.sets(Set { tag: Some(json!({"a": 1})), ..Set::default() }, |e| {
        let members = e.as_object_mut().unwrap();
        members.insert("initialTwin".into(), twin);
    })
    .await;
}

// -Desired

#[tokio::test]
async fn desired_properties_are_replaced_as_a_whole_and_the_tags_stay() {
    let twin = json!({"tags": {"a": 1}, "properties": {"desired": {"rate": 5, "mode": "x"}}});
    let test = Test::with(|e| e["initialTwin"] = twin).await;
    let desired = json!({"metadata": true});
    let set = Set { desired: Some(desired.clone()), ..Set::default() };
    test.sets(set, |e| e["initialTwin"]["properties"]["desired"] = desired).await;
}

// -EdgeEnabled

#[tokio::test]
async fn edge_is_switched_on_and_off() {
    let test = Test::new().await;
    for edge in [true, false] {
        test.cloud.clock.advance(Duration::from_secs(1));
        let set = Set { edge_enabled: Some(edge), ..Set::default() };
        test.sets(set, |e| e["capabilities"]["iotEdge"] = json!(edge)).await;
    }
}

// -ReprovisionPolicy

async fn sets_reprovision_policy(policy: &'static str, update: bool, migrate: bool) {
    let opposite = json!({"updateHubAssignment": !update, "migrateDeviceData": !migrate});
    let test = Test::with(|e| e["reprovisionPolicy"] = opposite).await;
    let set = Set { reprovision_policy: Some(policy), ..Set::default() };
    test.sets(set, |e| {
        e["reprovisionPolicy"] = json!({"updateHubAssignment": update, "migrateDeviceData": migrate});
    })
    .await;
}

#[tokio::test]
async fn reprovision_and_migrate_data_updates_and_migrates() {
    sets_reprovision_policy("reprovisionandmigratedata", true, true).await;
}

#[tokio::test]
async fn reprovision_and_reset_data_updates_without_migrating() {
    sets_reprovision_policy("reprovisionandresetdata", true, false).await;
}

#[tokio::test]
async fn reprovision_never_leaves_the_device_where_it_is() {
    sets_reprovision_policy("never", false, false).await;
}

// -AllocationPolicy

#[tokio::test]
async fn hashed_clears_a_webhook_and_the_old_hub_name() {
    let test = Test::with(|e| {
        e["allocationPolicy"] = json!("custom");
        e["customAllocationDefinition"] =
            json!({"webhookUrl": "https://f.test/x", "apiVersion": "2021-10-01"});
    })
    .await;
    test.sets(Set { allocation_policy: Some("Hashed"), ..Set::default() }, |e| {
        e["allocationPolicy"] = json!("hashed");
        remove(e, "customAllocationDefinition");
    })
    .await;
}

#[tokio::test]
async fn geo_latency_keeps_its_spelling_and_the_hubs() {
    let test = Test::with(|e| {
        e["allocationPolicy"] = json!("hashed");
        e["iotHubs"] = json!(["hub1.azure-devices.example.test"]);
    })
    .await;
    let set = Set { allocation_policy: Some("GeoLatency"), ..Set::default() };
    test.sets(set, |e| e["allocationPolicy"] = json!("geoLatency")).await;
}

#[tokio::test]
async fn static_takes_one_hub_and_the_device_goes_there() {
    let test = Test::new().await;
    test.refuses(Set { allocation_policy: Some("Static"), ..Set::default() }, "400 Bad Request").await;
    let hub = "hub2.azure-devices.example.test";
    let set = Set { allocation_policy: Some("Static"), iot_hub: Some(vec![hub]), ..Set::default() };
    let found = test
        .sets(set, |e| {
            let members = e.as_object_mut().unwrap();
            members.insert("allocationPolicy".into(), json!("static"));
            members.insert("iotHubs".into(), json!([hub]));
        })
        .await;
    let key: Key = found["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap().parse().unwrap();
    assert_eq!(registered(&test.cloud, &key).await["registrationState"]["assignedHub"], hub);
}

#[tokio::test]
async fn custom_clears_the_old_hub_name() {
    let hub = "hub1.azure-devices.example.test";
    let test = Test::with(|e| e["iotHubHostName"] = json!(hub)).await;
    let set = Set {
        allocation_policy: Some("Custom"),
        webhook_url: Some("https://www.test.test"),
        api_version: Some("2018-11-01"),
        ..Set::default()
    };
    test.sets(set, |e| {
        e["allocationPolicy"] = json!("custom");
        e["customAllocationDefinition"] =
            json!({"webhookUrl": "https://www.test.test", "apiVersion": "2018-11-01"});
        remove(e, "iotHubHostName");
    })
    .await;
}

/// Registers `enroll1` over HTTPS: what the device is told in the end.
async fn registered(cloud: &Cloud, key: &Key) -> Value {
    let scope = cloud.service().id_scope().to_owned();
    let token =
        sas::build(&format!("{scope}/registrations/{ID}"), key, cloud.in_an_hour(), Some("registration"));
    let headers = [("authorization", token.as_str())];
    let host = "global.azure-devices-provisioning.example.test";
    let base = format!("/{scope}/registrations/{ID}");
    let path = format!("{base}/register?api-version={VERSION}");
    let begun = cloud.send("PUT", host, &path, &headers, &json!({"registrationId": ID})).await.body_json();
    let path = format!("{base}/operations/{}?api-version={VERSION}", begun["operationId"].as_str().unwrap());
    cloud.send("GET", host, &path, &headers, &Value::Null).await.body_json()
}

// -IotHubHostName

#[tokio::test]
async fn an_old_hub_name_clears_policy_hubs_and_webhook() {
    let test = Test::with(|e| {
        e["allocationPolicy"] = json!("geoLatency");
        e["iotHubs"] = json!(["hub1", "hub2"]);
        e["customAllocationDefinition"] =
            json!({"webhookUrl": "https://f.test/x", "apiVersion": "2021-10-01"});
    })
    .await;
    let hub = "hub1.azure-devices.example.test";
    test.sets(Set { iot_hub_host_name: Some(hub), ..Set::default() }, |e| {
        e["iotHubHostName"] = json!(hub);
        for cleared in ["allocationPolicy", "iotHubs", "customAllocationDefinition"] {
            remove(e, cleared);
        }
    })
    .await;
    let elsewhere = Set { iot_hub_host_name: Some("hub3.azure-devices.example.test"), ..Set::default() };
    test.refuses(elsewhere, "400 Bad Request").await;
}

// -IotHub

#[tokio::test]
async fn hubs_are_replaced_under_the_stored_policy() {
    let test = Test::with(|e| {
        e["allocationPolicy"] = json!("hashed");
        e["iotHubs"] = json!(["hub1", "hub2"]);
    })
    .await;
    let hub = "hub2.azure-devices.example.test";
    test.sets(Set { iot_hub: Some(vec![hub]), ..Set::default() }, |e| e["iotHubs"] = json!([hub])).await;
    test.refuses(Set { iot_hub: Some(vec!["hub1", "hub3"]), ..Set::default() }, "400 Bad Request").await;
}

// -WebhookUrl and -ApiVersion

async fn with_webhook() -> Test {
    Test::with(|e| {
        e["allocationPolicy"] = json!("custom");
        e["customAllocationDefinition"] =
            json!({"webhookUrl": "https://f.test/x?code=1", "apiVersion": "2021-10-01"});
    })
    .await
}

#[tokio::test]
async fn a_webhook_url_changes_and_its_version_stays() {
    let test = with_webhook().await;
    let url = "https://www.microsoft.com/";
    let set = Set { webhook_url: Some(url), ..Set::default() };
    test.sets(set, |e| e["customAllocationDefinition"]["webhookUrl"] = json!(url)).await;
    test.refuses(Set { webhook_url: Some("nowhere"), ..Set::default() }, "400 Bad Request").await;
}

#[tokio::test]
async fn a_webhook_version_changes_and_its_url_stays() {
    let test = with_webhook().await;
    let set = Set { api_version: Some("2019-03-31"), ..Set::default() };
    test.sets(set, |e| e["customAllocationDefinition"]["apiVersion"] = json!("2019-03-31")).await;
    test.refuses(Set { api_version: Some("2017-01-01"), ..Set::default() }, "400 Bad Request").await;
}

// -EndorsementKey and -StorageRootKey

async fn with_tpm() -> Test {
    Test::with(|e| {
        e["attestation"] =
            json!({"type": "tpm", "tpm": {"endorsementKey": "AToAAQ==", "storageRootKey": "AToAAg=="}});
    })
    .await
}

#[tokio::test]
async fn an_endorsement_key_changes_and_the_storage_root_key_stays() {
    let test = with_tpm().await;
    let set = Set { endorsement_key: Some("AToAAw==".into()), ..Set::default() };
    test.sets(set, |e| e["attestation"]["tpm"]["endorsementKey"] = json!("AToAAw==")).await;
    test.refuses(Set { endorsement_key: Some("no key".into()), ..Set::default() }, "400 Bad Request").await;
}

#[tokio::test]
async fn a_storage_root_key_changes_and_the_endorsement_key_stays() {
    let test = with_tpm().await;
    let set = Set { storage_root_key: Some("AToABA==".into()), ..Set::default() };
    test.sets(set, |e| e["attestation"]["tpm"]["storageRootKey"] = json!("AToABA==")).await;
}

// -PrimaryKey and -SecondaryKey

#[tokio::test]
async fn both_keys_change_and_the_device_uses_the_new_one() {
    let test = Test::new().await;
    let old = test.shown().await["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap().to_owned();
    let (primary, secondary) = (Key::generate(32), Key::generate(32));
    let set = Set {
        primary_key: Some(primary.text().to_owned()),
        secondary_key: Some(secondary.text().to_owned()),
        ..Set::default()
    };
    let keys = json!({"primaryKey": primary.text(), "secondaryKey": secondary.text()});
    test.sets(set, |e| e["attestation"]["symmetricKey"] = keys).await;
    for key in [&primary, &secondary] {
        assert_eq!(registered(&test.cloud, key).await["status"], "assigned");
    }
    let scope = test.cloud.service().id_scope().to_owned();
    let old: Key = old.parse().unwrap();
    let resource = format!("{scope}/registrations/{ID}");
    let token = sas::build(&resource, &old, test.cloud.in_an_hour(), Some("registration"));
    let path = format!("/{resource}/register?api-version={VERSION}");
    let headers = [("authorization", token.as_str())];
    let refused = test.cloud.send("PUT", &test.sdk.host, &path, &headers, &Value::Null).await;
    assert_eq!(refused.status.as_u16(), 401);
}

#[tokio::test]
async fn a_primary_key_alone_leaves_the_secondary_one() {
    let test = Test::new().await;
    let key = Key::generate(64);
    let set = Set { primary_key: Some(key.text().to_owned()), ..Set::default() };
    test.sets(set, |e| e["attestation"]["symmetricKey"]["primaryKey"] = json!(key.text())).await;
    let short = Set { primary_key: Some(Key::generate(8).text().to_owned()), ..Set::default() };
    test.refuses(short, "400 Bad Request").await;
}

#[tokio::test]
async fn a_secondary_key_alone_leaves_the_primary_one() {
    let test = Test::new().await;
    let key = Key::generate(64);
    let set = Set { secondary_key: Some(key.text().to_owned()), ..Set::default() };
    test.sets(set, |e| e["attestation"]["symmetricKey"]["secondaryKey"] = json!(key.text())).await;
}

#[tokio::test]
async fn keys_that_the_cmdlet_never_saw_survive_any_other_change() {
    let test = Test::new().await;
    test.sets(Set { device_id: Some("d"), ..Set::default() }, |e| e["deviceId"] = json!("d")).await;
}

// -PrimaryCertificate and -SecondaryCertificate

#[tokio::test]
async fn a_primary_certificate_alone_drops_the_secondary_one() {
    let test = Test::with(x509).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.pem").to_str().unwrap().to_owned();
    let certificate = pem("new");
    std::fs::write(&path, &certificate).unwrap();
    let set = Set { primary_certificate: Some(path), ..Set::default() };
    let found = set.run(&test.cloud).await.unwrap();
    assert_eq!(subject(&found, "primary"), "CN=new");
    assert!(found["attestation"]["x509"]["clientCertificates"].get("secondary").is_none());
    assert_eq!(test.shown().await, found);
}

#[tokio::test]
async fn a_secondary_certificate_may_be_given_as_bare_text_beside_the_primary_one() {
    let test = Test::with(x509).await;
    let set = Set {
        primary_certificate: Some(bare(&pem("one"))),
        secondary_certificate: Some(bare(&pem("two"))),
        ..Set::default()
    };
    let found = set.run(&test.cloud).await.unwrap();
    assert_eq!(
        (subject(&found, "primary"), subject(&found, "secondary")),
        (json!("CN=one"), json!("CN=two"))
    );
    let nonsense = Set { primary_certificate: Some("nonsense".into()), ..Set::default() };
    test.refuses(nonsense, "400 Bad Request").await;
}

#[tokio::test]
async fn certificates_survive_any_other_change() {
    let test = Test::with(x509).await;
    test.sets(Set { device_id: Some("d"), ..Set::default() }, |e| e["deviceId"] = json!("d")).await;
}

// -PrimaryCAName and -SecondaryCAName

async fn with_cas() -> Test {
    let test = Test::new().await;
    for (name, is_verified) in [("ca1", true), ("ca2", true), ("unproven", false)] {
        let path = format!("{}/certificates/{name}", service_path(DPS));
        let body = json!({"certificate": STANDARD.encode(pem(name)), "isVerified": is_verified});
        test.cloud.manage("PUT", &path, body).await;
    }
    let mut body = test.sdk.get(&test.cloud, ID).await.unwrap();
    body["attestation"] = json!({"type": "x509", "x509": {"caReferences": {"primary": "ca1"}}});
    test.sdk.put(&test.cloud, ID, &body).await.unwrap();
    test.cloud.take_requests();
    test.cloud.clock.advance(Duration::from_mins(1));
    test
}

#[tokio::test]
async fn a_primary_ca_name_changes() {
    let test = with_cas().await;
    let set = Set { primary_ca_name: Some("ca2"), ..Set::default() };
    test.sets(set, |e| e["attestation"]["x509"]["caReferences"]["primary"] = json!("ca2")).await;
    for name in ["absent", "unproven"] {
        test.refuses(Set { primary_ca_name: Some(name), ..Set::default() }, "400 Bad Request").await;
    }
}

#[tokio::test]
async fn a_secondary_ca_name_joins_the_primary_one() {
    let test = with_cas().await;
    let set = Set { secondary_ca_name: Some("ca2"), ..Set::default() };
    test.sets(set, |e| e["attestation"]["x509"]["caReferences"]["secondary"] = json!("ca2")).await;
}

#[tokio::test]
async fn ca_names_win_over_certificates() {
    let test = with_cas().await;
    let set = Set { primary_ca_name: Some("ca2"), primary_certificate: Some(pem("x")), ..Set::default() };
    test.sets(set, |e| e["attestation"]["x509"]["caReferences"]["primary"] = json!("ca2")).await;
}

// -RootCertificate

#[tokio::test]
async fn a_root_certificate_attests_groups_only() {
    let test = Test::with(x509).await;
    let set = Set { primary_certificate: Some(pem("root")), root_certificate: true, ..Set::default() };
    test.refuses(set, "Attestation shall be X509 CA references or client certificates").await;
    // Another client may send what the SDK keeps back.
    let before = test.shown().await;
    let mut body = test.sdk.get(&test.cloud, ID).await.unwrap();
    body["attestation"] =
        json!({"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": pem("root")}}}});
    assert_eq!(test.sdk.put(&test.cloud, ID, &body).await, Err("400 Bad Request".to_owned()));
    assert_eq!(test.shown().await, before);
    // Without a certificate the switch has nothing to speak of.
    test.sets(Set { root_certificate: true, ..Set::default() }, |_| {}).await;
}

// What the module itself complains of: nothing is put.

#[tokio::test]
async fn parameters_that_contradict_each_other_change_nothing() {
    let test = Test::with(x509).await;
    let hub = "hub1.azure-devices.example.test";
    let with_host = |set: Set| Set { iot_hub_host_name: Some(hub), ..set };
    for (set, complaint) in [
        (
            with_host(Set { allocation_policy: Some("Hashed"), ..Set::default() }),
            "\"IotHubHostName\" is not required when allocation-policy is defined.",
        ),
        (
            with_host(Set { iot_hub: Some(vec![hub]), ..Set::default() }),
            "\"IotHubHostName\" is not required when IotHub is defined.",
        ),
        (Set { iot_hub: Some(vec![hub]), ..Set::default() }, "Please provide allocation policy."),
        (
            Set { allocation_policy: Some("Static"), iot_hub: Some(vec!["hub1", "hub2"]), ..Set::default() },
            "Please provide only one hub when allocation-policy is defined as Static.",
        ),
        (
            Set { secondary_certificate: Some(pem("b")), ..Set::default() },
            "Primary certificate cannot be null or empty.",
        ),
    ] {
        test.refuses(set, complaint).await;
    }
}

// -DefaultProfile

#[tokio::test]
async fn a_profile_without_a_role_does_not_get_as_far_as_the_enrollment() {
    let test = Test::new().await;
    let profile = || Some(test.cloud.stranger.clone());
    test.refuses(Set { default_profile: profile(), device_id: Some("d"), ..Set::default() }, "403 Forbidden")
        .await;
    // An object spares the look-up, but not the keys.
    let object = test.cloud.manage("GET", &service_path(DPS), Value::Null).await;
    let by = Some(By::Object(object));
    let set = Set { by, default_profile: profile(), device_id: Some("d"), ..Set::default() };
    test.refuses(set, "403 Forbidden").await;
    let owner = Some(test.cloud.token.clone());
    let set = Set { default_profile: owner, device_id: Some("d"), ..Set::default() };
    test.sets(set, |e| e["deviceId"] = json!("d")).await;
}

// -WhatIf, -Confirm, and what the service itself stands guard over.

#[tokio::test]
async fn who_is_asked_to_confirm_and_declines_sends_nothing() {
    let test = Test::new().await;
    let before = test.shown().await;
    let set = |confirm| Set { device_id: Some("d"), confirm: Some(confirm), ..Set::default() };
    set(false).run(&test.cloud).await.unwrap();
    assert_eq!(test.cloud.take_requests(), Vec::<String>::new());
    assert_eq!(test.shown().await, before);
    test.sets(set(true), |e| e["deviceId"] = json!("d")).await;
}

#[tokio::test]
async fn what_if_sends_nothing() {
    let test = Test::new().await;
    let before = test.shown().await;
    let set = Set { device_id: Some("d"), what_if: true, ..Set::default() };
    set.run(&test.cloud).await.unwrap();
    assert_eq!(test.cloud.take_requests(), Vec::<String>::new());
    assert_eq!(test.shown().await, before);
}

#[tokio::test]
async fn who_edits_what_another_has_changed_meanwhile_is_refused() {
    let test = Test::new().await;
    let mine = test.sdk.get(&test.cloud, ID).await.unwrap();
    Set { device_id: Some("theirs"), ..Set::default() }.run(&test.cloud).await.unwrap();
    let stale = test.sdk.put(&test.cloud, ID, &mine).await;
    assert_eq!(stale, Err("412 Precondition Failed".to_owned()));
    assert_eq!(test.shown().await["deviceId"], "theirs");
}

#[tokio::test]
async fn a_policy_without_the_right_to_write_is_passed_over_or_refused() {
    let test = Test::new().await;
    let policies = json!([
        {"keyName": "reader", "rights": "EnrollmentRead"},
        {"keyName": "writer", "rights": "EnrollmentWrite, RegistrationStatusRead"},
    ]);
    let mut body = test.cloud.manage("GET", &service_path(DPS), Value::Null).await;
    body["properties"]["authorizationPolicies"] = policies;
    test.cloud.manage("PUT", &service_path(DPS), body).await;
    let written = Set { device_id: Some("d"), ..Set::default() }.run(&test.cloud).await.unwrap();
    assert_eq!(written["deviceId"], "d");
    // The token of before was the old owner's, whose policy is gone.
    assert_eq!(test.sdk.get(&test.cloud, ID).await, Err("401 Unauthorized".to_owned()));

    let mut body = test.cloud.manage("GET", &service_path(DPS), Value::Null).await;
    body["properties"]["authorizationPolicies"] = json!([{"keyName": "reader", "rights": "EnrollmentRead"}]);
    test.cloud.manage("PUT", &service_path(DPS), body).await;
    let failure = Set { device_id: Some("e"), ..Set::default() }.run(&test.cloud).await;
    assert_eq!(failure, Err("Missing shared access policy for EnrollmentWrite permission.".to_owned()));
}

#[tokio::test]
async fn resource_manager_shows_what_the_module_builds_its_connection_from() {
    let cloud = Cloud::new().await;
    let resource = cloud.manage("GET", &service_path(DPS), Value::Null).await;
    let properties = &resource["properties"];
    assert_eq!(properties["serviceOperationsHostName"], "mydps.azure-devices-provisioning.example.test");
    assert_eq!((&properties["state"], &resource["location"]), (&json!("Active"), &json!("West US")));
    assert_eq!(resource["resourcegroup"], GROUP);
    let links = properties["iotHubs"].as_array().unwrap();
    assert!(
        links.iter().all(|link| link["connectionString"].as_str().unwrap().ends_with("SharedAccessKey=****"))
    );
}
