"""Devices and modules over MQTT, bare and in WebSockets, through the Python device SDK, with the service SDK on the other side."""

import threading
import time

import pytest
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse
from azure.iot.device.common.pipeline.pipeline_exceptions import PipelineNotRunning
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from conftest import connection_string, send_to, telemetry


@pytest.fixture
def client(device, key, ca_pem, websockets):
    client = IoTHubDeviceClient.create_from_connection_string(
        connection_string(device.device_id, key), server_verification_cert=ca_pem, websockets=websockets
    )
    client.connect()
    yield client
    try:
        client.shutdown()
    except PipelineNotRunning:
        pass  # the test shut it down itself


@pytest.fixture
def module_client(registry, device, key, ca_pem, websockets):
    registry.create_module_with_sas(device.device_id, "mod1", "", key, key)
    client = IoTHubModuleClient.create_from_connection_string(
        connection_string(device.device_id, key, "mod1"), server_verification_cert=ca_pem, websockets=websockets
    )
    client.connect()
    yield client
    client.shutdown()


class Inbox:
    """Collects what a handler is called with and lets a test wait for it."""

    def __init__(self):
        self.items, self.arrived = [], threading.Condition()

    def __call__(self, item):
        with self.arrived:
            self.items.append(item)
            self.arrived.notify_all()

    def take(self, count=1):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.items) >= count, timeout=15), self.items
            return self.items[count - 1]


def test_messages_from_the_cloud_arrive_once_in_order_with_their_properties(client, device, registry):
    send_to(device.device_id, "--body", "before", "--property", "a b=1/2", "--content-type", "text/plain")
    assert registry.get_device(device.device_id).cloud_to_device_message_count == 1
    inbox = Inbox()
    client.on_message_received = inbox
    first = inbox.take()
    assert (first.data, first.custom_properties, first.content_type) == (b"before", {"a b": "1/2"}, "text/plain")
    send_to(device.device_id, "--body", "after", "--count", "2")
    assert [inbox.take(count).data for count in (2, 3)] == [b"after", b"after"]
    deadline = time.monotonic() + 15
    while registry.get_device(device.device_id).cloud_to_device_message_count:
        assert time.monotonic() < deadline, "what was acknowledged is still there"
        time.sleep(0.05)


def test_telemetry_arrives_with_its_properties_and_stamps(client, device):
    message = Message('{"temperature": 21.5}')
    message.message_id = "m 1"
    message.content_type, message.content_encoding = "application/json", "utf-8"
    message.custom_properties["a b"] = "c+d&e"
    client.send_message(message)
    client.send_message(b"\x00\xff raw".decode("latin-1"))

    first, second = telemetry(device.device_id)
    assert first["body"] == {"temperature": 21.5} and first["properties"] == {"a b": "c+d&e"}
    assert first["source"] == "Telemetry" and first["moduleId"] in (None, "")
    system = first["systemProperties"]
    assert system["iothub-connection-device-id"] == device.device_id
    assert system["iothub-connection-auth-generation-id"] == device.generation_id
    assert "m 1" in system.values()
    assert second["sequenceNumber"] > first["sequenceNumber"] and second["partition"] == first["partition"]


def test_a_message_of_the_largest_size_arrives(client, device):
    client.send_message("x" * (256 * 1024 - 1024))
    assert len(telemetry(device.device_id)) == 1


def test_a_device_reads_its_twin_and_reports(client, device, registry):
    registry.update_twin(device.device_id, Twin(properties=TwinProperties(desired={"target": 21})), "*")
    twin = client.get_twin()
    assert twin["desired"] == {"target": 21, "$version": 2} and twin["reported"] == {"$version": 1}
    client.patch_twin_reported_properties({"target": {"value": 21, "ac": 200}, "gone": None})
    reported = registry.get_twin(device.device_id).properties.reported
    assert reported["target"] == {"value": 21, "ac": 200} and reported["$version"] == 2
    assert "gone" not in reported


def test_a_refused_report_leaves_the_twin_alone(client, device, registry):
    with pytest.raises(Exception):
        client.patch_twin_reported_properties({"bad.key": 1})
    client.patch_twin_reported_properties({"good": 1})
    assert registry.get_twin(device.device_id).properties.reported["$version"] == 2


