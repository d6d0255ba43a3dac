"""The other side: waits for a device, sets its target, sees it reported, calls `stop`.

    IOTHUB_CONNECTION_STRING=… REQUESTS_CA_BUNDLE=… python service.py DEVICE
"""

import os
import sys
import time

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

SECONDS_MAX = 30
device_id = sys.argv[1]
hub = IoTHubRegistryManager.from_connection_string(os.environ["IOTHUB_CONNECTION_STRING"])


def wait_until(what, is_so):
    deadline = time.monotonic() + SECONDS_MAX
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"{device_id}: not {what} after {SECONDS_MAX} s")
        time.sleep(0.2)
    print(what)


wait_until("connected", lambda: hub.get_device(device_id).connection_state == "Connected")
hub.update_twin(device_id, Twin(properties=TwinProperties(desired={"target": 20})), "*")
wait_until("reported", lambda: hub.get_twin(device_id).properties.reported.get("target") == 20)
method = CloudToDeviceMethod(method_name="stop", payload={"in": 0}, connect_timeout_in_seconds=10)
answer = hub.invoke_device_method(device_id, method)
print("stop:", answer.status, answer.payload)
