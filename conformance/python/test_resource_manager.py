"""Management of resources, through the Python management SDKs."""

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.digitaltwins import AzureDigitalTwinsManagementClient
from azure.mgmt.digitaltwins import models as dt
from azure.mgmt.iothub import IotHubClient
from azure.mgmt.iothubprovisioningservices import IotDpsClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.iot.hub import IoTHubRegistryManager


@pytest.fixture(scope="module")
def options(scenario):
    return {"base_url": scenario["endpoint"], "credential_scopes": [scenario["audience"] + "/.default"]}


@pytest.fixture(scope="module")
def twins(credential, scenario, options):
    return AzureDigitalTwinsManagementClient(credential, scenario["subscription"], **options)


def test_an_instance_is_created_changed_listed_and_deleted(twins, scenario, name, credential):
    name, group = name[-30:].strip("-"), scenario["group"]
    free = twins.digital_twins.check_name_availability("eastus", dt.CheckNameRequest(name=name, type="Microsoft.DigitalTwins/digitalTwinsInstances"))
    assert free.name_available
    created = twins.digital_twins.begin_create_or_update(
        group, name, dt.DigitalTwinsDescription(location="eastus", tags={"a": "1"}, identity=dt.DigitalTwinsIdentity(type="SystemAssigned"))
    ).result()
    assert created.provisioning_state == "Succeeded" and created.identity.principal_id and created.host_name
    updated = twins.digital_twins.begin_update(group, name, dt.DigitalTwinsPatchDescription(tags={"b": "2"})).result()
    assert updated.tags == {"b": "2"}
    assert name in [i.name for i in twins.digital_twins.list()]
    assert name in [i.name for i in twins.digital_twins.list_by_resource_group(group)]
    twins.digital_twins.begin_delete(group, name).result()
    with pytest.raises(ResourceNotFoundError):
        twins.digital_twins.get(group, name)


def test_endpoints_of_each_kind_are_stored_and_masked(twins, scenario, name):
    instance, group = name[-30:].strip("-"), scenario["group"]
    twins.digital_twins.begin_create_or_update(
        group, instance, dt.DigitalTwinsDescription(location="westeurope", identity=dt.DigitalTwinsIdentity(type="SystemAssigned"))
    ).result()
    secret = "Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0;EntityPath=e"
    kinds = {
        "hub": dt.EventHub(authentication_type="KeyBased", connection_string_primary_key=secret, connection_string_secondary_key=secret),
        "bus": dt.ServiceBus(authentication_type="KeyBased", primary_connection_string=secret, secondary_connection_string=secret),
        "grid": dt.EventGrid(authentication_type="KeyBased", topic_endpoint="https://t.eastus-1.eventgrid.azure.net/api/events", access_key1="one", access_key2="two"),
        "hubid": dt.EventHub(authentication_type="IdentityBased", endpoint_uri="sb://n.servicebus.windows.net", entity_path="e"),
        "busid": dt.ServiceBus(authentication_type="IdentityBased", endpoint_uri="sb://n.servicebus.windows.net", entity_path="t"),
    }
    for endpoint, properties in kinds.items():
        made = twins.digital_twins_endpoint.begin_create_or_update(
            group, instance, endpoint, dt.DigitalTwinsEndpointResource(properties=properties)
        ).result()
        assert made.properties.provisioning_state == "Succeeded"
        assert "c2VjcmV0" not in str(made.serialize(keep_readonly=True))
    assert {e.name for e in twins.digital_twins_endpoint.list(group, instance)} == set(kinds)
    with pytest.raises(HttpResponseError) as refused:
        twins.digital_twins_endpoint.begin_create_or_update(
            group, instance, "bad", dt.DigitalTwinsEndpointResource(properties=dt.EventHub(authentication_type="KeyBased"))
        ).result()
    assert refused.value.status_code == 400
    twins.digital_twins_endpoint.begin_delete(group, instance, "grid").result()
    assert "grid" not in {e.name for e in twins.digital_twins_endpoint.list(group, instance)}
    twins.digital_twins.begin_delete(group, instance).result()


