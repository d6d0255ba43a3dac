"""Enrollments through the service SDK; registration over MQTT, bare and in WebSockets, through the device SDK; then the hub that was assigned."""

import base64
import os

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.iot.device import IoTHubDeviceClient, ProvisioningDeviceClient
from azure.iot.deviceprovisioning import DeviceProvisioningClient
from azure.iot.hub.models import QuerySpecification

from conftest import derive, env, telemetry


@pytest.fixture(scope="session")
def service():
    return DeviceProvisioningClient.from_connection_string(env("PROVISIONING_CONNECTION_STRING"))


def register(registration_id, key, ca_pem, websockets=False):
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=env("PROVISIONING_HOST"),
        registration_id=registration_id,
        id_scope=env("PROVISIONING_IDSCOPE"),
        symmetric_key=key,
        server_verification_cert=ca_pem,
        websockets=websockets,
    )
    client.provisioning_payload = {"site": 7, "modelId": "dtmi:com:example:Toaster;1"}
    return client.register()


def individual(name, **more):
    return {"registrationId": name, "attestation": {"type": "symmetricKey"}, **more}


def test_an_enrollment_lives_through_create_read_update_query_and_delete(service, name):
    created = service.enrollment.create_or_update(name, individual(name, deviceId=f"{name}-device"))
    keys = created["attestation"]["symmetricKey"]
    assert len(base64.b64decode(keys["primaryKey"])) == 64 and created["provisioningStatus"] == "enabled"
    read = service.enrollment.get(name)
    assert read["etag"] == created["etag"] and "primaryKey" not in str(read["attestation"])
    assert service.enrollment.get_attestation_mechanism(name)["symmetricKey"] == keys

    with pytest.raises(ResourceExistsError):
        service.enrollment.create_or_update(name, individual(name))
    updated = service.enrollment.create_or_update(
        name, individual(name, provisioningStatus="disabled"), headers={"If-Match": "*"}
    )
    assert updated["provisioningStatus"] == "disabled" and updated["etag"] != created["etag"]
    assert service.enrollment.get_attestation_mechanism(name)["symmetricKey"] == keys, "kept, since none was sent"

    found = service.enrollment.query({"query": "SELECT * FROM enrollments"})
    assert name in [e["registrationId"] for e in found]
    service.enrollment.delete(name)
    with pytest.raises(ResourceNotFoundError):
        service.enrollment.get(name)


def test_an_individual_device_registers_and_finds_its_initial_twin(service, name, registry, ca_pem, websockets):
    twin = {"tags": {"site": "north"}, "properties": {"desired": {"interval": 5}}}
    created = service.enrollment.create_or_update(name, individual(name, initialTwin=twin))
    result = register(name, created["attestation"]["symmetricKey"]["primaryKey"], ca_pem, websockets)
    assert result.status == "assigned", result
    state = result.registration_state
    assert (state.device_id, state.sub_status) == (name, "initialAssignment")

    stored = registry.get_twin(name)
    of_model = f"SELECT * FROM devices WHERE deviceId = '{name}' AND modelId = 'dtmi:com:example:Toaster;1'"
    assert [twin.device_id for twin in registry.query_iot_hub(QuerySpecification(query=of_model)).items] == [name]
    assert stored.tags == {"site": "north"} and stored.properties.desired["interval"] == 5
    client = IoTHubDeviceClient.create_from_symmetric_key(
        created["attestation"]["symmetricKey"]["primaryKey"],
        state.assigned_hub,
        name,
        server_verification_cert=ca_pem,
        websockets=websockets,
    )
    client.connect()
    client.send_message("hello")
    client.shutdown()
    assert [row["body"] for row in telemetry(name)] != []
    assert service.device_registration_state.get(name)["assignedHub"] == state.assigned_hub


def test_a_group_lets_devices_in_by_their_derived_key(service, name, ca_pem, registry):
    key = base64.b64encode(os.urandom(64)).decode()
    group = {
        "enrollmentGroupId": name,
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
    }
    service.enrollment_group.create_or_update(name, group)
    for number in range(3):
        device_id = f"{name}-{number}"
        result = register(device_id, derive(key, device_id), ca_pem)
        assert result.registration_state.device_id == device_id
        assert registry.get_device(device_id).authentication.symmetric_key.primary_key == derive(key, device_id)
    with pytest.raises(Exception):
        register(f"{name}-x", key, ca_pem)
    service.enrollment_group.delete(name)


def test_a_disabled_enrollment_keeps_its_device_out(service, name, ca_pem, registry):
    created = service.enrollment.create_or_update(name, individual(name, provisioningStatus="disabled"))
    with pytest.raises(Exception):
        register(name, created["attestation"]["symmetricKey"]["primaryKey"], ca_pem)
    assert service.device_registration_state.get(name)["status"] == "disabled"


def test_a_stranger_is_refused_by_the_service(name):
    host = env("PROVISIONING_CONNECTION_STRING").split("HostName=")[1].split(";")[0]
    wrong = base64.b64encode(os.urandom(32)).decode()
    client = DeviceProvisioningClient.from_connection_string(
        f"HostName={host};SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={wrong}"
    )
    with pytest.raises(HttpResponseError) as refused:
        client.enrollment.get(name)
    assert refused.value.status_code == 401
