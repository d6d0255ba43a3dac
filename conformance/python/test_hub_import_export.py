"""Import and export of the device registry, to Azurite and to the account of this server: the service SDK asks for jobs, the storage SDK looks at what they wrote; the same through Resource Manager."""

import json
import time
from datetime import datetime, timedelta, timezone

import pytest
from azure.core.exceptions import HttpResponseError as ManagementError
from azure.iot.hub import IoTHubConfigurationManager, IoTHubJobManager
from azure.iot.hub.models import JobProperties
from azure.mgmt.iothub.models import ExportDevicesRequest, ImportDevicesRequest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from msrest.exceptions import HttpOperationError

from conftest import env

CONTAINER = "registry"


@pytest.fixture(scope="module")
def container(account):
    service = BlobServiceClient.from_connection_string(account[0], connection_verify=account[1])
    container = service.get_container_client(CONTAINER)
    if not container.exists():
        container.create_container()
    return container


def uri(container, permissions="rwdlac"):
    """The container's address with a signature, as samples make one."""
    signature = generate_container_sas(
        container.account_name,
        container.container_name,
        account_key=container.credential.account_key,
        permission=ContainerSasPermissions.from_string(permissions),
        expiry=datetime.now(timezone.utc) + timedelta(hours=1),
    )
    return f"{container.url}?{signature}"


@pytest.fixture(scope="module")
def jobs():
    return IoTHubJobManager.from_connection_string(env("IOTHUB_CONNECTION_STRING"))


def through(jobs, **properties):
    """A job once it has ended."""
    job = jobs.create_import_export_job(JobProperties(**properties))
    assert job.status == "enqueued"
    return ended(lambda: jobs.get_import_export_job(job.job_id))


def ended(look):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        job = look()
        if job.status not in ("enqueued", "running"):
            return job
        time.sleep(0.1)
    raise AssertionError("the job does not end")


def lines(container, blob):
    text = container.download_blob(blob).readall().decode()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def own(container, blob, name):
    """The lines of one test's devices."""
    return [line for line in lines(container, blob) if line["id"].startswith(name)]


@pytest.fixture
def fleet(registry, name):
    """A device with a twin, one of IoT Edge, one below it whose name comes before; gone after the test."""
    ids = [f"{name}-leaf", f"{name}-gateway", f"{name}-below"]
    registry.create_device_with_sas(ids[0], "", "", "enabled")
    registry.update_twin(ids[0], {"tags": {"floor": 1}, "properties": {"desired": {"target": 21}}})
    registry.create_device_with_sas(ids[1], "", "", "enabled", iot_edge=True)
    scope = registry.get_device(ids[1]).device_scope
    registry.create_device_with_sas(ids[2], "", "", "disabled", device_scope=scope)
    registry.create_module_with_sas(ids[0], "vision", "somebody", "", "")
    yield ids
    for device in ids:
        try:
            registry.delete_device(device)
        except HttpOperationError:
            pass  # the test deleted it itself


def test_what_is_exported_is_imported_again(registry, jobs, container, fleet, name):
    leaf = registry.get_device(fleet[0])
    blob = f"{name}/devices.txt"
    job = through(jobs, type="export", output_blob_container_uri=uri(container), output_blob_name=blob, exclude_keys_in_export=False)
    assert (job.status, job.progress, job.failure_reason) == ("completed", 100, None)
    assert not job.output_blob_container_uri
    before = own(container, blob, name)
    assert [line["id"] for line in before] == [fleet[1], fleet[2], fleet[0], fleet[1], fleet[1], fleet[0]]
    assert [line.get("moduleId") for line in before[3:]] == ["$edgeAgent", "$edgeHub", "vision"]
    assert before[2]["authentication"]["symmetricKey"]["primaryKey"] == leaf.authentication.symmetric_key.primary_key
    assert before[2]["tags"] == {"floor": 1} and before[2]["properties"]["desired"]["target"] == 21
    for device in fleet:
        registry.delete_device(device)
    text = "\n".join(json.dumps(line) for line in before)
    container.upload_blob(blob, text, overwrite=True)
    job = through(
        jobs, type="import", input_blob_container_uri=uri(container), input_blob_name=blob, output_blob_container_uri=uri(container)
    )
    assert (job.status, job.failure_reason) == ("completed", None)
    assert not container.get_blob_client("importErrors.log").exists()
    again = registry.get_device(fleet[0])
    assert again.authentication.symmetric_key.primary_key == leaf.authentication.symmetric_key.primary_key
    assert again.generation_id != leaf.generation_id
    assert registry.get_twin(fleet[0]).tags == {"floor": 1}
    assert registry.get_device(fleet[2]).status == "disabled"
    assert registry.get_device(fleet[2]).device_scope == registry.get_device(fleet[1]).device_scope
    assert {module.module_id for module in registry.get_modules(fleet[0])} == {"vision"}


def test_without_keys_they_are_null(jobs, container, fleet, name):
    blob = f"{name}/devices.txt"
    through(jobs, type="export", output_blob_container_uri=uri(container), output_blob_name=blob, exclude_keys_in_export=True)
    first = container.download_blob(blob).readall().decode().splitlines()[0]
    assert not first.startswith("{")
    for line in own(container, blob, name):
        assert line["authentication"]["symmetricKey"] == {"primaryKey": None, "secondaryKey": None}