def test_a_second_hub_is_a_hub_of_its_own(credential, scenario, options, name, registry):
    name, group = "hub" + name[-8:], scenario["group"]
    hubs = IotHubClient(credential, scenario["subscription"], **options)
    hub = hubs.iot_hub_resource.begin_create_or_update(group, name, {"location": "westus", "sku": {"name": "S1", "capacity": 1}}).result()
    owner = next(k for k in hubs.iot_hub_resource.list_keys(group, name) if k.key_name == "iothubowner")
    second = IoTHubRegistryManager.from_connection_string(
        f"HostName={hub.properties.host_name};SharedAccessKeyName=iothubowner;SharedAccessKey={owner.primary_key}"
    )
    second.create_device_with_sas("only-here", owner.primary_key, owner.primary_key, "enabled")
    assert second.get_device("only-here").device_id == "only-here"
    with pytest.raises(Exception):
        registry.get_device("only-here")
    hubs.iot_hub_resource.begin_delete(group, name).result()
    assert name not in [h.name for h in hubs.iot_hub_resource.list_by_resource_group(group)]


def test_a_hub_has_consumer_groups_counts_quotas_and_a_second_region(credential, scenario, options, name):
    name, group = "parts" + name[-8:], scenario["group"]
    client = IotHubClient(credential, scenario["subscription"], **options)
    hubs = client.iot_hub_resource
    hub = hubs.begin_create_or_update(group, name, {"location": "westus", "sku": {"name": "S1", "capacity": 1}}).result()
    assert [(place.location, place.role) for place in hub.properties.locations] == [("West US", "primary"), ("East US", "secondary")]

    made = hubs.create_event_hub_consumer_group(group, name, "events", "reports", {"properties": {"name": "reports"}})
    assert made.name == "reports" and made.properties["created"].endswith("GMT")
    assert [g.name for g in hubs.list_event_hub_consumer_groups(group, name, "events")] == ["$Default", "reports"]
    assert hubs.get_event_hub_consumer_group(group, name, "events", "$Default").name == "$Default"
    hubs.delete_event_hub_consumer_group(group, name, "events", "reports")
    with pytest.raises(ResourceNotFoundError):
        hubs.get_event_hub_consumer_group(group, name, "events", "reports")

    owner = hubs.get_keys_for_key_name(group, name, "iothubowner")
    host = hub.properties.host_name
    registry = IoTHubRegistryManager.from_connection_string(
        f"HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={owner.primary_key}"
    )
    registry.create_device_with_sas("one", owner.primary_key, owner.primary_key, "disabled")
    stats = hubs.get_stats(group, name)
    assert (stats.total_device_count, stats.disabled_device_count) == (1, 1)
    quotas = {quota.name: quota for quota in hubs.get_quota_metrics(group, name)}
    assert quotas["TotalDeviceCount"].current_value == 1 and quotas["TotalMessages"].max_value == 400_000
    usages = {usage.name.value: usage.limit for usage in client.resource_provider_common.get_subscription_quota().value}
    assert usages == {"FreeHubCount": 1}
    assert list(hubs.get_endpoint_health(group, name)) == []

    client.iot_hub.begin_manual_failover(name, group, {"failoverRegion": "East US"}).result()
    places = {place.location: place.role for place in hubs.get(group, name).properties.locations}
    assert places == {"West US": "secondary", "East US": "primary"}
    hubs.begin_delete(group, name).result()


def test_routes_are_tried_before_and_after_they_are_put(credential, scenario, options, name):
    name, group = "route" + name[-8:], scenario["group"]
    hubs = IotHubClient(credential, scenario["subscription"], **options).iot_hub_resource
    route = {"name": "hot", "source": "DeviceMessages", "condition": "$body.temperature > 50", "endpointNames": ["events"], "isEnabled": True}
    hub = {"location": "westus", "sku": {"name": "S1", "capacity": 1}, "properties": {"routing": {"routes": [route]}}}
    hubs.begin_create_or_update(group, name, hub).result()
    message = {"body": '{"temperature": 51}', "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"}}
    found = hubs.test_all_routes(name, group, {"routingSource": "DeviceMessages", "message": message})
    assert [match.properties.name for match in found.routes] == ["hot"]
    assert hubs.test_route(name, group, {"message": message, "route": route}).result == "true"
    wrong = hubs.test_route(name, group, {"message": message, "route": {**route, "condition": "temperature >"}})
    [error] = wrong.details.compilation_errors
    assert (wrong.result, error.severity, error.location.start.line, error.location.start.column) == ("false", "error", 1, 14)
    hubs.begin_delete(group, name).result()


