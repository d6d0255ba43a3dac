//! Azure Resource Manager over HTTP (arm-and-auth.md §§1–3, iothub-service.md §15, dps.md §5): routes, bearer tokens, api-versions.
//! Holds no rules: a handler parses, calls one operation and writes its answer.

mod api_version;
mod certificates;
mod consumer_groups;
mod digital_twins;
mod endpoints;
mod error;
mod event_hubs;
mod groups;
mod identities;
mod iot_hubs;
mod metadata;
mod operations;
mod parse;
mod private_link;
mod provisioning_services;
mod registry_jobs;
mod resources;
mod roles;
mod route_tests;
mod statistics;
mod storage_accounts;
mod subscriptions;
#[cfg(test)]
mod tests;

mod write;

use access::{Caller, Directory, audiences};
use base::hosts::Dialled;
use resource_manager::ResourceManager;

use crate::router::{Door, Fault, RouteInfo, Routes};
use crate::wire::{Head, Request, Response};
use error::Refusal;

/// The door of Resource Manager.
#[derive(Clone)]
pub struct Management {
    pub manager: ResourceManager,
    pub directory: Directory,
}

/// What a handler knows of its request beside the request itself.
#[derive(Clone)]
pub struct At {
    manager: ResourceManager,
    directory: Directory,
    caller: Caller,
    /// Hosts in answers depend on it.
    dialled: Dialled,
}

type Outcome = Result<Response, Refusal>;

/// Adds a route whose handler answers with an outcome; refusals are written here, once.
macro_rules! route {
    ($routes:expr, $method:literal, $template:expr, $operation:literal, $handler:path) => {
        $routes.on($method, $template, $operation, |door: Management, at: At, request: Request| async move {
            match $handler(at, &request).await {
                Ok(response) => response,
                Err(refusal) => door.write_refusal(&request.head, &refusal),
            }
        })
    };
}

macro_rules! twins {
    ($rest:literal) => {
        concat!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DigitalTwins/digitalTwinsInstances/{name}", $rest)
    };
}

macro_rules! hub {
    ($rest:literal) => {
        concat!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Devices/IotHubs/{name}",
            $rest
        )
    };
}

macro_rules! dps {
    ($rest:literal) => {
        concat!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Devices/provisioningServices/{name}", $rest)
    };
}

macro_rules! namespace {
    ($rest:literal) => {
        concat!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.EventHub/namespaces/{name}", $rest)
    };
}

macro_rules! account {
    ($rest:literal) => {
        concat!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{name}", $rest)
    };
}

macro_rules! identity {
    ($rest:literal) => {
        concat!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities", $rest)
    };
}

impl Door for Management {
    type Context = At;
    const NAME: &'static str = "resource_manager";

    fn routes() -> Routes<Self> {
        foundation_routes()
            .and(digital_twins_routes())
            .and(devices_routes())
            .and(parts_of_devices_routes())
            .and(event_hub_routes())
            .and(storage_routes())
            .and(identity_routes())
            .and(authorization_routes())
            .and(absent_routes())
    }

    /// The token, then the api-version: in this order the front end looks at them.
    /// Clients ask where to log in before they can.
    fn is_open(route: &RouteInfo) -> bool {
        route.template == METADATA
    }

    async fn authenticate(&self, head: &Head, route: &RouteInfo) -> Result<At, Response> {
        self.enter(head, route).await.map_err(|refusal| self.write_refusal(head, &refusal))
    }

    fn refuse(&self, head: &Head, fault: Fault) -> Response {
        let refusal = match fault {
            Fault::UnknownInstance | Fault::UnknownPath => error::unknown_path(head),
            Fault::MethodNotAllowed => Refusal::MethodNotAllowed(head.method.to_string()),
            Fault::Malformed(malformed) => Refusal::content(malformed.text()),
            Fault::NotBuilt { operation } => Refusal::NotBuilt(operation),
            Fault::BodyTooLarge { max_bytes } => Refusal::BodyTooLarge { max_bytes },
            Fault::BodyIncomplete => Refusal::content("The request body ended before it was complete."),
        };
        self.write_refusal(head, &refusal)
    }

    fn finish(&self, head: &Head, response: Response) -> Response {
        write::headers(head, response, self.manager.clock().now())
    }
}

