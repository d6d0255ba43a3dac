//! Metadata, tenants, subscriptions, providers, groups, generic lists, identities, headers and pages.

use super::*;

const ARM: &str = "api-version=2024-11-01";

fn group_url(name: &str) -> String {
    format!("/subscriptions/{RECORDED}/resourcegroups/{name}?{ARM}")
}

#[tokio::test]
async fn metadata_has_three_shapes_and_needs_no_credentials() {
    let arm = Arm::new().await;
    let base = "https://management.azure.com";
    let ask = async |version: &str| {
        let answer = arm.ask("GET", &format!("/metadata/endpoints?api-version={version}"), &[], "").await;
        assert_eq!(answer.status, 200);
        answer.body_json()
    };
    let first = ask("2015-01-01").await;
    assert_eq!(first["authentication"], json!({"loginEndpoint": base, "audiences": [base]}));
    for version in ["2018-05-01", "2019-05-01", "2020-09-01"] {
        let clouds = ask(version).await;
        let names: Vec<&Value> = clouds.as_array().unwrap().iter().map(|cloud| &cloud["name"]).collect();
        assert_eq!(names, ["AzureCloud", "twinhub"]);
        assert_eq!(clouds[1]["resourceManager"], base);
    }
    let cloud = ask("2022-09-01").await;
    assert_eq!(
        (&cloud["resourceManager"], &cloud["authentication"]["loginEndpoint"]),
        (&json!(base), &json!(base))
    );
    assert!(cloud["suffixes"].is_object());
    assert_eq!(arm.ask("GET", "/metadata/endpoints", &[], "").await.status, 400);
}

#[tokio::test]
async fn tenants_and_subscriptions_are_those_that_the_caller_sees() {
    let arm = Arm::new().await;
    let (_, list) = arm.get("/subscriptions?api-version=2022-12-01").await;
    assert_eq!((&list["count"]["value"], list["value"].as_array().unwrap().len()), (&json!(2), 2));
    let (_, one) = arm.get(&format!("/subscriptions/{RECORDED}?api-version=2022-12-01")).await;
    assert_eq!((&one["state"], &one["tenantId"]), (&json!("Enabled"), &json!(arm.directory.tenant_id())));
    let (_, tenants) = arm.get("/tenants?api-version=2022-12-01").await;
    assert_eq!(tenants["value"][0]["tenantId"], arm.directory.tenant_id());
    let (_, locations) =
        arm.get(&format!("/subscriptions/{RECORDED}/locations?api-version=2022-12-01")).await;
    assert!(locations["value"].as_array().unwrap().iter().any(|one| one["displayName"] == "West Europe"));

    let nobody = format!("Bearer {}", arm.token_of(None, "").await);
    let headers = [("authorization", nobody.as_str())];
    let seen = arm.ask("GET", "/subscriptions?api-version=2022-12-01", &headers, "").await.body_json();
    assert_eq!(seen["value"], json!([]));
    let refused =
        arm.ask("GET", &format!("/subscriptions/{RECORDED}?api-version=2022-12-01"), &headers, "").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body_json()["error"]["code"]),
        (403, &json!("AuthorizationFailed"))
    );
    let scope = format!(
        "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.DigitalTwins/digitalTwinsInstances/t"
    );
    let data = format!("Bearer {}", arm.token_of(Some(roles::DIGITAL_TWINS_DATA_OWNER), &scope).await);
    let seen = arm
        .ask("GET", "/subscriptions?api-version=2022-12-01", &[("authorization", &data)], "")
        .await
        .body_json();
    assert_eq!(seen["value"][0]["subscriptionId"], RECORDED, "a role anywhere below lets it be seen");
}

#[tokio::test]
async fn providers_are_listed_registered_and_needed() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let url = |rest: &str| format!("/subscriptions/{RECORDED}/providers{rest}?{ARM}");
    let (_, all) = arm.get(&url("")).await;
    assert!(all["value"].as_array().unwrap().len() >= 5);
    let (_, twins) = arm.get(&url("/microsoft.digitaltwins")).await;
    assert_eq!(
        (&twins["namespace"], &twins["registrationState"]),
        (&json!("Microsoft.DigitalTwins"), &json!("Registered"))
    );
    let kind = twins["resourceTypes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["resourceType"] == "digitalTwinsInstances")
        .unwrap();
    assert!(kind["apiVersions"].as_array().unwrap().contains(&json!("2022-05-31")));
    let (status, gone) = arm.post(&url("/Microsoft.DigitalTwins/unregister"), json!({})).await;
    assert_eq!((status, &gone["registrationState"]), (200, &json!("NotRegistered")));
    let refused = arm.put(&twins_url(RECORDED, "g", "twins", ""), json!({"location": "eastus"})).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body_json()["error"]["code"]),
        (409, &json!("MissingSubscriptionRegistration"))
    );
    arm.post(&url("/Microsoft.DigitalTwins/register"), json!({})).await;
    assert_eq!(
        arm.put(&twins_url(RECORDED, "g", "twins", ""), json!({"location": "eastus"})).await.status,
        201
    );
    assert_eq!(arm.get(&url("/Microsoft.Nothing")).await.1["error"]["code"], "InvalidResourceNamespace");
}