def test_the_keys_of_a_policy_are_made_anew_by_a_put(credential, scenario, options, name):
    name, group = "keys" + name[-8:], scenario["group"]
    hubs = IotHubClient(credential, scenario["subscription"], **options).iot_hub_resource
    hub = hubs.begin_create_or_update(group, name, {"location": "westus", "sku": {"name": "S1", "capacity": 1}}).result()
    before = hubs.get_keys_for_key_name(group, name, "device")
    hub.properties.authorization_policies = list(hubs.list_keys(group, name))
    device = next(policy for policy in hub.properties.authorization_policies if policy.key_name == "device")
    device.primary_key = "bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3IGtleSE="
    hubs.begin_create_or_update(group, name, hub, if_match=hub.etag).result()
    after = hubs.get_keys_for_key_name(group, name, "device")
    assert after.primary_key == device.primary_key and after.secondary_key == before.secondary_key
    hubs.begin_delete(group, name).result()


def test_private_endpoints_of_a_hub_and_of_a_provisioning_service(credential, scenario, options, name):
    name, group = "link" + name[-8:], scenario["group"]
    hubs = IotHubClient(credential, scenario["subscription"], **options)
    state = {"status": "Pending", "description": "asked for"}
    body = {"location": "westus", "sku": {"name": "S1", "capacity": 1}, "properties": {
        "privateEndpointConnections": [{"properties": {"privateLinkServiceConnectionState": state}}]}}
    hubs.iot_hub_resource.begin_create_or_update(group, name, body).result()
    assert [link.name for link in hubs.private_link_resources.list(group, name).value] == ["iotHub"]
    assert hubs.private_link_resources.get(group, name, "iotHub").properties.group_id == "iotHub"
    connections = hubs.private_endpoint_connections
    assert [one.name for one in connections.list(group, name)] == ["connection-1"]
    approved = {"properties": {"privateLinkServiceConnectionState": {"status": "Approved", "description": "fine"}}}
    made = connections.begin_update(group, name, "connection-1", approved).result()
    assert made.properties.private_link_service_connection_state.status == "Approved"
    connections.begin_delete(group, name, "connection-1").result()
    assert connections.list(group, name) == []
    hubs.iot_hub_resource.begin_delete(group, name).result()
    services = IotDpsClient(credential, scenario["subscription"], **options).iot_dps_resource
    assert [link.name for link in services.list_private_link_resources(group, "dps").value] == ["iotDps"]
    assert services.list_private_endpoint_connections(group, "dps") == []


def test_a_provisioning_service_shows_its_linked_hubs_masked(credential, scenario, options):
    services = IotDpsClient(credential, scenario["subscription"], **options)
    dps = services.iot_dps_resource.get("dps", scenario["group"])
    assert dps.properties.id_scope.startswith("0ne")
    linked = dps.properties.iot_hubs[0].connection_string
    assert linked.endswith("SharedAccessKey=****")
    keys = [k.key_name for k in services.iot_dps_resource.list_keys("dps", scenario["group"])]
    assert "provisioningserviceowner" in keys


def test_an_identity_is_made_once_and_kept(credential, scenario, options, name):
    client = ManagedServiceIdentityClient(credential, scenario["subscription"], **options)
    made = client.user_assigned_identities.create_or_update(scenario["group"], name[:60], {"location": "eastus"})
    again = client.user_assigned_identities.get(scenario["group"], name[:60])
    assert (made.client_id, made.principal_id) == (again.client_id, again.principal_id)
    client.user_assigned_identities.delete(scenario["group"], name[:60])
