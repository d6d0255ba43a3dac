//! One call of every operation of this door, held against the routes: what is said of all of them leaves none out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::*;
use crate::router::Door;

/// An endpoint that leads outside.
pub(super) const CONNECTION_STRING: &str =
    "Endpoint=sb://ns.example.com/;SharedAccessKeyName=n;SharedAccessKey=k=;EntityPath=e";

/// Who may make a call at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenTo {
    /// Whoever has a role that names the action.
    Roles,
    /// Whoever has any role in the subscription; what is told is what that role sees.
    AnyRole,
    /// Whoever has a token; a list holds what its bearer sees.
    AnyToken,
}

/// A request that the owner of everything may make.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) url: String,
    pub(super) body: Value,
    pub(super) open: OpenTo,
    /// The operation whose state is asked for is one that never was, or what is changed.
    pub(super) is_not_there: bool,
    /// With what that is answered.
    pub(super) status_not_there: u16,
    /// What is there already is left alone without `If-Match`.
    pub(super) is_guarded: bool,
}

impl Call {
    pub(super) fn body_text(&self) -> String {
        if self.body.is_null() { String::new() } else { self.body.to_string() }
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    /// Whether the body is read at all: actions such as `listkeys` take none.
    pub(super) fn has_body(&self) -> bool {
        self.body.as_object().is_some_and(|members| !members.is_empty()) || self.method == "PATCH"
    }

    pub(super) fn path(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}

struct Calls {
    all: Vec<Call>,
    base: String,
    version: &'static str,
    open: OpenTo,
}

impl Calls {
    /// The calls that follow are below this path, at this api-version.
    fn below(&mut self, base: String, version: &'static str, open: OpenTo) {
        (self.base, self.version, self.open) = (base, version, open);
    }

    fn add(&mut self, method: &'static str, rest: &str, body: Value) {
        let url = format!("{}{rest}?api-version={}", self.base, self.version);
        let (open, is_not_there, status_not_there, is_guarded) = (self.open, false, 404, false);
        self.all.push(Call { method, url, body, open, is_not_there, status_not_there, is_guarded });
    }

    fn get(&mut self, rest: &str) {
        self.add("GET", rest, Value::Null);
    }

    /// The state of operations is open to whoever is in the subscription: their ids cannot be guessed.
    fn get_what_never_was(&mut self, rest: &str) {
        self.get(rest);
        let call = self.all.last_mut().unwrap();
        (call.is_not_there, call.open) = (true, OpenTo::AnyRole);
    }

    /// The last call added needs `If-Match`.
    fn guarded(&mut self) {
        self.all.last_mut().unwrap().is_guarded = true;
    }

    fn put(&mut self, rest: &str, body: Value) {
        self.add("PUT", rest, body);
    }

    fn post(&mut self, rest: &str, body: Value) {
        self.add("POST", rest, body);
    }

    fn patch_tags(&mut self) {
        self.add("PATCH", "", json!({"tags": {}}));
    }

    fn delete(&mut self, rest: &str) {
        self.add("DELETE", rest, Value::Null);
    }
}

/// Every operation once, in an order in which each finds what it needs and nothing is left in the end.
pub(super) fn calls(group: &str, instance: &str) -> Vec<Call> {
    let mut calls = Calls { all: Vec::new(), base: String::new(), version: "", open: OpenTo::Roles };
    let subscription = format!("/subscriptions/{RECORDED}");
    let in_group = format!("{subscription}/resourceGroups/{group}");
    foundation(&mut calls, &subscription, &in_group);
    identities(&mut calls, &subscription, &in_group, instance);
    digital_twins(&mut calls, &subscription, &in_group, instance);
    hubs(&mut calls, &subscription, &in_group, instance);
    provisioning(&mut calls, &subscription, &in_group, instance);
    event_hubs(&mut calls, &subscription, &in_group, instance);
    storage_accounts(&mut calls, &subscription, &in_group, instance);
    authorization(&mut calls, &in_group, instance);
    calls.below(in_group, RESOURCES_VERSION, OpenTo::Roles);
    calls.delete("");
    calls.all
}

const RESOURCES_VERSION: &str = "2024-11-01";
/// An operation that never was.
const NO_OPERATION: &str = "11111111-2222-3333-4444-555555555555";

fn located() -> Value {
    json!({"location": "eastus"})
}

/// With a private endpoint connection, which only a PUT of its resource makes.
fn located_with_sku() -> Value {
    json!({"location": "eastus", "sku": {"name": "S1"}, "properties": {
        "privateEndpointConnections": [{"name": "one", "properties": connection_state()}]
    }})
}

fn connection_state() -> Value {
    json!({"privateLinkServiceConnectionState": {"status": "Approved", "description": "d"}})
}

fn private_link(calls: &mut Calls, group: &str) {
    for rest in ["/privateLinkResources", "/privateEndpointConnections", "/privateEndpointConnections/one"] {
        calls.get(rest);
    }
    calls.get(&format!("/privateLinkResources/{group}"));
    calls.put("/privateEndpointConnections/one", json!({"properties": connection_state()}));
    calls.delete("/privateEndpointConnections/one");
}

fn name_check(kind: &str) -> Value {
    json!({"name": "free-name", "type": kind})
}

fn foundation(calls: &mut Calls, subscription: &str, in_group: &str) {
    calls.below(String::new(), RESOURCES_VERSION, OpenTo::AnyToken);
    calls.get("/tenants");
    calls.get("/subscriptions");
    calls.below(subscription.to_owned(), RESOURCES_VERSION, OpenTo::AnyRole);
    for rest in ["", "/locations", "/resources", "/providers", "/providers/Microsoft.Devices"] {
        calls.get(rest);
    }
    calls.get_what_never_was(&format!("/operationresults/{NO_OPERATION}"));
    calls.below(subscription.to_owned(), RESOURCES_VERSION, OpenTo::Roles);
    calls.post("/providers/Microsoft.Authorization/unregister", Value::Null);
    calls.post("/providers/Microsoft.Authorization/register", Value::Null);
    calls.get("/resourcegroups");
    calls.below(in_group.to_owned(), RESOURCES_VERSION, OpenTo::Roles);
    calls.put("", located());
    calls.patch_tags();
    calls.get("");
    calls.add("HEAD", "", Value::Null);
    calls.get("/resources");
}

fn identities(calls: &mut Calls, subscription: &str, in_group: &str, instance: &str) {
    const VERSION: &str = "2023-01-31";
    let provider = "/providers/Microsoft.ManagedIdentity/userAssignedIdentities";
    calls.below(format!("{subscription}{provider}"), VERSION, OpenTo::Roles);
    calls.get("");
    calls.below(format!("{in_group}{provider}"), VERSION, OpenTo::Roles);
    calls.get("");
    calls.below(format!("{in_group}{provider}/user-{instance}"), VERSION, OpenTo::Roles);
    calls.put("", located());
    calls.patch_tags();
    calls.get("");
    calls.delete("");
}

fn digital_twins(calls: &mut Calls, subscription: &str, in_group: &str, instance: &str) {
    let provider = "/providers/Microsoft.DigitalTwins";
    let state = connection_state();
    calls.below(provider.to_owned(), VERSION, OpenTo::AnyToken);
    calls.get("/operations");
    calls.below(format!("{subscription}{provider}"), VERSION, OpenTo::Roles);
    calls.get("/digitalTwinsInstances");
    let kind = "Microsoft.DigitalTwins/digitalTwinsInstances";
    calls.post("/locations/eastus/checkNameAvailability", name_check(kind));
    for status in ["operationsStatuses", "operationStatuses"] {
        calls.get_what_never_was(&format!("/locations/eastus/{status}/{NO_OPERATION}"));
    }
    calls.below(format!("{in_group}{provider}/digitalTwinsInstances"), VERSION, OpenTo::Roles);
    calls.get("");
    calls.below(format!("{in_group}{provider}/digitalTwinsInstances/{instance}"), VERSION, OpenTo::Roles);
    let connections = json!([{"name": "one", "properties": state}]);
    calls.put("", json!({"location": "eastus", "properties": {"privateEndpointConnections": connections}}));
    calls.patch_tags();
    calls.get("");
    private_link(calls, "API");
    let target = json!({"endpointType": "ServiceBus", "primaryConnectionString": CONNECTION_STRING});
    calls.put("/endpoints/abc", json!({"properties": target}));
    calls.get("/endpoints/abc");
    calls.get("/endpoints");
    calls.delete("/endpoints/abc");
    let (base, group) = (calls.base.clone(), in_group.rsplit('/').next().unwrap());
    calls.below(format!("{subscription}{provider}"), VERSION, OpenTo::Roles);
    let result = json!({"operationKind": "Create", "resourceKind": "DigitalTwinsInstance", "resourceGroupName": group, "resourceName": instance});
    calls.get(&format!(
        "/locations/eastus/operationResults/{}",
        STANDARD_NO_PAD.encode(result.to_string()).replace('+', "-").replace('/', "_")
    ));
    calls.below(base, VERSION, OpenTo::Roles);
    calls.delete("");
}

fn hubs(calls: &mut Calls, subscription: &str, in_group: &str, instance: &str) {
    const VERSION: &str = "2023-06-30";
    let provider = "/providers/Microsoft.Devices";
    calls.below(provider.to_owned(), VERSION, OpenTo::AnyToken);
    calls.get("/operations");
    calls.below(format!("{subscription}{provider}"), VERSION, OpenTo::Roles);
    calls.get("/IotHubs");
    calls.get("/usages");
    calls.post("/checkNameAvailability", name_check("IotHub"));
    calls.below(format!("{in_group}{provider}/IotHubs"), VERSION, OpenTo::Roles);
    calls.get("");
    calls.below(format!("{in_group}{provider}/IotHubs/hub-{instance}"), VERSION, OpenTo::Roles);
    calls.put("", located_with_sku());
    calls.patch_tags();
    calls.get("");
    calls.get("/skus");
    calls.get_what_never_was(&format!("/operationResults/{NO_OPERATION}"));
    calls.post("/listkeys", Value::Null);
    calls.post("/IotHubKeys/service/listkeys", Value::Null);
    certificates(calls);
    private_link(calls, "iotHub");
    for rest in ["/IotHubStats", "/quotaMetrics", "/routingEndpointsHealth"] {
        calls.get(rest);
    }
    let groups = "/eventHubEndpoints/events/ConsumerGroups";
    calls.put(&format!("{groups}/reports"), json!({"properties": {"name": "reports"}}));
    calls.get(&format!("{groups}/reports"));
    calls.get(groups);
    calls.delete(&format!("{groups}/reports"));
    calls.post(
        "/routing/routes/$testall",
        json!({"routingSource": "DeviceMessages", "message": {"body": "b"}}),
    );
    calls.post("/routing/routes/$testnew", json!({"route": {"condition": "true"}, "message": {"body": "b"}}));
    registry_jobs(calls);
    calls.post("/failover", json!({"failoverRegion": "West US"}));
    calls.delete("");
}

/// No container is reached from here, which is told before there is a job.
fn registry_jobs(calls: &mut Calls) {
    let uri = "https://account.example/files?sig=x";
    calls.post("/exportDevices", json!({"exportBlobContainerUri": uri, "excludeKeys": true}));
    calls.post("/importDevices", json!({"inputBlobContainerUri": uri, "outputBlobContainerUri": uri}));
    for call in calls.all.iter_mut().rev().take(2) {
        (call.is_not_there, call.status_not_there) = (true, 400);
    }
    calls.get("/jobs");
    calls.get(&format!("/jobs/{NO_OPERATION}"));
    calls.all.last_mut().unwrap().is_not_there = true;
}

fn certificates(calls: &mut Calls) {
    calls.put("/certificates/ca", json!({"certificate": certificate("ca")}));
    calls.guarded();
    calls.get("/certificates/ca");
    calls.get("/certificates");
    calls.post("/certificates/ca/generateVerificationCode", Value::Null);
    calls.guarded();
    // A proof needs a code that nobody knows before.
    calls.post("/certificates/other/verify", json!({"certificate": certificate("ca")}));
    calls.guarded();
    calls.all.last_mut().unwrap().is_not_there = true;
    calls.delete("/certificates/ca");
    calls.guarded();
}

fn provisioning(calls: &mut Calls, subscription: &str, in_group: &str, instance: &str) {
    const VERSION: &str = "2021-10-15";
    let provider = "/providers/Microsoft.Devices";
    calls.below(format!("{subscription}{provider}"), VERSION, OpenTo::Roles);
    calls.get("/provisioningServices");
    calls.post("/checkProvisioningServiceNameAvailability", name_check("ProvisioningService"));
    calls.below(format!("{in_group}{provider}/provisioningServices"), VERSION, OpenTo::Roles);
    calls.get("");
    calls.below(format!("{in_group}{provider}/provisioningServices/dps-{instance}"), VERSION, OpenTo::Roles);
    calls.put("", located_with_sku());
    calls.patch_tags();
    calls.get("");
    calls.get("/skus");
    calls.get_what_never_was(&format!("/operationResults/{NO_OPERATION}"));
    calls.post("/listkeys", Value::Null);
    calls.post("/keys/provisioningserviceowner/listkeys", Value::Null);
    certificates(calls);
    private_link(calls, "iotDps");
    calls.delete("");
}

fn event_hubs(calls: &mut Calls, subscription: &str, in_group: &str, instance: &str) {
    const VERSION: &str = "2024-01-01";
    let provider = "/providers/Microsoft.EventHub";
    calls.below(format!("{subscription}{provider}"), VERSION, OpenTo::Roles);
    calls.get("/namespaces");
    calls.post("/checkNameAvailability", name_check("Namespace"));
    calls.below(format!("{in_group}{provider}/namespaces"), VERSION, OpenTo::Roles);
    calls.get("");
    calls.below(format!("{in_group}{provider}/namespaces/ns-{instance}"), VERSION, OpenTo::Roles);
    calls.put("", located());
    calls.get("");
    calls.put("/eventhubs/events", json!({"properties": {"partitionCount": 2}}));
    calls.get("/eventhubs/events");
    calls.get("/eventhubs");
    for owner in ["", "/eventhubs/events"] {
        let rule = format!("{owner}/authorizationRules/rule");
        calls.put(&rule, json!({"properties": {"rights": ["Listen"]}}));
        calls.get(&rule);
        calls.get(&format!("{owner}/authorizationRules"));
        calls.post(&format!("{rule}/listKeys"), Value::Null);
        calls.delete(&rule);
    }
    calls.delete("/eventhubs/events");
    calls.delete("");
}

fn storage_accounts(calls: &mut Calls, subscription: &str, in_group: &str, instance: &str) {
    const VERSION: &str = "2023-05-01";
    let provider = "/providers/Microsoft.Storage";
    calls.below(format!("{subscription}{provider}"), VERSION, OpenTo::Roles);
    calls.get("/storageAccounts");
    calls.post("/checkNameAvailability", name_check("Microsoft.Storage/storageAccounts"));
    calls.below(format!("{in_group}{provider}/storageAccounts"), VERSION, OpenTo::Roles);
    calls.get("");
    let name = instance.replace('-', "").to_ascii_lowercase();
    calls.below(format!("{in_group}{provider}/storageAccounts/files{name}"), VERSION, OpenTo::Roles);
    calls.put("", located());
    calls.get("");
    calls.add("PATCH", "", json!({"tags": {"a": "b"}}));
    calls.post("/listKeys", Value::Null);
    calls.post("/regenerateKey", json!({"keyName": "key1"}));
    calls.delete("");
}

fn authorization(calls: &mut Calls, in_group: &str, instance: &str) {
    const VERSION: &str = "2022-04-01";
    let definitions = "/providers/Microsoft.Authorization/roleDefinitions";
    calls.below(String::new(), VERSION, OpenTo::AnyToken);
    calls.get(definitions);
    calls.get(&format!("{definitions}/{}", roles::READER));
    calls.below(in_group.to_owned(), VERSION, OpenTo::Roles);
    calls.get(definitions);
    calls.get(&format!("{definitions}/{}", roles::READER));
    let assignments = "/providers/Microsoft.Authorization/roleAssignments";
    // A GUID of its own for each place.
    let place: usize = in_group.bytes().chain(instance.bytes()).map(usize::from).sum();
    let assignment = format!("{assignments}/00000000-0000-0000-0000-{place:012}");
    calls.put(
        &assignment,
        json!({"properties": {
            "roleDefinitionId": format!("{definitions}/{}", roles::READER),
            "principalId": "44444444-4444-4444-4444-444444444444",
            "principalType": "ServicePrincipal"
        }}),
    );
    calls.get(&assignment);
    calls.get(assignments);
    calls.delete(&assignment);
}

/// A server on which everything is that the calls speak of.
pub(super) async fn with_everything() -> Arm {
    let arm = Arm::new().await;
    for call in calls("g", "all").iter().filter(|call| call.method == "PUT") {
        let answer = arm.call(call).await;
        assert!(answer.status.is_success(), "{} {answer:?}", call.url);
        arm.settle().await;
    }
    arm
}

/// All that a change would show in.
pub(super) async fn snapshot(arm: &Arm) -> Value {
    let mut seen = Vec::new();
    for call in calls("g", "all").iter().filter(|call| call.method == "GET" && !call.is_not_there) {
        seen.push(json!([call.url, arm.get(&call.url).await.1]));
    }
    for call in
        calls("g", "all").iter().filter(|call| call.url.contains("listKeys") || call.url.contains("listkeys"))
    {
        seen.push(json!([call.url, arm.call(call).await.body_json()]));
    }
    Value::Array(seen)
}

impl Arm {
    pub(super) async fn call(&self, call: &Call) -> Response {
        self.call_with(call, &call.body_text()).await
    }

    pub(super) async fn call_with(&self, call: &Call, body: &str) -> Response {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("if-match", "*")];
        let headers = if call.is_guarded { &headers[..] } else { &headers[..1] };
        self.ask(call.method, &call.url, headers, body).await
    }
}

/// Whether a path is one that the template describes. A rest at its beginning may stand for nothing.
fn is_of(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    let same =
        |(wanted, given): (&&str, &&str)| wanted.starts_with('{') || wanted.eq_ignore_ascii_case(given);
    match template.as_slice() {
        ["", rest, fixed @ ..] if rest.starts_with("{*") => {
            path.len() > fixed.len() && fixed.iter().rev().zip(path.iter().rev()).all(same)
        }
        _ => template.len() == path.len() && template.iter().zip(&path).all(same),
    }
}

#[test]
fn every_route_is_called() {
    let calls = calls("g", "all");
    let is_called = |route: &crate::router::RouteInfo| {
        calls.iter().any(|call| call.method == route.method && is_of(route.template, call.path()))
    };
    // Clients ask for the metadata before they can log in.
    let left_out: Vec<_> = Management::routes()
        .describe()
        .filter(|route| route.is_built && route.template != super::super::METADATA && !is_called(route))
        .map(|route| format!("{} {}", route.method, route.template))
        .collect();
    assert!(left_out.is_empty(), "not in the list of calls:\n{}", left_out.join("\n"));
}

#[tokio::test]
async fn every_operation_works_for_the_owner_in_this_order() {
    let arm = Arm::new().await;
    for call in calls("g", "all") {
        let answer = arm.call(&call).await;
        let is_right = if call.is_not_there {
            answer.status == call.status_not_there
        } else {
            answer.status.is_success()
        };
        assert!(is_right, "{} {} {answer:?}", call.method, call.url);
        arm.settle().await;
    }
    for list in ["resourcegroups", "resources"] {
        let url = format!("/subscriptions/{RECORDED}/{list}?api-version={RESOURCES_VERSION}");
        assert_eq!(arm.get(&url).await.1["value"], json!([]), "{list}");
    }
}