#[tokio::test]
async fn a_group_is_made_changed_found_and_deleted_with_all_that_is_in_it() {
    let arm = Arm::new().await;
    let made = arm.put(&group_url("rg1"), json!({"location": "westeurope", "tags": {"a": "1"}})).await;
    assert_eq!(made.status, 201);
    let body = made.body_json();
    assert_eq!(
        (&body["type"], &body["properties"]["provisioningState"]),
        (&json!("Microsoft.Resources/resourceGroups"), &json!("Succeeded"))
    );
    assert_eq!(arm.put(&group_url("RG1"), json!({"location": "West Europe"})).await.status, 200);
    let moved = arm.put(&group_url("rg1"), json!({"location": "eastus"})).await;
    assert_eq!(
        (moved.status.as_u16(), &moved.body_json()["error"]["code"]),
        (409, &json!("InvalidResourceGroupLocation"))
    );
    let patched = arm.patch(&group_url("rg1"), json!({"tags": {"b": "2"}})).await.body_json();
    assert_eq!((&patched["tags"], &patched["name"]), (&json!({"b": "2"}), &json!("rg1")));
    assert_eq!(arm.send("HEAD", &group_url("rg1"), "").await.status, 204);
    assert_eq!(arm.send("HEAD", &group_url("rg2"), "").await.status, 404);

    arm.put(&twins_url(RECORDED, "rg1", "twins", ""), json!({"location": "eastus"})).await;
    arm.settle().await;
    let string = "Endpoint=sb://ns.example.com/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=e";
    let endpoint = json!({"properties": {"endpointType": "ServiceBus", "primaryConnectionString": string}});
    arm.put(&twins_url(RECORDED, "rg1", "twins", "/endpoints/bus"), endpoint).await;
    arm.settle().await;
    let deleted = arm.delete(&group_url("rg1")).await;
    assert_eq!(deleted.status, 202);
    let location = deleted.header_value("location").unwrap().to_owned();
    assert!(location.contains("/operationresults/"), "{location}");
    assert_eq!(arm.get(&group_url("rg1")).await.1["properties"]["provisioningState"], "Deleting");
    let refused = arm.put(&twins_url(RECORDED, "rg1", "more", ""), json!({"location": "eastus"})).await;
    assert_eq!(refused.status, 409, "nothing is added to a group that goes");
    assert_eq!(arm.send("GET", &location, "").await.status, 202);
    arm.settle().await;
    assert_eq!(arm.send("GET", &location, "").await.status, 200);
    assert_eq!(arm.get(&group_url("rg1")).await.0, 404);
    assert_eq!(arm.delete(&group_url("rg1")).await.status, 404);
    arm.group(RECORDED, "rg1").await;
    assert_eq!(
        arm.get(&twins_url(RECORDED, "rg1", "twins", "")).await.0,
        404,
        "it does not come back with its group"
    );
    assert_eq!(
        arm.put(&twins_url(RECORDED, "rg1", "twins", ""), json!({"location": "eastus"})).await.status,
        201,
        "its name is free"
    );
}

#[tokio::test]
async fn resources_of_all_types_are_listed_and_filtered() {
    let arm = Arm::new().await;
    for group in ["g1", "g2"] {
        arm.group(RECORDED, group).await;
        let tags = json!({"env": group});
        arm.put(
            &twins_url(RECORDED, group, &format!("twins-{group}"), ""),
            json!({"location": "eastus", "tags": tags}),
        )
        .await;
    }
    arm.settle().await;
    let list = async |query: &str, group: &str| {
        let (status, body) =
            arm.get(&format!("/subscriptions/{RECORDED}{group}/resources?{ARM}{query}")).await;
        assert_eq!(status, 200, "{body}");
        body["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        list("&$filter=&$expand=createdTime%2CchangedTime%2CprovisioningState", "").await,
        ["twins-g1", "twins-g2"]
    );
    assert_eq!(list("", "/resourceGroups/g2").await, ["twins-g2"]);
    assert_eq!(list("&$filter=tagName%20eq%20'env'%20and%20tagValue%20eq%20'g1'", "").await, ["twins-g1"]);
    assert_eq!(
        list("&$filter=resourceType%20eq%20'Microsoft.Devices/IotHubs'", "").await,
        Vec::<String>::new()
    );
    assert_eq!(list("&$filter=substringof('G2',%20name)", "").await, ["twins-g2"]);
    let (status, body) =
        arm.get(&format!("/subscriptions/{RECORDED}/resources?{ARM}&$filter=nonsense")).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("InvalidFilterInQueryString")));
    let (_, body) =
        arm.get(&format!("/subscriptions/{RECORDED}/resources?{ARM}&$expand=provisioningState")).await;
    assert_eq!(body["value"][0]["provisioningState"], "Succeeded");
}

