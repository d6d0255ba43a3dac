//! Enrollments and groups: their shape on the wire, replacement, etags, what is refused.

use serde_json::{Value, json};

use super::fixture::*;

#[tokio::test]
async fn a_new_enrollment_is_shown_with_its_defaults_and_its_keys_once() {
    let fixture = Fixture::new().await;
    let created = fixture.put_individual("Dev-1").await;
    assert_eq!(
        members(&created),
        [
            "registrationId",
            "attestation",
            "capabilities",
            "etag",
            "provisioningStatus",
            "reprovisionPolicy",
            "createdDateTimeUtc",
            "lastUpdatedDateTimeUtc"
        ]
    );
    assert_eq!(created["registrationId"], "Dev-1");
    assert_eq!(created["capabilities"], json!({"iotEdge": false}));
    assert_eq!(created["provisioningStatus"], "enabled");
    assert_eq!(created["reprovisionPolicy"], json!({"updateHubAssignment": true, "migrateDeviceData": true}));
    assert_eq!(created["createdDateTimeUtc"], "2025-06-15T15:06:40.0000000Z");
    assert_eq!(primary_key(&created).bytes().len(), 64);
    let etag = created["etag"].as_str().unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() == 38, "{etag}");

    let mut shown = fixture.get("/enrollments/dev-1").await;
    assert_eq!(shown["attestation"], json!({"type": "symmetricKey"}));
    shown["attestation"] = created["attestation"].clone();
    assert_eq!(shown, created);
    let keys = fixture.ask("POST", "/enrollments/DEV-1/attestationmechanism").send().await.is(200).json();
    assert_eq!(keys, created["attestation"]);
}

#[tokio::test]
async fn a_group_has_its_own_id_and_nothing_of_a_device() {
    let fixture = Fixture::new().await;
    let mut sent = group("Group-1");
    sent["deviceId"] = json!("x");
    sent["optionalDeviceInformation"] = json!({"a": 1});
    let created = fixture.ask("PUT", "/enrollmentGroups/group-1").json(&sent).send().await.is(200).json();
    assert_eq!(created["enrollmentGroupId"], "Group-1");
    for absent in ["registrationId", "deviceId", "optionalDeviceInformation", "registrationState"] {
        assert!(created.get(absent).is_none(), "{absent}");
    }
    assert_eq!(
        fixture.get("/enrollmentGroups/Group-1").await["attestation"],
        json!({"type": "symmetricKey"})
    );
    fixture.ask("GET", "/enrollments/group-1").send().await.refused(404_201);
}

#[tokio::test]
async fn everything_that_is_written_comes_back_and_the_rest_is_ignored() {
    let fixture = Fixture::new().await;
    let initial_twin = json!({"tags": {"count": null, "version": 2, "metadata": {"x": [1]}},
        "properties": {"desired": {"version_dps": "v", "count": 1}}});
    let sent = json!({
        "registrationId": "dev-1", "deviceId": "Device-A", "optionalDeviceInformation": {"colour": "red"},
        "attestation": {"type": "SYMMETRICKEY", "symmetricKey": null, "x509": null, "tpm": null},
        "capabilities": {"iotEdge": true}, "initialTwin": initial_twin, "provisioningStatus": "Disabled",
        "reprovisionPolicy": {"updateHubAssignment": false, "migrateDeviceData": false},
        "allocationPolicy": "GEOLATENCY", "iotHubs": ["hub1.azure-devices.example.test", "hub2"],
        "customAllocationDefinition": {"webhookUrl": "https://www.test.test", "apiVersion": "2021-10-01"},
        "createdDateTimeUtc": "1999-01-01T00:00:00Z", "lastUpdatedDateTimeUtc": 7, "etag": "\"mine\"",
        "registrationState": {"status": "assigned"}, "whatever": [1, 2],
    });
    let created = fixture.ask("PUT", "/enrollments/dev-1").json(&sent).send().await.is(200).json();
    let shown = fixture.get("/enrollments/dev-1").await;
    for same in [
        "deviceId",
        "optionalDeviceInformation",
        "capabilities",
        "initialTwin",
        "reprovisionPolicy",
        "iotHubs",
        "customAllocationDefinition",
    ] {
        assert_eq!(created[same], sent[same], "{same}");
        assert_eq!(shown[same], sent[same], "{same}");
    }
    assert_eq!(shown["provisioningStatus"], "disabled");
    assert_eq!(shown["allocationPolicy"], "geoLatency");
    assert_ne!(shown["etag"], "\"mine\"");
    assert_eq!(shown["createdDateTimeUtc"], "2025-06-15T15:06:40.0000000Z");
    for absent in ["registrationState", "whatever"] {
        assert!(shown.get(absent).is_none(), "{absent}");
    }
}

