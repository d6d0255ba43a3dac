"""Digital twins of devices and their commands, with the service's own client and a device that plays along."""

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub import DigitalTwinClient
from msrest.exceptions import HttpOperationError

from conftest import env

MODEL = "dtmi:com:example:TemperatureController;1"


@pytest.fixture(scope="module")
def digital_twins():
    return DigitalTwinClient.from_connection_string(env("IOTHUB_CONNECTION_STRING"))


def test_a_digital_twin_is_patched_by_components_under_its_etag(digital_twins, registry, device):
    shown = digital_twins.get_digital_twin(device.device_id)
    assert shown == {"$dtId": device.device_id, "$metadata": {"$model": ""}}
    patch = [
        {"op": "add", "path": "/interval", "value": 5},
        {"op": "add", "path": "/thermostat1/targetTemperature", "value": 42.5},
    ]
    digital_twins.update_digital_twin(device.device_id, patch)
    desired = registry.get_twin(device.device_id).properties.desired
    assert desired["interval"] == 5
    assert desired["thermostat1"] == {"__t": "c", "targetTemperature": 42.5}
    with pytest.raises(HttpOperationError) as stale:
        digital_twins.update_digital_twin(device.device_id, patch, "AAAAAAAAAAE=")
    assert stale.value.response.status_code == 412
    with pytest.raises(HttpOperationError) as refused:
        digital_twins.update_digital_twin(device.device_id, [{"op": "add", "path": "/a", "value": [1]}])
    assert refused.value.response.headers["iothub-errorcode"] == "InvalidDigitalTwinPatch"


def test_commands_of_the_root_and_of_a_component_reach_the_device(digital_twins, device, key, ca_pem):
    # This client announces its model as its product.
    connection_string = f"HostName={env('IOTHUB_HOSTNAME')};DeviceId={device.device_id};SharedAccessKey={key}"
    client = IoTHubDeviceClient.create_from_connection_string(
        connection_string, server_verification_cert=ca_pem, product_info=MODEL
    )

    def answer(request):
        client.send_method_response(
            MethodResponse.create_from_method_request(request, 201, {"name": request.name, "payload": request.payload})
        )

    client.connect()
    try:
        client.on_method_request_received = answer
        root = digital_twins.invoke_command(device.device_id, "reboot", {"delay": 1}, 10, 30)
        assert root == {"name": "reboot", "payload": {"delay": 1}}
        component = digital_twins.invoke_component_command(
            device.device_id, "thermostat1", "getMaxMinReport", "since", 10, 30
        )
        assert component == {"name": "thermostat1*getMaxMinReport", "payload": "since"}
        assert digital_twins.get_digital_twin(device.device_id)["$metadata"]["$model"] == MODEL
    finally:
        client.shutdown()


def test_a_command_of_a_device_that_is_away_is_refused(digital_twins, device):
    with pytest.raises(HttpOperationError) as away:
        digital_twins.invoke_command(device.device_id, "reboot", {})
    assert away.value.response.status_code == 404
    assert away.value.response.headers["iothub-errorcode"] == "DeviceNotOnline"
