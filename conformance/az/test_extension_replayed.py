"""What the IoT extension 0.25 sends (`arm-and-auth.md` §5.4, `dps.md`), command by command. The extension itself does not load in the
`az` that the other tests run, so its requests are sent by hand, with the tokens and keys that it would use."""

import base64
import hashlib
import hmac
import os
import time
import urllib.parse
import uuid

import pytest
import requests

BASE = os.environ["AZURE_RESOURCE_MANAGER_ENDPOINT"].rstrip("/")
SUBSCRIPTION = f"{BASE}/subscriptions/{os.environ['ARM_SUBSCRIPTION_ID']}"
GROUP = f"{SUBSCRIPTION}/resourceGroups/{os.environ['AZURE_RESOURCE_GROUP']}/providers"
HUB, DPS, TWINS = "2024-03-31", "2021-10-01", "2023-10-31"
SECONDS_MAX = 30


def bearer(resource):
    url = f"{os.environ['AZURE_AUTHORITY_HOST']}/{os.environ['AZURE_TENANT_ID']}/oauth2/v2.0/token"
    form = {
        "grant_type": "client_credentials",
        "client_id": os.environ["AZURE_CLIENT_ID"],
        "client_secret": os.environ["AZURE_CLIENT_SECRET"],
        "scope": f"{resource}/.default",
    }
    answer = requests.post(url, data=form, timeout=SECONDS_MAX)
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def signed(connection_string):
    """The extension signs the host as it stands in the connection string, port and all."""
    parts = dict(part.split("=", 1) for part in connection_string.split(";"))
    host, expiry = urllib.parse.quote_plus(parts["HostName"]), int(time.time()) + 3600
    mac = hmac.new(base64.b64decode(parts["SharedAccessKey"]), f"{host}\n{expiry}".encode(), hashlib.sha256)
    signature = urllib.parse.quote_plus(base64.b64encode(mac.digest()))
    token = f"SharedAccessSignature sr={host}&sig={signature}&se={expiry}&skn={parts['SharedAccessKeyName']}"
    return f"https://{parts['HostName']}", {"Authorization": token}


def ask(method, url, headers, body=None, **more):
    answer = requests.request(method, url, headers={**headers, **more}, json=body, timeout=SECONDS_MAX)
    assert answer.ok, f"{method} {url}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


@pytest.fixture(scope="module")
def arm():
    return bearer(os.environ["AZURE_RESOURCE_MANAGER_AUDIENCE"].rstrip("/"))


@pytest.fixture(scope="module")
def hub():
    return signed(os.environ["IOTHUB_CONNECTION_STRING"])


def test_iot_hub_connection_string_show(arm):
    hubs = ask("GET", f"{SUBSCRIPTION}/providers/Microsoft.Devices/IotHubs?api-version=2023-06-30-preview", arm)
    assert "hub" in [one["name"] for one in hubs["value"]]
    keys = f"{GROUP}/Microsoft.Devices/IotHubs/hub/IotHubKeys/iothubowner/listkeys?api-version=2023-06-30-preview"
    assert ask("POST", keys, arm)["primaryKey"] in os.environ["IOTHUB_CONNECTION_STRING"]


@pytest.mark.parametrize("auth", ["key", "login"])
def test_iot_hub_device_identity_create_show_update_delete(hub, auth):
    host, headers = hub
    headers = headers if auth == "key" else bearer("https://iothubs.azure.net")
    device = f"az-{uuid.uuid4().hex[:8]}"
    url = f"{host}/devices/{device}?api-version={HUB}"
    made = ask("PUT", url, headers, {"deviceId": device, "status": "enabled", "authentication": {"type": "sas"}})
    assert ask("GET", url, headers)["generationId"] == made["generationId"]
    made["status"] = "disabled"
    assert ask("PUT", url, headers, made, **{"If-Match": f'"{made["etag"]}"'})["status"] == "disabled"
    ask("DELETE", url, headers, **{"If-Match": "*"})