#[tokio::test]
async fn a_put_replaces_the_whole_enrollment_except_for_keys_that_were_not_shown() {
    let fixture = Fixture::new().await;
    let mut first = individual("dev-1");
    first["deviceId"] = json!("device");
    first["allocationPolicy"] = json!("static");
    first["iotHubs"] = json!(["hub1"]);
    first["initialTwin"] = json!({"tags": {"a": 1}});
    let created = fixture.ask("PUT", "/enrollments/dev-1").json(&first).send().await.is(200).json();
    fixture.clock.advance(hour());
    for attestation in [
        json!({"type": "symmetricKey"}),
        json!({"type": "symmetricKey", "symmetricKey": {}}),
        json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": "", "secondaryKey": null}}),
    ] {
        let again = json!({"registrationId": "DEV-1", "attestation": attestation});
        let ask = fixture.ask("PUT", "/enrollments/dev-1").json(&again).header("if-match", "*");
        let replaced = ask.send().await.is(200).json();
        assert_eq!(replaced["attestation"], created["attestation"]);
        for absent in ["deviceId", "allocationPolicy", "iotHubs", "initialTwin"] {
            assert!(replaced.get(absent).is_none(), "{absent}");
        }
        assert_eq!(replaced["registrationId"], "dev-1");
        assert_eq!(replaced["createdDateTimeUtc"], created["createdDateTimeUtc"]);
        assert_eq!(replaced["lastUpdatedDateTimeUtc"], "2025-06-15T16:06:40.0000000Z");
    }
}

#[tokio::test]
async fn an_old_version_leaves_reprovisioning_unsaid_and_a_new_one_knows_credential_policies() {
    let fixture = Fixture::new().await;
    let put = async |version: &str, id: &str| {
        let mut sent = individual(id);
        sent["credentialPolicyName"] = json!("policy");
        let path = format!("/enrollments/{id}?api-version={version}");
        fixture.ask("PUT", &path).json(&sent).send().await.is(200).json()
    };
    assert!(put("2018-04-01", "a").await.get("reprovisionPolicy").is_none());
    assert!(put("2018-09-01-preview", "b").await.get("reprovisionPolicy").is_some());
    assert!(put("2021-10-01", "c").await.get("credentialPolicyName").is_none());
    assert_eq!(put("2025-07-01-preview", "d").await["credentialPolicyName"], "policy");
    assert_eq!(put("2026-04-01", "e").await["credentialPolicyName"], "policy");
    assert!(fixture.get("/enrollments/e").await.get("credentialPolicyName").is_none());
}

#[tokio::test]
async fn every_form_of_if_match_is_understood() {
    let fixture = Fixture::new().await;
    for (kind, id_name, gone) in
        [("enrollments", "registrationId", 404_201), ("enrollmentGroups", "enrollmentGroupId", 404_202)]
    {
        let path = format!("/{kind}/one");
        let body = json!({id_name: "one", "attestation": {"type": "symmetricKey"}});
        let put = async |if_match: Option<&str>| {
            let ask = fixture.ask("PUT", &path).json(&body);
            match if_match {
                Some(tag) => ask.header("if-match", tag).send().await,
                None => ask.send().await,
            }
        };
        put(Some("\"something\"")).await.refused(412_000);
        put(None).await.is(200);
        let before = fixture.get(&path).await;
        put(None).await.refused(409_000);
        put(Some("\"stale\"")).await.refused(412_000);
        assert_eq!(fixture.get(&path).await, before);
        for form in ["{}", "\"{}\"", "\"\\\"{}\\\"\"", "W/\"{}\""] {
            let etag = fixture.get(&path).await["etag"].as_str().unwrap().trim_matches('"').to_owned();
            put(Some(&form.replace("{}", &etag))).await.is(200);
            put(Some(&form.replace("{}", &etag))).await.refused(412_000);
        }
        put(Some("*")).await.is(200);
        put(Some("\"*\"")).await.is(200);

        let before = fixture.get(&path).await;
        fixture.ask("DELETE", &path).header("if-match", "\"stale\"").send().await.refused(412_000);
        assert_eq!(fixture.get(&path).await, before);
        let etag = before["etag"].as_str().unwrap();
        let deleted = fixture.ask("DELETE", &path).header("if-match", etag).send().await.is(204);
        assert!(deleted.response.body_bytes().is_empty());
        for method in ["GET", "DELETE"] {
            fixture.ask(method, &path).header("if-match", "*").send().await.refused(gone);
        }
        put(Some("*")).await.is(200);
        fixture.ask("DELETE", &path).send().await.is(204);
    }
}

