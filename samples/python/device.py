"""A thermostat: sends a message, follows its target, and ends when the method `stop` is called.

    IOTHUB_DEVICE_CONNECTION_STRING=… TWINHUB_CA_FILE=… python device.py
"""

import os
import threading

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse

stopped = threading.Event()
ca_file = os.environ.get("TWINHUB_CA_FILE")  # without it: Azure
client = IoTHubDeviceClient.create_from_connection_string(
    os.environ["IOTHUB_DEVICE_CONNECTION_STRING"],
    server_verification_cert=open(ca_file).read() if ca_file else None,
)


def on_desired(desired):
    print("desired:", desired)
    if "target" in desired:
        client.patch_twin_reported_properties({"target": desired["target"]})


def on_method(request):
    print("method:", request.name, request.payload)
    client.send_method_response(MethodResponse.create_from_method_request(request, 200, {"stopped": True}))
    if request.name == "stop":
        stopped.set()


client.on_twin_desired_properties_patch_received = on_desired
client.on_method_request_received = on_method
client.connect()
on_desired(client.get_twin()["desired"])  # what was set before the handler listened

message = Message('{"temperature": 21.5}')
message.content_type, message.content_encoding = "application/json", "utf-8"
client.send_message(message)
print("sent")

stopped.wait()
client.shutdown()