def test_iot_hub_module_identity_and_device_twin(hub):
    host, headers = hub
    device = f"az-{uuid.uuid4().hex[:8]}"
    url = f"{host}/devices/{device}"
    ask("PUT", f"{url}?api-version={HUB}", headers, {"deviceId": device, "authentication": {"type": "sas"}})
    module = {"deviceId": device, "moduleId": "m", "authentication": {"type": "sas"}}
    ask("PUT", f"{url}/modules/m?api-version={HUB}", headers, module)
    assert [one["moduleId"] for one in ask("GET", f"{url}/modules?api-version={HUB}", headers)] == ["m"]
    twin = f"{host}/twins/{device}?api-version={HUB}"
    patched = ask("PATCH", twin, headers, {"properties": {"desired": {"target": 20}}}, **{"If-Match": "*"})
    assert ask("GET", twin, headers)["properties"]["desired"] == patched["properties"]["desired"]
    ask("DELETE", f"{url}?api-version={HUB}", headers, **{"If-Match": "*"})


def test_iot_hub_invoke_device_method_says_that_nobody_is_there(hub):
    host, headers = hub
    device = f"az-{uuid.uuid4().hex[:8]}"
    ask("PUT", f"{host}/devices/{device}?api-version={HUB}", headers, {"deviceId": device, "authentication": {"type": "sas"}})
    # The timeout is text, as the extension sends its default.
    body = {"methodName": "reboot", "payload": {}, "responseTimeoutInSeconds": "30", "connectTimeoutInSeconds": "0"}
    url = f"{host}/twins/{device}/methods?api-version={HUB}"
    answer = requests.post(url, headers=headers, json=body, timeout=SECONDS_MAX)
    assert (answer.status_code, "404103" in answer.text) == (404, True), answer.text


@pytest.fixture
def devices(hub):
    """Three that share a tag."""
    host, headers = hub
    fleet = f"az-{uuid.uuid4().hex[:8]}"
    names = [f"{fleet}-{number}" for number in range(3)]
    for name in names:
        ask("PUT", f"{host}/devices/{name}?api-version={HUB}", headers, {"deviceId": name, "authentication": {"type": "sas"}})
        ask("PATCH", f"{host}/twins/{name}?api-version={HUB}", headers, {"tags": {"fleet": fleet}}, **{"If-Match": "*"})
    yield fleet, names
    for name in names:
        ask("DELETE", f"{host}/devices/{name}?api-version={HUB}", headers, **{"If-Match": "*"})


def queried(hub, text, page):
    """Page by page, as the extension asks until it is told of no further one."""
    host, headers = hub
    rows, pages, more = [], 0, {}
    while True:
        url = f"{host}/devices/query?api-version={HUB}"
        sent = {**headers, "x-ms-max-item-count": str(page), **more}
        answer = requests.post(url, headers=sent, json={"query": text}, timeout=SECONDS_MAX)
        assert answer.ok, answer.text
        rows, pages = rows + answer.json(), pages + 1
        token = answer.headers.get("x-ms-continuation")
        if not token:
            return rows, pages
        more = {"x-ms-continuation": token}


def test_iot_hub_device_identity_list_and_query(hub, devices):
    fleet, names = devices
    rows, _ = queried(hub, "SELECT * FROM devices", 100)
    assert set(names) <= {one["deviceId"] for one in rows}
    rows, pages = queried(hub, f"SELECT deviceId FROM devices WHERE tags.fleet = '{fleet}'", 2)
    assert ([one["deviceId"] for one in rows], pages) == (names, 2)


