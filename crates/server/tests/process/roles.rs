//! What the first principal may do, over the life of instances and of the server.

use super::*;

const DIGITAL_TWINS: &str = "https://digitaltwins.azure.net";
const HUB: &str = "https://iothubs.azure.net";

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_first_principal_may_use_an_instance_that_it_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let (variables, manage) = log_in(directory.path()).await;
    let data = token_for(directory.path(), &variables, DIGITAL_TWINS).await;
    let https = client(directory.path());
    let models = async |base: &str| {
        let url = format!("{base}/models?api-version=2023-10-31");
        https.send("GET", &url, &[("authorization", data.as_str())], "").await.unwrap().status
    };
    assert_eq!(models(&variables["AZURE_DIGITALTWINS_URL"]).await, 200);
    let url = server.url(&format!(
        "/subscriptions/{}/resourceGroups/twinhub/providers/Microsoft.DigitalTwins/digitalTwinsInstances/twins?api-version=2023-01-31",
        variables["AZURE_SUBSCRIPTION_ID"]
    ));
    let headers = [("authorization", manage.as_str()), ("content-type", "application/json")];
    https.ask("DELETE", &url, &headers, "").await.unwrap();
    while https.send("GET", &url, &headers, "").await.unwrap().status != 404 {
        // Another process's clock: only waiting moves it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    https.ask("PUT", &url, &headers, "{\"location\": \"eastus\"}").await.unwrap();
    let host = loop {
        let properties = https.ask("GET", &url, &headers, "").await.unwrap().json()["properties"].clone();
        if properties["provisioningState"] == "Succeeded" {
            break properties["hostName"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(models(&format!("https://{host}")).await, 200);
}

#[tokio::test]
async fn a_role_that_was_taken_from_the_first_principal_stays_away_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let https = client(directory.path());
    let devices = async |server: &Server| {
        let variables = environment(directory.path());
        let token = token_for(directory.path(), &variables, HUB).await;
        let url = server.url("/devices?api-version=2021-04-12");
        https.send("GET", &url, &[("authorization", token.as_str())], "").await.unwrap().status
    };
    assert_eq!(devices(&server).await, 200);
    let (variables, manage) = log_in(directory.path()).await;
    let headers = [("authorization", manage.as_str())];
    let roles = format!(
        "/subscriptions/{}/providers/Microsoft.Authorization/roleAssignments",
        variables["AZURE_SUBSCRIPTION_ID"]
    );
    let list = server.url(&format!("{roles}?api-version=2022-04-01"));
    let held = https.ask("GET", &list, &headers, "").await.unwrap().json()["value"].clone();
    // IoT Hub Data Contributor.
    let is_it = |one: &&serde_json::Value| {
        one["properties"]["roleDefinitionId"]
            .as_str()
            .unwrap()
            .ends_with("4fc6c259-987e-4a07-842e-c321cc9d413f")
    };
    let id = held.as_array().unwrap().iter().find(is_it).unwrap()["id"].as_str().unwrap().to_owned();
    let url = server.url(&format!("{id}?api-version=2022-04-01"));
    https.ask("DELETE", &url, &headers, "").await.unwrap();
    assert_eq!(devices(&server).await, 401);
    assert!(server.terminate().success());
    let again = Server::start(directory.path());
    assert_eq!(devices(&again).await, 401);
}
