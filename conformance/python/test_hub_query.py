"""Queries over twins, through the Python service SDK: pages by the headers that it reads and writes."""

import pytest
from azure.iot.hub.models import QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError


@pytest.fixture
def fleet(registry, name, key):
    """Seven devices of one site, one of them with a module; gone after the test."""
    ids = [f"{name}-{n}" for n in range(7)]
    for n, device_id in enumerate(ids):
        registry.create_device_with_sas(device_id, key, key, "enabled" if n else "disabled")
        patch = Twin(tags={"site": name, "floor": n % 3}, properties=TwinProperties(desired={"target": 20 + n}))
        registry.update_twin(device_id, patch, "*")
    registry.create_module_with_sas(ids[1], "camera", "", key, key)
    yield ids
    for device_id in ids:
        registry.delete_device(device_id)


def pages(registry, text, size):
    """Every page, as its items."""
    found, continuation = [], None
    while True:
        page = registry.query_iot_hub(QuerySpecification(query=text), continuation, size)
        found.append(page.items)
        assert len(page.items) <= size
        if not page.continuation_token:
            return found
        continuation = page.continuation_token


def test_whole_twins_come_in_pages(registry, fleet, name):
    found = pages(registry, f"SELECT * FROM devices WHERE tags.site = '{name}'", 3)
    assert [len(page) for page in found] == [3, 3, 1]
    twins = [twin for page in found for twin in page]
    assert [twin.device_id for twin in twins] == fleet
    for twin in twins:
        read = registry.get_twin(twin.device_id)
        assert twin.as_dict() == read.as_dict()
    (module,) = pages(registry, f"SELECT * FROM devices.modules WHERE deviceId = '{fleet[1]}'", 10)
    assert [(twin.device_id, twin.module_id) for twin in module] == [(fleet[1], "camera")]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("tags.floor = 1", [1, 4]),
        ("tags.floor IN [0, 2] AND properties.desired.target >= 23", [3, 5, 6]),
        ("status = 'disabled'", [0]),
        ("NOT IS_DEFINED(tags.nothing) AND properties.desired.target + 1 = 24", [3]),
        ("tags.floor = '1'", []),
    ],
)
def test_conditions_select_what_they_are_true_of(registry, fleet, name, condition, expected):
    found = pages(registry, f"SELECT * FROM devices WHERE tags.site = '{name}' AND {condition}", 2)
    assert [fleet.index(twin.device_id) for page in found for twin in page] == expected


def test_a_write_is_seen_at_once(registry, fleet, name):
    for n in range(5):
        registry.update_twin(fleet[2], Twin(tags={"mark": n}), "*")
        found = pages(registry, f"SELECT * FROM devices WHERE tags.site = '{name}' AND tags.mark = {n}", 10)
        assert [twin.device_id for page in found for twin in page] == [fleet[2]]


def test_a_wrong_query_says_where(registry):
    with pytest.raises(HttpOperationError) as refused:
        registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices WHERE tags.a =="))
    response = refused.value.response
    assert (response.status_code, response.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
    assert "Position=36" in response.text