def test_iot_hub_job_create_show_list_cancel(hub, devices):
    (host, headers), (fleet, names) = hub, devices
    wish = {
        "jobId": f"{fleet}-job",
        "type": "scheduleUpdateTwin",
        "queryCondition": f"tags.fleet = '{fleet}'",
        "updateTwin": {"etag": "*", "tags": {"byJob": True}},
        "startTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "maxExecutionTimeInSeconds": 3600,
    }
    url = f"{host}/jobs/v2/{wish['jobId']}?api-version={HUB}"
    job, deadline = ask("PUT", url, headers, wish), time.monotonic() + SECONDS_MAX
    while job["status"] != "completed":
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
        job = ask("GET", url, headers)
    assert job["deviceJobStatistics"]["succeededCount"] == len(names)

    ahead = {**wish, "jobId": f"{fleet}-ahead", "startTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))}
    url = f"{host}/jobs/v2/{ahead['jobId']}"
    ask("PUT", f"{url}?api-version={HUB}", headers, ahead)
    query = f"{host}/jobs/v2/query?jobType=scheduleUpdateTwin&jobStatus=scheduled&api-version={HUB}"
    assert ahead["jobId"] in [one["jobId"] for one in ask("GET", query, headers)]
    assert ask("POST", f"{url}/cancel?api-version={HUB}", headers)["status"] == "cancelled"


def test_iot_hub_configuration_create_show_list_update_metric_delete(hub, devices):
    (host, headers), (fleet, names) = hub, devices
    wish = {
        "id": fleet,
        "schemaVersion": "2.0",
        "labels": {},
        "content": {"deviceContent": {"properties.desired.byConfiguration": 1}},
        "metrics": {"queries": {"mine": f"SELECT deviceId FROM devices WHERE configurations.[[{fleet}]].status = 'Applied'"}},
        "targetCondition": f"tags.fleet = '{fleet}'",
        "etag": "*",
        "priority": 0,
    }
    url = f"{host}/configurations/{fleet}?api-version={HUB}"
    ask("PUT", url, headers, wish)
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        made = ask("GET", url, headers)
        if made["systemMetrics"]["results"].get("appliedCount") == len(names):
            break
        assert time.monotonic() < deadline, made
        time.sleep(0.1)
    assert fleet in [one["id"] for one in ask("GET", f"{host}/configurations?top=100&api-version={HUB}", headers)]
    rows, _ = queried(hub, made["metrics"]["queries"]["mine"], 100)
    assert [one["deviceId"] for one in rows] == names
    made["priority"] = 3
    assert ask("PUT", url, headers, made, **{"If-Match": f'"{made["etag"]}"'})["priority"] == 3
    ask("DELETE", url, headers, **{"If-Match": "*"})

def test_iot_dps_enrollment_group_create_show_list_delete():
    host, headers = signed(os.environ["PROVISIONING_CONNECTION_STRING"])
    group = f"az-{uuid.uuid4().hex[:8]}"
    url = f"{host}/enrollmentGroups/{group}?api-version={DPS}"
    wish = {"enrollmentGroupId": group, "attestation": {"type": "symmetricKey", "symmetricKey": {}}}
    made = ask("PUT", url, headers, wish)
    assert made["attestation"]["symmetricKey"]["primaryKey"]
    assert ask("GET", url, headers)["etag"] == made["etag"]
    # It wraps its query twice.
    query = {"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}
    listed = ask("POST", f"{host}/enrollmentGroups/query?api-version={DPS}", headers, query)
    assert group in [one["enrollmentGroupId"] for one in listed]
    ask("DELETE", url, headers, **{"If-Match": "*"})


def test_iot_dps_enrollment_create_list_delete():
    host, headers = signed(os.environ["PROVISIONING_CONNECTION_STRING"])
    name = f"az-{uuid.uuid4().hex[:8]}"
    url = f"{host}/enrollments/{name}?api-version={DPS}"
    ask("PUT", url, headers, {"registrationId": name, "attestation": {"type": "symmetricKey", "symmetricKey": {}}})
    query = {"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}
    listed = ask("POST", f"{host}/enrollments/query?api-version={DPS}", headers, query)
    assert name in [one["registrationId"] for one in listed]
    ask("DELETE", url, headers, **{"If-Match": "*"})


def test_dt_list_and_model_and_twin_commands(arm):
    instances = f"{SUBSCRIPTION}/providers/Microsoft.DigitalTwins/digitalTwinsInstances?api-version=2023-01-31"
    [found] = [one for one in ask("GET", instances, arm)["value"] if one["name"] == "twins"]
    host, headers = f"https://{found['properties']['hostName']}", bearer("https://digitaltwins.azure.net")
    model, twin = f"dtmi:az:M{uuid.uuid4().hex[:8]};1", f"az-{uuid.uuid4().hex[:8]}"
    document = {"@id": model, "@type": "Interface", "@context": "dtmi:dtdl:context;2", "contents": []}
    ask("POST", f"{host}/models?api-version={TWINS}", headers, [document])
    listed = ask("GET", f"{host}/models?includeModelDefinition=false&api-version={TWINS}", headers)
    assert model in [one["id"] for one in listed["value"]]
    ask("PUT", f"{host}/digitaltwins/{twin}?api-version={TWINS}", headers, {"$metadata": {"$model": model}})
    query = {"query": f"SELECT * FROM DIGITALTWINS WHERE $dtId = '{twin}'"}
    found = ask("POST", f"{host}/query?api-version={TWINS}", headers, query)
    assert [one["$dtId"] for one in found["value"]] == [twin]
    ask("DELETE", f"{host}/digitaltwins/{twin}?api-version={TWINS}", headers)
    ask("DELETE", f"{host}/models/{model}?api-version={TWINS}", headers)