def test_desired_changes_reach_the_device_in_order(client, device, registry):
    inbox = Inbox()
    client.on_twin_desired_properties_patch_received = inbox
    for target in (1, 2, 3):
        registry.update_twin(device.device_id, Twin(properties=TwinProperties(desired={"target": target, "old": None})), "*")
    inbox.take(3)
    assert inbox.items == [{"target": t, "old": None, "$version": t + 1} for t in (1, 2, 3)]


def test_a_module_has_a_twin_and_methods_of_its_own(module_client, device, registry):
    inbox = Inbox()
    module_client.on_twin_desired_properties_patch_received = inbox
    registry.update_module_twin(device.device_id, "mod1", Twin(properties=TwinProperties(desired={"fps": 30})), "*")
    assert inbox.take() == {"fps": 30, "$version": 2}
    module_client.patch_twin_reported_properties({"fps": 25})
    assert registry.get_module_twin(device.device_id, "mod1").properties.reported["fps"] == 25
    assert registry.get_twin(device.device_id).properties.reported["$version"] == 1

    module_client.on_method_request_received = lambda request: module_client.send_method_response(
        MethodResponse.create_from_method_request(request, 201, {"echo": request.payload})
    )
    time.sleep(0.5)  # the SDK subscribes in the background and tells nobody when it is done
    call = CloudToDeviceMethod(method_name="look", payload={"at": "door"}, response_timeout_in_seconds=10)
    result = registry.invoke_device_module_method(device.device_id, "mod1", call)
    assert (result.status, result.payload) == (201, {"echo": {"at": "door"}})
    module_client.send_message(Message("from the module"))
    assert [row["moduleId"] for row in telemetry(device.device_id)] == ["mod1"]


def test_a_direct_method_is_answered(client, device, registry):
    def answer(request):
        client.send_method_response(MethodResponse.create_from_method_request(request, 200, {"name": request.name, "was": request.payload}))

    client.on_method_request_received = answer
    time.sleep(0.5)  # as above
    call = CloudToDeviceMethod(method_name="reboot", payload=[1, {"x": None}], response_timeout_in_seconds=10)
    result = registry.invoke_device_method(device.device_id, call)
    assert (result.status, result.payload) == (200, {"name": "reboot", "was": [1, {"x": None}]})


def test_a_method_to_nobody_says_so(device, registry):
    with pytest.raises(HttpOperationError) as offline:
        registry.invoke_device_method(device.device_id, CloudToDeviceMethod(method_name="x"))
    assert offline.value.response.status_code == 404
    assert offline.value.response.headers["iothub-errorcode"] == "DeviceNotOnline"


def test_connection_state_shows_and_the_second_connection_takes_over(client, device, key, ca_pem, registry):
    assert registry.get_device(device.device_id).connection_state == "Connected"
    second = IoTHubDeviceClient.create_from_connection_string(
        connection_string(device.device_id, key), server_verification_cert=ca_pem, auto_connect=True
    )
    client.shutdown()
    second.connect()
    assert second.get_twin()["desired"]["$version"] == 1
    second.shutdown()


@pytest.mark.parametrize("first, then", [(False, True), (True, False)], ids=["to a WebSocket", "from a WebSocket"])
def test_a_connection_of_one_kind_takes_over_from_the_other(device, key, ca_pem, first, then):
    lost = threading.Event()

    def connect(over_websockets):
        client = IoTHubDeviceClient.create_from_connection_string(
            connection_string(device.device_id, key),
            server_verification_cert=ca_pem,
            websockets=over_websockets,
            connection_retry=False,
            auto_connect=False,
        )
        client.connect()
        return client

    older = connect(first)
    older.on_connection_state_change = lambda: lost.set() if not older.connected else None
    newer = connect(then)
    assert lost.wait(15), "the older connection is still there"
    newer.send_message("the newer one works")
    assert len(telemetry(device.device_id)) == 1
    newer.shutdown()
    older.shutdown()


def test_wrong_and_foreign_keys_are_refused(device, ca_pem, registry, name, websockets):
    import base64, os

    other = base64.b64encode(os.urandom(32)).decode()
    for device_id in (device.device_id, name + "-unknown"):
        client = IoTHubDeviceClient.create_from_connection_string(
            connection_string(device_id, other),
            server_verification_cert=ca_pem,
            connection_retry=False,
            websockets=websockets,
        )
        with pytest.raises(CredentialError):
            client.connect()
        client.shutdown()
    assert registry.get_device(device.device_id).connection_state == "Disconnected"
