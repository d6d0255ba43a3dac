"""Devices that bring no SDK of ours or Azure's: Eclipse Paho with the very filters, user names, passwords and wills of clients in
the field (`field-notes.md`)."""

import base64
import hashlib
import hmac
import json
import os
import queue
import ssl
import time
import urllib.parse

import paho.mqtt.client as mqtt
import pytest
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from conftest import env, telemetry

PATIENCE = 15


def password(key, resource):
    expiry = int(time.time()) + 3600
    signed = f"{urllib.parse.quote(resource, safe='')}\n{expiry}".encode()
    signature = base64.b64encode(hmac.new(base64.b64decode(key), signed, hashlib.sha256).digest()).decode()
    resource, signature = urllib.parse.quote(resource, safe=""), urllib.parse.quote(signature, safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}"


class Device:
    """One connection, whose answers wait in queues; over a WebSocket where it has a path."""

    def __init__(self, device_id, key, user_name=None, resource=None, will=None, context=None, path=None):
        self.device_id, self.host = device_id, env("IOTHUB_HOSTNAME")
        self.connacks, self.subacks, self.messages = queue.Queue(), queue.Queue(), queue.Queue()
        transport = "websockets" if path else "tcp"
        self.port = 443 if path else int(os.environ.get("TWINHUB_MQTT_PORT") or 8883)
        self.client = mqtt.Client(client_id=device_id, clean_session=True, protocol=mqtt.MQTTv311, transport=transport)
        if path:
            self.client.ws_set_options(path=path)
        self.client.on_connect = lambda _client, _data, _flags, code: self.connacks.put(code)
        self.client.on_subscribe = lambda _client, _data, _id, granted: self.subacks.put(granted[0])
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        user_name = user_name or f"{self.host}/{device_id}/?api-version=2021-04-12"
        self.client.username_pw_set(user_name, password(key, resource or f"{self.host}/devices/{device_id}"))
        if will:
            self.client.will_set(will, "Offline", qos=1, retain=True)
        self.client.tls_set_context(context or ssl.create_default_context(cafile=env("TWINHUB_CA_FILE")))

    def __enter__(self):
        self.client.connect(self.host, self.port)
        self.client.loop_start()
        assert self.connacks.get(timeout=PATIENCE) == 0
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, filter):
        self.client.subscribe(filter, qos=1)
        return self.subacks.get(timeout=PATIENCE)

    def next_message(self, prefix):
        message = self.messages.get(timeout=PATIENCE)
        assert message.topic.startswith(prefix), message.topic
        return message

    def publish(self, topic, body=""):
        self.client.publish(topic, body, qos=1).wait_for_publish(timeout=PATIENCE)


@pytest.mark.parametrize(
    "filters",
    [
        pytest.param(["$iothub/twin/#"], id="nanoFramework"),
        pytest.param(["$iothub/twin/PATCH/properties/desired/#", "$iothub/twin/res/200/#"], id="CircuitPython"),
        pytest.param(["$iothub/#"], id="by hand"),
    ],
)
def test_wider_filters_bring_twin_and_desired_changes(registry, device, key, filters):
    with Device(device.device_id, key) as client:
        for filter in ["devices/+/messages/devicebound/#", *filters]:
            assert client.subscribe(filter) == 1, filter
        client.publish("$iothub/twin/GET/?$rid=0", " ")
        twin = client.next_message("$iothub/twin/res/200/?$rid=0")
        assert json.loads(twin.payload)["desired"]["$version"] == 1
        twin = registry.get_twin(device.device_id)
        registry.update_twin(
            device.device_id, Twin(properties=TwinProperties(desired={"target": 21})), twin.etag
        )
        changed = client.next_message("$iothub/twin/PATCH/properties/desired/?$version=2")
        assert json.loads(changed.payload) == {"target": 21, "$version": 2}


@pytest.mark.parametrize(
    "path", ["/$iothub/websocket", "/%24iothub/websocket", "/$iothub/websocket?iothub-no-client-cert=true", "/"]
)
def test_every_path_of_a_websocket_leads_to_the_same_hub(device, key, path):
    with Device(device.device_id, key, path=path) as client:
        assert client.subscribe("$iothub/twin/res/#") == 1
        client.publish(f"devices/{device.device_id}/messages/events/", "x" * 100_000)
        client.publish("$iothub/twin/GET/?$rid=0", " ")
        twin = client.next_message("$iothub/twin/res/200/?$rid=0")
        assert json.loads(twin.payload)["desired"]["$version"] == 1
    assert len(telemetry(device.device_id)) == 1


def test_a_wider_filter_brings_direct_methods(registry, device, key):
    with Device(device.device_id, key) as client:
        assert client.subscribe("$iothub/methods/#") == 1

        def answer(_client, _data, message):
            request_id = message.topic.split("?$rid=")[1]
            client.client.publish(f"$iothub/methods/res/200/?$rid={request_id}", '{"done": true}')

        client.client.on_message = answer
        method = CloudToDeviceMethod(method_name="reboot", payload={}, response_timeout_in_seconds=PATIENCE)
        response = registry.invoke_device_method(device.device_id, method)
        assert (response.status, response.payload) == (200, {"done": True})


def test_foreign_filters_and_a_sixth_are_refused(device, key):
    with Device(device.device_id, key) as client:
        for filter in ["devices/other/messages/devicebound/#", "devices/+/messages/events/#", "$SYS/#"]:
            assert client.subscribe(filter) == 0x80, filter
        for number in range(5):
            assert client.subscribe(f"$iothub/methods/POST/m{number}/#") == 1
        assert client.subscribe("$iothub/twin/#") == 0x80


@pytest.mark.parametrize(
    "query", ["", "/api-version=2016-11-14", "/DeviceClientType=azure-iot-device%2F1.0.14", "/?api-version=2021-04-12"]
)
def test_older_user_names_and_passwords_and_foreign_wills_come_in(device, key, query):
    host = env("IOTHUB_HOSTNAME")
    resource = f"{host}/devices/{device.device_id}/api-version=2016-11-14"
    user_name = f"{host}/{device.device_id}{query}"
    with Device(device.device_id, key, user_name, resource, will="tele/plug/LWT") as client:
        client.publish(f"devices/{device.device_id}/messages/events/", "{}")


def test_a_device_that_verifies_rsa_alone_finds_a_chain(device, key):
    def context(root):
        context = ssl.create_default_context(cafile=root)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        return context

    root = os.path.join(os.path.dirname(env("TWINHUB_CA_FILE")), "ca-rsa.pem")
    try:
        # The first makes the root, and cannot know it yet.
        with Device(device.device_id, key, context=context(env("TWINHUB_CA_FILE"))):
            pytest.fail("a chain of RSA below a root of ECDSA")
    except ssl.SSLCertVerificationError:
        pass
    with Device(device.device_id, key, context=context(root)) as client:
        client.publish(f"devices/{device.device_id}/messages/events/", "{}")
