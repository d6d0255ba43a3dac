"""What every suite needs: where the server is, who we are, and names nobody else uses.

`cargo xtask conform` starts the server and gives us everything that `twinhub env` prints.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import uuid
from pathlib import Path

import pytest
from azure.identity import DefaultAzureCredential
from azure.iot.hub import IoTHubRegistryManager
from azure.mgmt.iothub import IotHubClient


def env(name):
    value = os.environ.get(name)
    assert value, f"{name} is not set: run this through `cargo xtask conform`"
    return value


@pytest.fixture(scope="session")
def ca_pem():
    return Path(env("TWINHUB_CA_FILE")).read_text()


@pytest.fixture(scope="session")
def credential():
    """Unmodified: the environment alone points it at us."""
    return DefaultAzureCredential(exclude_managed_identity_credential=True)


@pytest.fixture(scope="session")
def registry():
    return IoTHubRegistryManager.from_connection_string(env("IOTHUB_CONNECTION_STRING"))


@pytest.fixture(params=[False, True], ids=["tcp", "websockets"])
def websockets(request):
    """Over which of the two MQTT goes; whatever works over one works over the other."""
    return request.param


@pytest.fixture
def name(request):
    """A name that no other test uses."""
    told = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)
    return f"{told[:40].strip('-')}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def key():
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture
def device(registry, name, key):
    """A registered device with a key of ours; gone after the test."""
    created = registry.create_device_with_sas(name, key, key, "enabled")
    yield created
    try:
        registry.delete_device(name)
    except Exception:
        pass  # the test deleted it itself


@pytest.fixture(scope="session")
def scenario():
    """Arm's coordinates of what first start made."""
    return {
        "subscription": env("AZURE_SUBSCRIPTION_ID"),
        "group": env("AZURE_RESOURCE_GROUP"),
        "endpoint": env("AZURE_RESOURCE_MANAGER_ENDPOINT").rstrip("/"),
        "audience": env("AZURE_RESOURCE_MANAGER_AUDIENCE").rstrip("/"),
    }


@pytest.fixture(scope="session")
def management(credential, scenario):
    return IotHubClient(
        credential,
        scenario["subscription"],
        base_url=scenario["endpoint"],
        credential_scopes=[scenario["audience"] + "/.default"],
    )


@pytest.fixture(scope="module", params=["Azurite", "an account of this server"])
def account(request):
    """A connection string, and the authority of its certificate."""
    if request.param != "Azurite":
        return env("AZURE_STORAGE_CONNECTION_STRING"), env("TWINHUB_CA_FILE")
    if "CONFORM_STORAGE" not in os.environ:
        pytest.skip("Azurite is not there")
    return env("CONFORM_STORAGE"), env("CONFORM_STORAGE_CA")


def connection_string(device_id, key, module_id=None):
    module = f";ModuleId={module_id}" if module_id else ""
    return f"HostName={env('IOTHUB_HOSTNAME')};DeviceId={device_id}{module};SharedAccessKey={key}"


def derive(group_key, registration_id):
    digest = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def send_to(device_id, *arguments):
    """A cloud-to-device message, sent by the command a user would run."""
    command = [env("CONFORM_BINARY"), "device", "send", device_id, "--to-device", "--data-dir", env("TWINHUB_DATA_DIR")]
    subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=True)


def telemetry(device_id):
    """What a device sent, from the hub's event stream, through the command a user would run."""
    out = subprocess.run(
        [env("CONFORM_BINARY"), "events", "--data-dir", env("TWINHUB_DATA_DIR"), "--from", "earliest", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    return [row for row in rows if row["deviceId"] == device_id and row["source"] == "Telemetry"]