impl Management {
    async fn enter(&self, head: &Head, route: &RouteInfo) -> Result<At, Refusal> {
        let (manager, directory, dialled) = (self.manager.clone(), self.directory.clone(), head.dialled());
        if Self::is_open(route) {
            return Ok(At {
                manager,
                directory,
                caller: Caller::principal("", "", false, Vec::new()),
                dialled,
            });
        }
        let token = head.bearer().ok_or(Refusal::NoToken)?;
        let caller = directory
            .authenticate_bearer(token, audiences::RESOURCE_MANAGER)
            .await
            .map_err(Refusal::Token)?;
        api_version::check(head)?;
        Ok(At { manager, directory, caller, dialled })
    }

    fn write_refusal(&self, head: &Head, refusal: &Refusal) -> Response {
        refusal.answer(head, self.directory.tenant_id())
    }
}

const METADATA: &str = "/metadata/endpoints";

#[rustfmt::skip]
fn foundation_routes() -> Routes<Management> {
    let r = Routes::new();
    let r = route!(r, "GET", METADATA, "Metadata_GetEndpoints", metadata::get);
    let r = route!(r, "GET", "/tenants", "Tenants_List", subscriptions::tenants);
    let r = route!(r, "GET", "/subscriptions", "Subscriptions_List", subscriptions::list);
    let r = route!(r, "GET", "/subscriptions/{subscription}", "Subscriptions_Get", subscriptions::get);
    let r = route!(r, "GET", "/subscriptions/{subscription}/locations", "Subscriptions_ListLocations", subscriptions::locations);
    let r = route!(r, "GET", "/subscriptions/{subscription}/operationresults/{operation}", "Operations_GetResult", operations::group_result);
    let r = route!(r, "GET", "/subscriptions/{subscription}/resources", "Resources_List", groups::resources);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers", "Providers_List", subscriptions::providers);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/{namespace}", "Providers_Get", subscriptions::provider);
    let r = route!(r, "POST", "/subscriptions/{subscription}/providers/{namespace}/register", "Providers_Register", subscriptions::register);
    let r = route!(r, "POST", "/subscriptions/{subscription}/providers/{namespace}/unregister", "Providers_Unregister", subscriptions::unregister);
    let r = route!(r, "GET", "/subscriptions/{subscription}/resourceGroups", "ResourceGroups_List", groups::list);
    let r = route!(r, "HEAD", "/subscriptions/{subscription}/resourceGroups/{group}", "ResourceGroups_CheckExistence", groups::head);
    let r = route!(r, "GET", "/subscriptions/{subscription}/resourceGroups/{group}", "ResourceGroups_Get", groups::get);
    let r = route!(r, "PUT", "/subscriptions/{subscription}/resourceGroups/{group}", "ResourceGroups_CreateOrUpdate", groups::put);
    let r = route!(r, "PATCH", "/subscriptions/{subscription}/resourceGroups/{group}", "ResourceGroups_Update", groups::update);
    let r = route!(r, "DELETE", "/subscriptions/{subscription}/resourceGroups/{group}", "ResourceGroups_Delete", groups::delete);
    route!(r, "GET", "/subscriptions/{subscription}/resourceGroups/{group}/resources", "Resources_ListByResourceGroup", groups::resources_of)
}