#[tokio::test]
async fn long_lists_come_in_pages_that_next_links_lead_through() {
    let arm = Arm::with(Settings { page_size: 2, ..Settings::default() }).await;
    arm.group(RECORDED, "g").await;
    for at in 0..5 {
        arm.put(&twins_url(RECORDED, "g", &format!("twins-{at}"), ""), json!({"location": "eastus"})).await;
    }
    for list in [format!("/subscriptions/{RECORDED}"), format!("/subscriptions/{RECORDED}/resourceGroups/g")]
    {
        let mut next = Some(format!(
            "{list}/providers/Microsoft.DigitalTwins/digitalTwinsInstances?api-version={VERSION}"
        ));
        let (mut names, mut pages) = (Vec::new(), 0);
        while let Some(url) = next {
            let (status, body) = arm.get(&url).await;
            assert_eq!(status, 200);
            names.extend(body["value"].as_array().unwrap().iter().map(|one| one["name"].to_string()));
            next = body["nextLink"].as_str().map(str::to_owned);
            pages += 1;
        }
        assert_eq!((names.len(), pages), (5, 3), "{names:?}");
    }
    let bad = format!(
        "/subscriptions/{RECORDED}/providers/Microsoft.DigitalTwins/digitalTwinsInstances?api-version={VERSION}&$skiptoken=x"
    );
    assert_eq!(arm.get(&bad).await.0, 400);
}

#[tokio::test]
async fn user_assigned_identities_keep_their_ids() {
    let arm = Arm::new().await;
    arm.group(RECORDED, "g").await;
    let url = |name: &str| {
        format!(
            "/subscriptions/{RECORDED}/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities{name}?api-version=2023-01-31"
        )
    };
    let made = arm.put(&url("/user"), json!({"location": "eastus"})).await;
    assert_eq!(made.status, 201);
    let ids = made.body_json()["properties"].clone();
    assert_eq!(arm.put(&url("/USER"), json!({"location": "eastus", "tags": {"a": "b"}})).await.status, 200);
    let patched = arm.patch(&url("/user"), json!({"tags": {"c": "d"}})).await.body_json();
    assert_eq!((&patched["properties"], &patched["tags"]), (&ids, &json!({"c": "d"})));
    assert_eq!(arm.get(&url("")).await.1["value"][0]["properties"], ids);
    assert_eq!(arm.put(&url("/a"), json!({"location": "eastus"})).await.status, 400);
    assert_eq!(arm.delete(&url("/user")).await.status, 200);
    assert_eq!(arm.delete(&url("/user")).await.status, 204);
    assert_eq!(arm.get(&url("/user")).await.0, 404);
}

#[tokio::test]
async fn every_answer_carries_the_headers_of_resource_manager() {
    let arm = Arm::new().await;
    let bearer = format!("Bearer {}", arm.token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-ms-client-request-id", "mine"),
        ("x-ms-return-client-request-id", "true"),
        ("x-ms-correlation-request-id", "together"),
    ];
    for (method, url) in
        [("GET", "/subscriptions?api-version=2022-12-01"), ("PUT", "/nowhere"), ("DELETE", "/subscriptions")]
    {
        let answer = arm.ask(method, url, &headers, "").await;
        uuid::Uuid::parse_str(answer.header_value("x-ms-request-id").unwrap()).unwrap();
        assert_eq!(answer.header_value("x-ms-correlation-request-id"), Some("together"));
        assert_eq!(answer.header_value("x-ms-client-request-id"), Some("mine"));
        for name in [
            "x-ms-routing-request-id",
            "cache-control",
            "pragma",
            "expires",
            "strict-transport-security",
            "x-content-type-options",
            "date",
        ] {
            assert!(answer.header_value(name).is_some(), "{method} {url}: {name}");
        }
    }
}
