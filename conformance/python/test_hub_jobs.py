"""Scheduled jobs, through the Python service SDK and a device that is connected."""

import time
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub import IoTHubJobManager
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, QuerySpecification, Twin, TwinProperties
from conftest import env
from msrest.exceptions import HttpOperationError


@pytest.fixture(scope="module")
def jobs():
    return IoTHubJobManager.from_connection_string(env("IOTHUB_CONNECTION_STRING"))


def request(device_id, **what):
    asked = JobRequest()
    asked.job_id = str(uuid.uuid4())
    asked.query_condition = f"deviceId IN ['{device_id}']"
    asked.max_execution_time_in_seconds = 60
    for name, value in what.items():
        setattr(asked, name, value)
    return asked


def ended(jobs, job_id):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        job = jobs.get_scheduled_job(job_id)
        if job.status in ("completed", "failed", "cancelled"):
            return job
        time.sleep(0.1)
    raise AssertionError(f"the job is still {job.status}")


def test_a_job_patches_a_twin(jobs, registry, device):
    patch = Twin(etag="*", tags={"floor": 3}, properties=TwinProperties(desired={"target": 21}))
    asked = request(device.device_id, type="scheduleUpdateTwin", update_twin=patch)
    created = jobs.create_scheduled_job(asked.job_id, asked)
    assert (created.job_id, created.type, created.update_twin.etag) == (asked.job_id, "scheduleUpdateTwin", "*")
    job = ended(jobs, asked.job_id)
    assert (job.status, job.device_job_statistics.succeeded_count) == ("completed", 1)
    twin = registry.get_twin(device.device_id)
    assert (twin.tags, twin.properties.desired["target"]) == ({"floor": 3}, 21)
    rows = registry.query_iot_hub(QuerySpecification(query=f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{asked.job_id}'"))
    [row] = rows.items
    assert (rows.type, row.device_id, row.status) == ("DeviceJob", device.device_id, "completed")
    with pytest.raises(HttpOperationError) as twice:
        jobs.create_scheduled_job(asked.job_id, asked)
    assert twice.value.response.status_code == 409


def test_a_job_calls_a_method_of_a_connected_device(jobs, device, key, ca_pem):
    host = env("IOTHUB_HOSTNAME")
    text = f"HostName={host};DeviceId={device.device_id};SharedAccessKey={key}"
    client = IoTHubDeviceClient.create_from_connection_string(text, server_verification_cert=ca_pem)
    heard = []

    def answer(method):
        heard.append((method.name, method.payload))
        client.send_method_response(MethodResponse.create_from_method_request(method, 200, {"ok": True}))

    client.on_method_request_received = answer
    client.connect()
    try:
        method = CloudToDeviceMethod(method_name="reboot", payload={"in": 5}, response_timeout_in_seconds=30)
        asked = request(device.device_id, type="scheduleDeviceMethod", cloud_to_device_method=method)
        jobs.create_scheduled_job(asked.job_id, asked)
        job = ended(jobs, asked.job_id)
    finally:
        client.shutdown()
    assert (job.status, job.device_job_statistics.succeeded_count) == ("completed", 1)
    assert heard == [("reboot", {"in": 5})]


# Listing is Node's: this client takes only an object for an answer, and the service sends an array.
def test_a_job_that_lies_ahead_is_cancelled(jobs, device):
    start = datetime.now(timezone.utc) + timedelta(hours=1)
    patch = Twin(etag="*", tags={"late": True})
    asked = request(device.device_id, type="scheduleUpdateTwin", update_twin=patch, start_time=start)
    jobs.create_scheduled_job(asked.job_id, asked)
    assert jobs.get_scheduled_job(asked.job_id).status == "scheduled"
    assert jobs.cancel_scheduled_job(asked.job_id).status == "cancelled"
    with pytest.raises(HttpOperationError) as again:
        jobs.cancel_scheduled_job(asked.job_id)
    assert again.value.response.status_code == 405