#[rustfmt::skip]
fn digital_twins_routes() -> Routes<Management> {
    let r = Routes::new();
    let r = route!(r, "GET", "/providers/Microsoft.DigitalTwins/operations", "Operations_List", digital_twins::operations);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.DigitalTwins/digitalTwinsInstances", "DigitalTwins_List", resources::list);
    let r = route!(r, "POST", "/subscriptions/{subscription}/providers/Microsoft.DigitalTwins/locations/{location}/checkNameAvailability", "DigitalTwins_CheckNameAvailability", digital_twins::check_name);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.DigitalTwins/locations/{location}/operationsStatuses/{operation}", "DigitalTwins_GetOperationStatus", operations::status);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.DigitalTwins/locations/{location}/operationStatuses/{operation}", "DigitalTwins_GetOperationStatus", operations::status);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.DigitalTwins/locations/{location}/operationResults/{result}", "DigitalTwins_GetOperationResult", operations::digital_twins_result);
    let r = route!(r, "GET", "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DigitalTwins/digitalTwinsInstances", "DigitalTwins_ListByResourceGroup", resources::list_of_group);
    let r = route!(r, "GET", twins!(""), "DigitalTwins_Get", resources::get);
    let r = route!(r, "PUT", twins!(""), "DigitalTwins_CreateOrUpdate", digital_twins::put);
    let r = route!(r, "PATCH", twins!(""), "DigitalTwins_Update", digital_twins::update);
    let r = route!(r, "DELETE", twins!(""), "DigitalTwins_Delete", digital_twins::delete);
    let r = route!(r, "GET", twins!("/endpoints"), "DigitalTwinsEndpoint_List", resources::list_children);
    let r = route!(r, "GET", twins!("/endpoints/{endpoint}"), "DigitalTwinsEndpoint_Get", resources::get);
    let r = route!(r, "PUT", twins!("/endpoints/{endpoint}"), "DigitalTwinsEndpoint_CreateOrUpdate", endpoints::put);
    let r = route!(r, "DELETE", twins!("/endpoints/{endpoint}"), "DigitalTwinsEndpoint_Delete", endpoints::delete);
    let r = route!(r, "GET", twins!("/privateLinkResources"), "PrivateLinkResources_List", private_link::list_resources);
    let r = route!(r, "GET", twins!("/privateLinkResources/{resource}"), "PrivateLinkResources_Get", private_link::get_resource);
    let r = route!(r, "GET", twins!("/privateEndpointConnections"), "PrivateEndpointConnections_List", private_link::list);
    let r = route!(r, "GET", twins!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Get", private_link::get);
    let r = route!(r, "PUT", twins!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_CreateOrUpdate", private_link::put);
    route!(r, "DELETE", twins!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Delete", private_link::delete)
}

#[rustfmt::skip]
fn devices_routes() -> Routes<Management> {
    let r = Routes::new();
    let r = route!(r, "GET", "/providers/Microsoft.Devices/operations", "Operations_List", iot_hubs::operations);
    let r = route!(r, "POST", "/subscriptions/{subscription}/providers/Microsoft.Devices/checkNameAvailability", "IotHubResource_CheckNameAvailability", iot_hubs::check_name);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.Devices/IotHubs", "IotHubResource_ListBySubscription", resources::list);
    let r = route!(r, "GET", "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Devices/IotHubs", "IotHubResource_ListByResourceGroup", resources::list_of_group);
    let r = route!(r, "GET", hub!(""), "IotHubResource_Get", resources::get);
    let r = route!(r, "PUT", hub!(""), "IotHubResource_CreateOrUpdate", iot_hubs::put);
    let r = route!(r, "PATCH", hub!(""), "IotHubResource_Update", resources::update_tags);
    let r = route!(r, "DELETE", hub!(""), "IotHubResource_Delete", iot_hubs::delete);
    let r = route!(r, "POST", hub!("/listkeys"), "IotHubResource_ListKeys", iot_hubs::list_keys);
    let r = route!(r, "POST", hub!("/IotHubKeys/{key}/listkeys"), "IotHubResource_GetKeysForKeyName", iot_hubs::get_key);
    let r = route!(r, "GET", hub!("/certificates"), "Certificates_ListByIotHub", certificates::list);
    let r = route!(r, "GET", hub!("/certificates/{certificate}"), "Certificates_Get", certificates::get);
    let r = route!(r, "PUT", hub!("/certificates/{certificate}"), "Certificates_CreateOrUpdate", certificates::put);
    let r = route!(r, "DELETE", hub!("/certificates/{certificate}"), "Certificates_Delete", certificates::delete);
    let r = route!(r, "POST", hub!("/certificates/{certificate}/generateVerificationCode"), "Certificates_GenerateVerificationCode", certificates::generate_verification_code);
    let r = route!(r, "POST", hub!("/certificates/{certificate}/verify"), "Certificates_Verify", certificates::verify);
    let r = route!(r, "GET", hub!("/skus"), "IotHubResource_GetValidSkus", iot_hubs::skus);
    let r = route!(r, "GET", hub!("/operationResults/{operation}"), "IotHubResource_GetOperationResult", operations::devices_result);
    let r = route!(r, "POST", "/subscriptions/{subscription}/providers/Microsoft.Devices/checkProvisioningServiceNameAvailability", "IotDpsResource_CheckProvisioningServiceNameAvailability", provisioning_services::check_name);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.Devices/provisioningServices", "IotDpsResource_ListBySubscription", resources::list);
    let r = route!(r, "GET", "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Devices/provisioningServices", "IotDpsResource_ListByResourceGroup", resources::list_of_group);
    let r = route!(r, "GET", dps!(""), "IotDpsResource_Get", resources::get);
    let r = route!(r, "PUT", dps!(""), "IotDpsResource_CreateOrUpdate", provisioning_services::put);
    let r = route!(r, "PATCH", dps!(""), "IotDpsResource_Update", resources::update_tags);
    let r = route!(r, "DELETE", dps!(""), "IotDpsResource_Delete", provisioning_services::delete);
    let r = route!(r, "POST", dps!("/listkeys"), "IotDpsResource_ListKeys", provisioning_services::list_keys);
    let r = route!(r, "POST", dps!("/keys/{key}/listkeys"), "IotDpsResource_ListKeysForKeyName", provisioning_services::get_key);
    let r = route!(r, "GET", dps!("/certificates"), "DpsCertificate_List", certificates::list);
    let r = route!(r, "GET", dps!("/certificates/{certificate}"), "DpsCertificate_Get", certificates::get);
    let r = route!(r, "PUT", dps!("/certificates/{certificate}"), "DpsCertificate_CreateOrUpdate", certificates::put);
    let r = route!(r, "DELETE", dps!("/certificates/{certificate}"), "DpsCertificate_Delete", certificates::delete);
    let r = route!(r, "POST", dps!("/certificates/{certificate}/generateVerificationCode"), "DpsCertificate_GenerateVerificationCode", certificates::generate_verification_code);
    let r = route!(r, "POST", dps!("/certificates/{certificate}/verify"), "DpsCertificate_VerifyCertificate", certificates::verify);
    let r = route!(r, "GET", dps!("/skus"), "IotDpsResource_ListValidSkus", provisioning_services::skus);
    route!(r, "GET", dps!("/operationResults/{operation}"), "IotDpsResource_GetOperationResult", operations::devices_result)
}

/// What hubs and provisioning services have beside themselves.
#[rustfmt::skip]
fn parts_of_devices_routes() -> Routes<Management> {
    let r = Routes::new();
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.Devices/usages", "ResourceProviderCommon_GetSubscriptionQuota", statistics::usages);
    let r = route!(r, "GET", hub!("/IotHubStats"), "IotHubResource_GetStats", statistics::registry);
    let r = route!(r, "GET", hub!("/quotaMetrics"), "IotHubResource_GetQuotaMetrics", statistics::quotas);
    let r = route!(r, "GET", hub!("/routingEndpointsHealth"), "IotHubResource_GetEndpointHealth", statistics::endpoint_health);
    let r = route!(r, "POST", hub!("/routing/routes/$testall"), "IotHubResource_TestAllRoutes", route_tests::all);
    let r = route!(r, "POST", hub!("/routing/routes/$testnew"), "IotHubResource_TestRoute", route_tests::one);
    let r = route!(r, "POST", hub!("/failover"), "IotHub_ManualFailover", iot_hubs::fail_over);
    let r = route!(r, "GET", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups"), "IotHubResource_ListEventHubConsumerGroups", consumer_groups::list);
    let r = route!(r, "GET", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{group_name}"), "IotHubResource_GetEventHubConsumerGroup", consumer_groups::get);
    let r = route!(r, "PUT", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{group_name}"), "IotHubResource_CreateEventHubConsumerGroup", consumer_groups::put);
    let r = route!(r, "DELETE", hub!("/eventHubEndpoints/{endpoint}/ConsumerGroups/{group_name}"), "IotHubResource_DeleteEventHubConsumerGroup", consumer_groups::delete);
    let r = route!(r, "POST", hub!("/exportDevices"), "IotHubResource_export_devices", registry_jobs::export);
    let r = route!(r, "POST", hub!("/importDevices"), "IotHubResource_import_devices", registry_jobs::import);
    let r = route!(r, "GET", hub!("/jobs"), "IotHubResource_list_jobs", registry_jobs::list);
    let r = route!(r, "GET", hub!("/jobs/{jobId}"), "IotHubResource_get_job", registry_jobs::get);
    let r = route!(r, "GET", hub!("/privateLinkResources"), "PrivateLinkResources_List", private_link::list_resources);
    let r = route!(r, "GET", hub!("/privateLinkResources/{resource}"), "PrivateLinkResources_Get", private_link::get_resource);
    let r = route!(r, "GET", hub!("/privateEndpointConnections"), "PrivateEndpointConnections_List", private_link::list);
    let r = route!(r, "GET", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Get", private_link::get);
    let r = route!(r, "PUT", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Update", private_link::put);
    let r = route!(r, "DELETE", hub!("/privateEndpointConnections/{connection}"), "PrivateEndpointConnections_Delete", private_link::delete);
    let r = route!(r, "GET", dps!("/privateLinkResources"), "IotDpsResource_ListPrivateLinkResources", private_link::list_resources);
    let r = route!(r, "GET", dps!("/privateLinkResources/{resource}"), "IotDpsResource_GetPrivateLinkResources", private_link::get_resource);
    let r = route!(r, "GET", dps!("/privateEndpointConnections"), "IotDpsResource_ListPrivateEndpointConnections", private_link::list);
    let r = route!(r, "GET", dps!("/privateEndpointConnections/{connection}"), "IotDpsResource_GetPrivateEndpointConnection", private_link::get);
    let r = route!(r, "PUT", dps!("/privateEndpointConnections/{connection}"), "IotDpsResource_CreateOrUpdatePrivateEndpointConnection", private_link::put);
    route!(r, "DELETE", dps!("/privateEndpointConnections/{connection}"), "IotDpsResource_DeletePrivateEndpointConnection", private_link::delete)
}

#[rustfmt::skip]
fn event_hub_routes() -> Routes<Management> {
    let r = Routes::new();
    let r = route!(r, "POST", "/subscriptions/{subscription}/providers/Microsoft.EventHub/checkNameAvailability", "Namespaces_CheckNameAvailability", event_hubs::check_name);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.EventHub/namespaces", "Namespaces_List", resources::list);
    let r = route!(r, "GET", "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.EventHub/namespaces", "Namespaces_ListByResourceGroup", resources::list_of_group);
    let r = route!(r, "GET", namespace!(""), "Namespaces_Get", resources::get);
    let r = route!(r, "PUT", namespace!(""), "Namespaces_CreateOrUpdate", event_hubs::put_namespace);
    let r = route!(r, "DELETE", namespace!(""), "Namespaces_Delete", event_hubs::delete_namespace);
    let r = route!(r, "GET", namespace!("/authorizationRules"), "Namespaces_ListAuthorizationRules", event_hubs::list_rules);
    let r = route!(r, "GET", namespace!("/authorizationRules/{rule}"), "Namespaces_GetAuthorizationRule", event_hubs::get_rule);
    let r = route!(r, "PUT", namespace!("/authorizationRules/{rule}"), "Namespaces_CreateOrUpdateAuthorizationRule", event_hubs::put_rule);
    let r = route!(r, "DELETE", namespace!("/authorizationRules/{rule}"), "Namespaces_DeleteAuthorizationRule", event_hubs::delete_rule);
    let r = route!(r, "POST", namespace!("/authorizationRules/{rule}/listKeys"), "Namespaces_ListKeys", event_hubs::list_keys);
    let r = route!(r, "GET", namespace!("/eventhubs"), "EventHubs_ListByNamespace", resources::list_children);
    let r = route!(r, "GET", namespace!("/eventhubs/{event_hub}"), "EventHubs_Get", resources::get);
    let r = route!(r, "PUT", namespace!("/eventhubs/{event_hub}"), "EventHubs_CreateOrUpdate", event_hubs::put);
    let r = route!(r, "DELETE", namespace!("/eventhubs/{event_hub}"), "EventHubs_Delete", event_hubs::delete);
    let r = route!(r, "GET", namespace!("/eventhubs/{event_hub}/authorizationRules"), "EventHubs_ListAuthorizationRules", event_hubs::list_rules);
    let r = route!(r, "GET", namespace!("/eventhubs/{event_hub}/authorizationRules/{rule}"), "EventHubs_GetAuthorizationRule", event_hubs::get_rule);
    let r = route!(r, "PUT", namespace!("/eventhubs/{event_hub}/authorizationRules/{rule}"), "EventHubs_CreateOrUpdateAuthorizationRule", event_hubs::put_rule);
    let r = route!(r, "DELETE", namespace!("/eventhubs/{event_hub}/authorizationRules/{rule}"), "EventHubs_DeleteAuthorizationRule", event_hubs::delete_rule);
    route!(r, "POST", namespace!("/eventhubs/{event_hub}/authorizationRules/{rule}/listKeys"), "EventHubs_ListKeys", event_hubs::list_keys)
}

#[rustfmt::skip]
fn storage_routes() -> Routes<Management> {
    let r = Routes::new();
    let r = route!(r, "POST", "/subscriptions/{subscription}/providers/Microsoft.Storage/checkNameAvailability", "StorageAccounts_CheckNameAvailability", storage_accounts::check_name);
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.Storage/storageAccounts", "StorageAccounts_List", resources::list);
    let r = route!(r, "GET", "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts", "StorageAccounts_ListByResourceGroup", resources::list_of_group);
    let r = route!(r, "GET", account!(""), "StorageAccounts_GetProperties", resources::get);
    let r = route!(r, "PUT", account!(""), "StorageAccounts_Create", storage_accounts::put);
    let r = route!(r, "PATCH", account!(""), "StorageAccounts_Update", resources::update_tags);
    let r = route!(r, "DELETE", account!(""), "StorageAccounts_Delete", storage_accounts::delete);
    let r = route!(r, "POST", account!("/listKeys"), "StorageAccounts_ListKeys", storage_accounts::list_keys);
    route!(r, "POST", account!("/regenerateKey"), "StorageAccounts_RegenerateKey", storage_accounts::regenerate_key)
}

#[rustfmt::skip]
fn identity_routes() -> Routes<Management> {
    let r = Routes::new();
    let r = route!(r, "GET", "/subscriptions/{subscription}/providers/Microsoft.ManagedIdentity/userAssignedIdentities", "UserAssignedIdentities_ListBySubscription", resources::list);
    let r = route!(r, "GET", identity!(""), "UserAssignedIdentities_ListByResourceGroup", resources::list_of_group);
    let r = route!(r, "GET", identity!("/{name}"), "UserAssignedIdentities_Get", resources::get);
    let r = route!(r, "PUT", identity!("/{name}"), "UserAssignedIdentities_CreateOrUpdate", identities::put);
    let r = route!(r, "PATCH", identity!("/{name}"), "UserAssignedIdentities_Update", resources::update_tags);
    route!(r, "DELETE", identity!("/{name}"), "UserAssignedIdentities_Delete", identities::delete)
}

/// What Resource Manager of Azure has and ours does not yet. Each line goes when its operation comes.
#[rustfmt::skip]
fn absent_routes() -> Routes<Management> {
    Routes::new()
        .lacks("GET", twins!("/timeSeriesDatabaseConnections"), "TimeSeriesDatabaseConnections_List")
        .lacks("DELETE", twins!("/timeSeriesDatabaseConnections/{timeSeriesDatabaseConnectionName}"), "TimeSeriesDatabaseConnections_Delete")
        .lacks("GET", twins!("/timeSeriesDatabaseConnections/{timeSeriesDatabaseConnectionName}"), "TimeSeriesDatabaseConnections_Get")
        .lacks("PUT", twins!("/timeSeriesDatabaseConnections/{timeSeriesDatabaseConnectionName}"), "TimeSeriesDatabaseConnections_CreateOrUpdate")
}

#[rustfmt::skip]
fn authorization_routes() -> Routes<Management> {
    let r = Routes::new();
    let r = route!(
        r,
        "GET",
        "/{*scope}/providers/Microsoft.Authorization/roleDefinitions",
        "RoleDefinitions_List",
        roles::list_definitions
    );
    let r = route!(
        r,
        "GET",
        "/{*scope}/providers/Microsoft.Authorization/roleDefinitions/{definition}",
        "RoleDefinitions_Get",
        roles::get_definition
    );
    let r = route!(
        r,
        "GET",
        "/{*scope}/providers/Microsoft.Authorization/roleAssignments",
        "RoleAssignments_ListForScope",
        roles::list
    );
    let r = route!(
        r,
        "GET",
        "/{*scope}/providers/Microsoft.Authorization/roleAssignments/{assignment}",
        "RoleAssignments_Get",
        roles::get
    );
    let r = route!(
        r,
        "PUT",
        "/{*scope}/providers/Microsoft.Authorization/roleAssignments/{assignment}",
        "RoleAssignments_Create",
        roles::put
    );
    route!(
        r,
        "DELETE",
        "/{*scope}/providers/Microsoft.Authorization/roleAssignments/{assignment}",
        "RoleAssignments_Delete",
        roles::delete
    )
}
