"""Files that devices upload, to Azurite and to the account of this server: the device SDK asks where to and says how it went, the storage SDK uploads, a back end hears of it."""

import base64
import hashlib
import hmac
import os
import time
import urllib.parse
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.exceptions import ClientError
from azure.storage.blob import BlobClient, BlobServiceClient

from conftest import connection_string, env

CONTAINER = "device-files"


@pytest.fixture(scope="module")
def storage(account):
    """The account's own client, with a container for files."""
    string, authority = account
    service = BlobServiceClient.from_connection_string(string, connection_verify=authority)
    container = service.get_container_client(CONTAINER)
    if not container.exists():
        container.create_container()
    return container


@pytest.fixture(scope="module")
def hub(management, scenario, account, storage):
    """The default hub with storage, which tells of uploads."""
    name = env("IOTHUB_HOSTNAME").split(".")[0]
    hubs = {hub.name: hub for hub in management.iot_hub_resource.list_by_resource_group(scenario["group"])}
    hub = hubs.get(name) or next(iter(hubs.values()))
    endpoint = hub.properties.storage_endpoints["$default"]
    endpoint.connection_string, endpoint.container_name = account[0], CONTAINER
    hub.properties.enable_file_upload_notifications = True
    done = management.iot_hub_resource.begin_create_or_update(scenario["group"], hub.name, hub).result()
    shown = done.properties.storage_endpoints["$default"]
    assert shown.container_name == CONTAINER and "AccountKey=****" in shown.connection_string
    return done


@pytest.fixture
def client(hub, device, key, ca_pem):
    client = IoTHubDeviceClient.create_from_connection_string(
        connection_string(device.device_id, key), server_verification_cert=ca_pem
    )
    client.connect()
    yield client
    client.shutdown()


@pytest.fixture
def blob_of(account):
    """As the SDK's samples put it together."""

    def client(given):
        url = "https://{hostName}/{containerName}/{blobName}{sasToken}".format(**given)
        return BlobClient.from_blob_url(url, connection_verify=account[1])

    return client


def service(method, path):
    """The hub's REST API, by the connection string of a back end; no SDK of Python reads file notifications."""
    parts = dict(part.split("=", 1) for part in env("IOTHUB_CONNECTION_STRING").split(";"))
    resource, expiry = urllib.parse.quote_plus(parts["HostName"]), int(time.time()) + 600
    signed = hmac.new(base64.b64decode(parts["SharedAccessKey"]), f"{resource}\n{expiry}".encode(), hashlib.sha256)
    signature = urllib.parse.quote_plus(base64.b64encode(signed.digest()))
    token = f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={parts['SharedAccessKeyName']}"
    url = f"https://{parts['HostName']}{path}?api-version=2021-04-12"
    return requests.request(method, url, headers={"Authorization": token}, timeout=30)


@contextmanager
def refused(status):
    """The device SDK tells of what the service said as the cause of an error of its own."""
    with pytest.raises(ClientError) as failure:
        yield
    assert str(status) in str(failure.value.__cause__)


NOTIFICATIONS = "/messages/serviceBound/filenotifications"


def told():
    """Every notification that waits, settled."""
    all_of_them = []
    while True:
        answer = service("GET", NOTIFICATIONS)
        if answer.status_code == 204:
            return all_of_them
        assert answer.status_code == 200, answer.text
        all_of_them.append(answer.json())
        token = answer.headers["iothub-messagelocktoken"]
        assert service("DELETE", f"{NOTIFICATIONS}/{token}").status_code == 204


@pytest.mark.parametrize("file", ["log.txt", "2026/11/a b+é.txt"], ids=["plain", "escaped"])
def test_a_file_is_uploaded_and_a_back_end_hears_of_it(client, device, storage, blob_of, file):
    told()
    given = client.get_storage_info_for_blob(file)
    assert given["blobName"] == f"{device.device_id}/{file}" and given["containerName"] == CONTAINER
    body = os.urandom(5 * 1024 * 1024)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    blob_of({**given, "blobName": urllib.parse.quote(given["blobName"])}).upload_blob(body, max_concurrency=2)
    client.notify_blob_upload_status(given["correlationId"], True, 200, "done")
    assert storage.download_blob(given["blobName"]).readall() == body
    (notification,) = told()
    assert notification["deviceId"] == device.device_id
    assert notification["blobName"] == given["blobName"]
    assert notification["blobSizeInBytes"] == len(body)
    assert notification["blobUri"] == storage.get_blob_client(given["blobName"]).url
    assert datetime.fromisoformat(notification["lastUpdatedTime"]) >= before
    with refused(400):
        client.notify_blob_upload_status(given["correlationId"], True, 200, "again")


def test_a_device_reaches_its_own_blob_and_no_other_one(client, blob_of):
    given = client.get_storage_info_for_blob("mine.txt")
    blob_of(given).upload_blob(b"x")
    for attempt in (
        lambda: blob_of({**given, "blobName": "somebody/else.txt"}).upload_blob(b"x"),
        lambda: blob_of(given).delete_blob(),
    ):
        with pytest.raises(HttpResponseError) as failure:
            attempt()
        assert failure.value.status_code == 403


def test_nobody_hears_of_an_upload_that_failed(client):
    told()
    given = client.get_storage_info_for_blob("lost.txt")
    client.notify_blob_upload_status(given["correlationId"], False, -1, "the disk is gone")
    assert told() == []


def test_ten_uploads_are_under_way_at_the_most(client):
    given = [client.get_storage_info_for_blob(f"{number}.txt") for number in range(10)]
    with refused(403):
        client.get_storage_info_for_blob("one-too-many.txt")
    client.notify_blob_upload_status(given[3]["correlationId"], False, 500, "")
    assert client.get_storage_info_for_blob("again.txt")


def test_a_hub_without_storage_of_its_own_has_the_accounts_of_the_server(management, scenario, registry, name, key, ca_pem):
    wanted = env("IOTHUB_HOSTNAME").split(".")[0]
    hubs = {hub.name: hub for hub in management.iot_hub_resource.list_by_resource_group(scenario["group"])}
    hub = hubs.get(wanted) or next(iter(hubs.values()))
    endpoint = hub.properties.storage_endpoints["$default"]
    endpoint.connection_string = endpoint.container_name = ""
    done = management.iot_hub_resource.begin_create_or_update(scenario["group"], hub.name, hub).result()
    assert done.properties.storage_endpoints["$default"].connection_string == ""
    registry.create_device_with_sas(name, key, key, "enabled")
    client = IoTHubDeviceClient.create_from_connection_string(connection_string(name, key), server_verification_cert=ca_pem)
    given = client.get_storage_info_for_blob("log.txt")
    url = "https://{hostName}/{containerName}/{blobName}{sasToken}".format(**given)
    BlobClient.from_blob_url(url, connection_verify=env("TWINHUB_CA_FILE")).upload_blob(b"out of the box")
    client.notify_blob_upload_status(given["correlationId"], True, 200, "done")
    client.shutdown()
    registry.delete_device(name)
    service = BlobServiceClient.from_connection_string(env("AZURE_STORAGE_CONNECTION_STRING"), connection_verify=env("TWINHUB_CA_FILE"))
    container = service.get_container_client(f"iothub-{hub.name}")
    assert container.download_blob(f"{name}/log.txt").readall() == b"out of the box"
