//! The routes against the published list, and what is none of them.

use access::Permission;

use super::fixture::*;
use crate::hub::HubDoor;
use crate::router::{Door, RouteInfo};
use crate::websocket;

#[tokio::test]
async fn an_api_version_is_a_date_whichever() {
    let test = TestDoor::new().await;
    for version in ["2016-11-14", "2018-06-30", "2020-05-31-preview", "2021-04-12", "2024-03-31"] {
        let ask = test.ask("GET", "/twins/dev1", "").by_owner().query(&format!("API-Version={version}"));
        ask.send().await.status_is(200);
    }
    for query in
        ["", "api-version=", "api-version=latest", "api-version=2021-4-12", "api-version=2021-04-12-beta"]
    {
        let response = test.ask("GET", "/twins/dev1", "").by_owner().query(query).send().await;
        response.refused(400, "InvalidProtocolVersion");
        assert_eq!(test.ask("GET", "/twins/dev1", "").query(query).send().await.status.as_u16(), 401);
    }
}

#[tokio::test]
async fn unknown_paths_methods_and_hubs_are_refused_and_at_a_foreign_host_the_default_hub_answers() {
    let test = TestDoor::new().await;
    test.owner("GET", "/nowhere", "").await.refused(404, "GenericNotFound");
    test.owner("GET", "/devices/dev1/modules/mod1/more", "").await.refused(404, "GenericNotFound");
    test.owner("DELETE", "/twins/dev1", "").await.refused(405, "GenericMethodNotAllowed");
    let at = async |host: &str| test.ask("GET", "/devices", "").by_owner().at(host).send().await;
    at("other.azure-devices.localhost").await.refused(404, "IotHubNotFound");
    at("other.azure-devices.net").await.status_is(200);
}

/// Those are not in the published list, and take other credentials: `device_messages` tries them, and `tests/hosts.rs` a WebSocket.
fn is_for_devices(route: &RouteInfo) -> bool {
    route.permission == Some(Permission::DeviceConnect) || route.operation == websocket::OPERATION
}

/// Azure has them for its own clients, and lists feedback alone.
fn is_unpublished(route: &RouteInfo) -> bool {
    route.template.starts_with("/messages/serviceBound/filenotifications")
}

#[test]
fn every_route_is_an_operation_of_the_published_list() {
    let Some(published) = test_data::shared_json("spec/openapi/iothub/service-2021-04-12.json") else {
        return;
    };
    let is_published = |route: &RouteInfo| route.is_built && !is_for_devices(route) && !is_unpublished(route);
    for route in HubDoor::routes().describe().filter(is_published) {
        let shape = |path: &str| -> Vec<String> {
            path.split('/')
                .map(|part| if part.starts_with('{') { "{}".into() } else { part.to_owned() })
                .collect()
        };
        let paths = published["paths"].as_object().unwrap();
        let found = paths.iter().find(|(path, methods)| {
            shape(path) == shape(route.template) && methods.get(route.method.to_ascii_lowercase()).is_some()
        });
        let (_, methods) =
            found.unwrap_or_else(|| panic!("{} {} is not published", route.method, route.template));
        assert_eq!(methods[route.method.to_ascii_lowercase()]["operationId"], route.operation);
    }
}

#[test]
fn every_route_is_tried_with_whatever_is_refused() {
    let fits = |path: &str, template: &str| {
        let (path, template) = (path.split('/'), template.split('/'));
        path.clone().count() == template.clone().count()
            && path.zip(template).all(|(given, wanted)| wanted.starts_with('{') || given == wanted)
    };
    // A path that is a template as it stands is of that route alone.
    let is_named = |path: &str| HubDoor::routes().describe().any(|route| route.template == path);
    for route in HubDoor::routes().describe().filter(|route| route.is_built && !is_for_devices(route)) {
        let fits = |path: &str| fits(path, route.template) && (path == route.template || !is_named(path));
        let tried = OPERATIONS.iter().filter(|(method, path, _)| *method == route.method && fits(path));
        assert_eq!(tried.count(), 1, "{} {}", route.method, route.template);
    }
}
