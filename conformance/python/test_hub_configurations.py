"""Configurations, through the Python service SDK."""

import time
import uuid

import pytest
from azure.iot.hub import IoTHubConfigurationManager
from azure.iot.hub.models import Configuration, ConfigurationContent, ConfigurationMetrics, ConfigurationQueriesTestInput
from azure.iot.hub.models import QuerySpecification, Twin
from conftest import env
from msrest.exceptions import HttpOperationError


@pytest.fixture(scope="module")
def configurations():
    return IoTHubConfigurationManager.from_connection_string(env("IOTHUB_CONNECTION_STRING"))


@pytest.fixture
def configuration(configurations):
    name = f"cfg-{uuid.uuid4()}"
    yield name
    try:
        configurations.delete_configuration(name)
    except HttpOperationError as error:
        assert error.response.status_code == 404


def asked(name, condition, **more):
    content = ConfigurationContent(device_content={"properties.desired.settings": {"interval": 5}})
    return Configuration(id=name, schema_version="1.0", content=content, target_condition=condition, **more)


def test_a_configuration_is_made_shown_updated_and_deleted(configurations, configuration):
    metrics = ConfigurationMetrics(queries={"all": "SELECT deviceId FROM devices"})
    condition = f"tags.configuredBy = '{configuration}'"
    made = configurations.create_configuration(
        asked(configuration, condition, labels={"made": "here"}, priority=7, metrics=metrics)
    )
    assert (made.id, made.etag, made.priority, made.labels) == (configuration, "MQ==", 7, {"made": "here"})
    assert made.content.device_content == {"properties.desired.settings": {"interval": 5}}
    assert made.metrics.queries == {"all": "SELECT deviceId FROM devices"}
    assert made.system_metrics.queries["targetedCount"] == f"select deviceId from devices where {condition}"
    with pytest.raises(HttpOperationError) as twice:
        configurations.create_configuration(asked(configuration, condition))
    assert twice.value.response.status_code == 409
    made.priority = 8
    # This client sends a tag as it is given, and of a configuration only a quoted one counts.
    updated = configurations.update_configuration(made, f'"{made.etag}"')
    assert (updated.priority, updated.etag) == (8, "Mg==")
    with pytest.raises(HttpOperationError) as stale:
        configurations.update_configuration(made, '"MQ=="')
    assert stale.value.response.status_code == 412
    assert configuration in [one.id for one in configurations.get_configurations(100)]
    configurations.delete_configuration(configuration)
    with pytest.raises(HttpOperationError) as gone:
        configurations.get_configuration(configuration)
    assert gone.value.response.status_code == 404


def test_twins_are_as_their_configuration_has_them(configurations, configuration, registry, device):
    def when(is_so):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = registry.get_twin(device.device_id)
            if is_so(found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"the twin is still {found.as_dict()}")

    registry.update_twin(device.device_id, Twin(tags={"configuredBy": configuration}), "*")
    made = configurations.create_configuration(asked(configuration, f"tags.configuredBy = '{configuration}'"))
    twin = when(lambda found: "settings" in found.properties.desired)
    assert twin.properties.desired["settings"] == {"interval": 5}
    query = made.system_metrics.queries["appliedCount"]
    rows = registry.query_iot_hub(QuerySpecification(query=query)).items
    assert [row.device_id for row in rows] == [device.device_id]
    registry.update_twin(device.device_id, Twin(tags={"configuredBy": None}), "*")
    assert "settings" not in registry.get_twin(device.device_id).properties.desired
    counted = configurations.get_configuration(configuration)
    assert set(counted.system_metrics.queries) == {"targetedCount", "appliedCount"}


def test_queries_are_tried(configurations):
    tried = configurations.test_configuration_queries(
        ConfigurationQueriesTestInput(
            target_condition="tags.a ===", custom_metric_queries={"right": "SELECT * FROM devices", "wrong": "SELECT"}
        )
    )
    assert "cannot be read" in tried.target_condition_error
    assert list(tried.custom_metric_query_errors) == ["wrong"]


def test_a_content_is_applied_to_one_device(configurations, registry, device):
    content = ConfigurationContent(device_content={"properties.desired.settings": {"interval": 9}})
    configurations.apply_configuration_on_edge_device(device.device_id, content)
    assert registry.get_twin(device.device_id).properties.desired["settings"] == {"interval": 9}
    modules = {"$edgeAgent": {"properties.desired": {"modules": {"m1": {"type": "docker"}}}}}
    with pytest.raises(HttpOperationError) as plain:
        configurations.apply_configuration_on_edge_device(device.device_id, ConfigurationContent(modules_content=modules))
    assert "Not an Azure IoT Edge device" in plain.value.response.text
