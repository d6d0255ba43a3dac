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