#[tokio::test]
async fn an_if_match_that_cannot_be_read_does_not_count_as_none() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    fixture.register("dev-1", &key).await;
    fixture.put_group("group").await;
    let before = fixture.state().await;
    for path in ["/enrollments/dev-1", "/enrollmentGroups/group", "/registrations/dev-1"] {
        fixture.ask("DELETE", path).header("if-match", "\"ä\"").send().await.refused(412_000);
        let twice = fixture.ask("DELETE", path).header("if-match", "*").header("if-match", "\"stale\"");
        twice.send().await.refused(412_000);
        fixture.ask("DELETE", path).header("if-match", "\"a\", \"b\"").send().await.refused(412_000);
        fixture.ask("DELETE", path).header("if-match", "\"\"").send().await.refused(412_000);
        fixture.ask("DELETE", path).header("if-match", "W/").send().await.refused(412_000);
    }
    for (path, body) in
        [("/enrollments/dev-1", individual("dev-1")), ("/enrollmentGroups/group", group("group"))]
    {
        fixture.ask("PUT", path).json(&body).header("if-match", "ä").send().await.refused(412_000);
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn an_enrollment_shows_what_became_of_its_device_and_takes_it_along() {
    let fixture = Fixture::new().await;
    let key = primary_key(&fixture.put_individual("dev-1").await);
    assert!(fixture.get("/enrollments/dev-1").await.get("registrationState").is_none());
    let told = fixture.register("dev-1", &key).await;
    let shown = fixture.get("/enrollments/dev-1").await;
    assert_eq!(shown["registrationState"], fixture.get("/registrations/dev-1").await);
    assert_eq!(shown["registrationState"]["etag"], told["registrationState"]["etag"]);
    let listed = fixture.ask("POST", "/enrollments/query").send().await.is(200).json();
    assert!(listed[0].get("registrationState").is_none());
    fixture.ask("DELETE", "/enrollments/dev-1").send().await.is(204);
    fixture.ask("GET", "/registrations/dev-1").send().await.refused(404_201);
}

fn spoiled(spoil: impl Fn(&mut Value)) -> Value {
    let mut body = individual("dev-1");
    spoil(&mut body);
    body
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_is_stored() {
    let fixture = Fixture::new().await;
    let custom = |url: &str, version: &str| {
        spoiled(|b| {
            b["allocationPolicy"] = json!("custom");
            b["customAllocationDefinition"] = json!({"webhookUrl": url, "apiVersion": version});
        })
    };
    let cases = [
        ("no id", spoiled(|b| drop(b.as_object_mut().unwrap().remove("registrationId")))),
        ("another id", spoiled(|b| b["registrationId"] = json!("dev-2"))),
        ("a numeric id", spoiled(|b| b["registrationId"] = json!(1))),
        ("no attestation", spoiled(|b| drop(b.as_object_mut().unwrap().remove("attestation")))),
        ("an attestation of null", spoiled(|b| b["attestation"] = json!(null))),
        ("an attestation of text", spoiled(|b| b["attestation"] = json!("symmetricKey"))),
        ("attestation none", spoiled(|b| b["attestation"] = json!({"type": "none"}))),
        ("an unknown attestation", spoiled(|b| b["attestation"] = json!({"type": "magic"}))),
        ("attestation without type", spoiled(|b| b["attestation"] = json!({"symmetricKey": {}}))),
        (
            "two attestations",
            spoiled(|b| {
                b["attestation"] = json!({"type": "symmetricKey", "tpm": {"endorsementKey": "AAAA"}});
            }),
        ),
        ("an attestation that is not there", spoiled(|b| b["attestation"] = json!({"type": "tpm"}))),
        ("an unknown policy", spoiled(|b| b["allocationPolicy"] = json!("random"))),
        ("an unknown status", spoiled(|b| b["provisioningStatus"] = json!("maybe"))),
        ("a hub that is not linked", spoiled(|b| b["iotHubs"] = json!(["hub3"]))),
        ("an old hub that is not linked", spoiled(|b| b["iotHubHostName"] = json!("hub3.azure-devices.net"))),
        ("hubs that are no list", spoiled(|b| b["iotHubs"] = json!("hub1"))),
        ("static without hub", spoiled(|b| b["allocationPolicy"] = json!("static"))),
        (
            "static with two",
            spoiled(|b| {
                b["allocationPolicy"] = json!("static");
                b["iotHubs"] = json!(["hub1", "hub2"]);
            }),
        ),
        ("custom without webhook", spoiled(|b| b["allocationPolicy"] = json!("custom"))),
        ("a webhook that is no URL", custom("www.test.test", "2021-10-01")),
        ("a webhook version that is too old", custom("https://www.test.test", "2018-04-01")),
        ("half a webhook", spoiled(|b| b["customAllocationDefinition"] = json!({"webhookUrl": "https://x"}))),
        (
            "half a reprovision policy",
            spoiled(|b| b["reprovisionPolicy"] = json!({"updateHubAssignment": true})),
        ),
        ("capabilities that are no object", spoiled(|b| b["capabilities"] = json!(true))),
        ("iotEdge that is no bool", spoiled(|b| b["capabilities"] = json!({"iotEdge": "yes"}))),
        ("a twin that is no object", spoiled(|b| b["initialTwin"] = json!("x"))),
        ("a twin that is a list", spoiled(|b| b["initialTwin"] = json!([{}, {}]))),
        ("properties that are a list", spoiled(|b| b["initialTwin"] = json!({"properties": [{}]}))),
        ("properties that are text", spoiled(|b| b["initialTwin"] = json!({"properties": "desired"}))),
        ("desired that are a list", spoiled(|b| b["initialTwin"] = json!({"properties": {"desired": []}}))),
        ("desired that are a number", spoiled(|b| b["initialTwin"] = json!({"properties": {"desired": 7}}))),
        (
            "a list for an attestation",
            spoiled(|b| b["attestation"] = json!(["symmetricKey", null, null, {}])),
        ),
        (
            "a list for keys",
            spoiled(|b| b["attestation"] = json!({"type": "symmetricKey", "symmetricKey": [null, null]})),
        ),
        ("a list for a TPM", spoiled(|b| b["attestation"] = json!({"type": "tpm", "tpm": ["AAAA", null]}))),
        (
            "a list for certificates",
            spoiled(|b| {
                let pair = json!({"primary": [certificate("a"), null]});
                b["attestation"] = json!({"type": "x509", "x509": {"clientCertificates": pair}});
            }),
        ),
        ("a list for capabilities", spoiled(|b| b["capabilities"] = json!([true]))),
        ("a list for a reprovision policy", spoiled(|b| b["reprovisionPolicy"] = json!([true, true]))),
        (
            "a list for a webhook",
            spoiled(|b| b["customAllocationDefinition"] = json!(["https://www.test.test", "2021-10-01"])),
        ),
        ("a null among the hubs", spoiled(|b| b["iotHubs"] = json!(["hub1", null]))),
        ("a webhook without a host", custom("https://?code=1", "2021-10-01")),
        ("a webhook version that is none", custom("https://www.test.test", "newest")),
        ("tags that are a list", spoiled(|b| b["initialTwin"] = json!({"tags": []}))),
        ("a device id that no hub takes", spoiled(|b| b["deviceId"] = json!("a b"))),
    ];
    for (what, body) in cases {
        eprintln!("{what}");
        fixture.ask("PUT", "/enrollments/dev-1").json(&body).send().await.refused(400_004);
    }
    for (what, body) in
        [("nothing", ""), ("no JSON", "{"), ("a list", "[]"), ("text", "\"x\""), ("not UTF-8", "\u{fffd}{")]
    {
        eprintln!("{what}");
        for path in ["/enrollments/dev-1", "/enrollmentGroups/dev-1"] {
            fixture.ask("PUT", path).bytes(body).send().await.refused(400_004);
            fixture.ask("PUT", path).bytes(&b"\xff{}"[..]).send().await.refused(400_004);
        }
    }
    fixture.ask("PUT", "/enrollments/a%20b").json(&individual("a b")).send().await.refused(400_004);
    assert_eq!(fixture.state().await.as_array().unwrap().len(), 3, "only the three absent registrations");
}

#[tokio::test]
async fn a_refused_replacement_leaves_the_enrollment_as_it_was() {
    let fixture = Fixture::new().await;
    fixture.put_individual("dev-1").await;
    let before = fixture.state().await;
    for body in [
        spoiled(|b| b["iotHubs"] = json!(["hub3"])),
        spoiled(|b| b["attestation"] = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": "?"}})),
    ] {
        let ask = fixture.ask("PUT", "/enrollments/dev-1").json(&body).header("if-match", "*");
        ask.send().await.refused(400_004);
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_and_one_without_type_believed() {
    let fixture = Fixture::new().await;
    let body = individual("dev-1").to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let ask = fixture.ask("PUT", "/enrollments/dev-1").bytes(body.clone()).header("content-type", kind);
        ask.send().await.refused(415_000);
    }
    fixture.ask("GET", "/enrollments/dev-1").send().await.refused(404_201);
    fixture.ask("PUT", "/enrollments/dev-1").bytes(body.clone()).send().await.is(200);
    for kind in ["application/json", "Application/JSON;charset=utf-8", "application/vnd.x+json"] {
        let ask = fixture.ask("PUT", "/enrollments/dev-1").bytes(body.clone()).header("content-type", kind);
        ask.header("if-match", "*").send().await.is(200);
    }
}

#[tokio::test]
async fn names_and_values_in_another_case_are_the_same_and_opaque_members_keep_theirs() {
    let fixture = Fixture::new().await;
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let twin = json!({"tags": {"Site": "30"}, "properties": {"desired": {"Status": "True"}}});
    let sent = json!({
        "RegistrationId": "dev-1", "DEVICEID": "Device-A", "ProvisioningStatus": "DISABLED",
        "Attestation": {"Type": "SymmetricKey", "SymmetricKey": {"PrimaryKey": key, "secondarykey": key}},
        "Capabilities": {"IotEdge": "true"}, "InitialTwin": twin, "AllocationPolicy": "Hashed",
        "ReprovisionPolicy": {"UpdateHubAssignment": "False", "migratedevicedata": false},
    });
    let made = fixture.ask("PUT", "/enrollments/dev-1").json(&sent).send().await.is(200).json();
    assert_eq!(made["attestation"]["symmetricKey"], json!({"primaryKey": key, "secondaryKey": key}));
    assert_eq!(made["reprovisionPolicy"], json!({"updateHubAssignment": false, "migrateDeviceData": false}));
    assert_eq!((&made["deviceId"], &made["initialTwin"]), (&json!("Device-A"), &twin));
    assert_eq!(
        (&made["provisioningStatus"], &made["capabilities"]["iotEdge"]),
        (&json!("disabled"), &json!(true))
    );
    let bulk = json!({"Mode": "update", "Enrollments": [{"RegistrationID": "dev-2", "Attestation": {"Type": "symmetricKey"}}]});
    let done = fixture.ask("POST", "/enrollments").json(&bulk).send().await.is(200).json();
    assert_eq!(done["isSuccessful"], true, "{done}");
    let query = json!({"Query": "SELECT * FROM enrollments WHERE deviceId = 'Device-A'"});
    let found = fixture.ask("POST", "/enrollments/query").json(&query).send().await.is(200).json();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
}

#[tokio::test]
async fn what_cannot_be_read_is_told_by_its_place_and_in_plain_words() {
    let fixture = Fixture::new().await;
    for (body, says) in [
        ("{\n  x", "The body cannot be read: it is not JSON at line 2, column 3."),
        (
            r#"{"registrationId":"dev-1","attestation":{"type":"tpm","tpm":{"endorsementKey":7}}}"#,
            "The enrollment cannot be read: 'attestation.tpm.endorsementKey' must be a text.",
        ),
    ] {
        let answer = fixture.ask("PUT", "/enrollments/dev-1").bytes(body).send().await.is(400);
        assert_eq!(answer.json()["message"], says);
    }
}