def test_what_fails_is_told_line_by_line(registry, jobs, container, device, name):
    blob = f"{name}/devices.txt"
    wanted = [
        {"id": device.device_id, "importMode": "create", "status": "enabled"},
        {"id": f"{name}-nobody", "importMode": "delete"},
        {"id": device.device_id, "importMode": "update", "status": "disabled"},
    ]
    container.upload_blob(blob, "\r\n".join(json.dumps(line) for line in wanted), overwrite=True)
    job = through(
        jobs, type="import", input_blob_container_uri=uri(container), input_blob_name=blob, output_blob_container_uri=uri(container)
    )
    assert (job.status, job.failure_reason) == ("completed", None)
    told = lines(container, "importErrors.log")
    assert [(line["deviceId"], line["errorCode"]) for line in told] == [(device.device_id, 409001), (f"{name}-nobody", 404001)]
    assert registry.get_device(device.device_id).status == "disabled"
    container.delete_blob("importErrors.log")


def test_configurations_go_along(jobs, container, name):
    configurations = IoTHubConfigurationManager.from_connection_string(env("IOTHUB_CONNECTION_STRING"))
    from azure.iot.hub.models import Configuration, ConfigurationContent

    id = name.lower()
    content = ConfigurationContent(device_content={"properties.desired.conform": {"interval": 5}})
    configurations.create_configuration(Configuration(id=id, content=content, target_condition="tags.x = 'none'", priority=3))
    blobs = {"output_blob_name": f"{name}/devices.txt", "configurations_blob_name": f"{name}/configurations.txt"}
    through(jobs, type="export", output_blob_container_uri=uri(container), include_configurations=True, exclude_keys_in_export=True, **blobs)
    written = [line for line in lines(container, blobs["configurations_blob_name"]) if line["Id"] == id]
    assert (written[0]["Priority"], written[0]["TargetCondition"]) == (3, "tags.x = 'none'")
    configurations.delete_configuration(id)
    container.upload_blob(blobs["configurations_blob_name"], json.dumps(written[0]), overwrite=True)
    container.upload_blob(blobs["output_blob_name"], b"", overwrite=True)
    job = through(
        jobs,
        type="import",
        input_blob_container_uri=uri(container),
        input_blob_name=blobs["output_blob_name"],
        output_blob_container_uri=uri(container),
        include_configurations=True,
        configurations_blob_name=blobs["configurations_blob_name"],
    )
    assert job.status == "completed"
    assert configurations.get_configuration(id).content.device_content == {"properties.desired.conform": {"interval": 5}}
    configurations.delete_configuration(id)


def test_a_container_that_cannot_be_written_is_refused_at_once(jobs, container):
    for permissions in ("rl", "racwl"):
        with pytest.raises(HttpOperationError) as refused:
            through(jobs, type="export", output_blob_container_uri=uri(container, permissions))
        assert refused.value.response.headers["iothub-errorcode"] == "BlobContainerValidationError"
    with pytest.raises(HttpOperationError) as refused:
        through(jobs, type="import", input_blob_container_uri=uri(container), input_blob_name="nowhere", output_blob_container_uri=uri(container))
    assert refused.value.response.headers["iothub-errorcode"] == "InvalidStorageEndpointOrBlob"


def test_jobs_are_listed_and_those_that_are_over_are_not_cancelled(jobs, container):
    job = through(jobs, type="export", output_blob_container_uri=uri(container), exclude_keys_in_export=True)
    listed = {one.job_id: one.status for one in jobs.get_import_export_jobs()}
    assert listed[job.job_id] == "completed"
    for id in (job.job_id, "11111111-2222-3333-4444-555555555555"):
        with pytest.raises(HttpOperationError) as refused:
            jobs.cancel_import_export_job(id)
        assert refused.value.response.status_code == 404


def test_resource_manager_asks_for_the_same_jobs(management, scenario, registry, jobs, container, fleet, name):
    management = management.iot_hub_resource
    group, hub = scenario["group"], env("IOTHUB_HOSTNAME").split(".")[0]
    names = [one.name for one in management.list_by_resource_group(group)]
    hub = hub if hub in names else names[0]
    blob = f"{name}/devices.txt"
    wanted = ExportDevicesRequest(export_blob_container_uri=uri(container), exclude_keys=False, export_blob_name=blob)
    job = management.export_devices(group, hub, wanted)
    assert (job.type, job.status) == ("export", "enqueued")
    job = ended(lambda: management.get_job(group, hub, job.job_id))
    assert job.status == "completed" and job.end_time_utc >= job.start_time_utc
    assert len(own(container, blob, name)) == 6
    registry.delete_device(fleet[2])
    wanted = ImportDevicesRequest(
        input_blob_container_uri=uri(container), output_blob_container_uri=uri(container), input_blob_name=blob
    )
    job = management.import_devices(group, hub, wanted)
    assert ended(lambda: management.get_job(group, hub, job.job_id)).status == "completed"
    assert registry.get_device(fleet[2]).status == "disabled"
    listed = {one.job_id: one.type for one in management.list_jobs(group, hub)}
    assert listed[job.job_id] == "import"
    assert job.job_id in {one.job_id for one in jobs.get_import_export_jobs()}
    with pytest.raises(ManagementError) as refused:
        management.get_job(group, hub, "11111111-2222-3333-4444-555555555555")
    assert refused.value.status_code == 404
