"""The identity registry and the twins, through the Python service SDK."""

import pytest
from azure.iot.hub.models import (
    AuthenticationMechanism,
    ExportImportDevice,
    PropertyContainer,
    SymmetricKey,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError


def status(error):
    return error.value.response.status_code


def test_a_device_is_created_read_updated_and_deleted(registry, name, key):
    created = registry.create_device_with_sas(name, key, key, "enabled")
    assert created.authentication.symmetric_key.primary_key == key
    read = registry.get_device(name)
    assert (read.generation_id, read.status) == (created.generation_id, "enabled")

    updated = registry.update_device_with_sas(name, read.etag, key, key, "disabled", status_reason="maintenance")
    assert (updated.status, updated.status_reason) == ("disabled", "maintenance")
    with pytest.raises(HttpOperationError) as stale:
        registry.update_device_with_sas(name, read.etag, key, key, "enabled")
    assert status(stale) == 412
    assert registry.get_device(name).status == "disabled"

    registry.delete_device(name)
    with pytest.raises(HttpOperationError) as gone:
        registry.get_device(name)
    assert status(gone) == 404
    assert gone.value.response.headers["iothub-errorcode"] == "DeviceNotFound"


def test_a_device_cannot_be_registered_twice(registry, device, key):
    with pytest.raises(HttpOperationError) as conflict:
        registry.create_device_with_sas(device.device_id, key, key, "enabled")
    assert status(conflict) == 409


def test_modules_live_and_die_with_their_device(registry, device, key):
    registry.create_module_with_sas(device.device_id, "camera", "operator", key, key)
    assert registry.get_module(device.device_id, "camera").managed_by == "operator"
    assert [m.module_id for m in registry.get_modules(device.device_id)] == ["camera"]
    with pytest.raises(HttpOperationError) as conflict:
        registry.create_module_with_sas(device.device_id, "camera", "operator", key, key)
    assert status(conflict) == 409
    registry.delete_device(device.device_id)
    with pytest.raises(HttpOperationError) as gone:
        registry.get_module_twin(device.device_id, "camera")
    assert status(gone) == 404


def test_a_module_twin_is_patched_under_its_etag(registry, device, key):
    registry.create_module_with_sas(device.device_id, "mod1", "", key, key)
    before = registry.get_module_twin(device.device_id, "mod1")
    assert (before.version, before.etag, before.properties.desired["$version"]) == (2, "AAAAAAAAAAE=", 1)

    patch = Twin(tags={"env": "test"}, properties=TwinProperties(desired={"interval": 30, "old": None}))
    after = registry.update_module_twin(device.device_id, "mod1", patch, before.etag)
    assert (after.version, after.etag, after.tags) == (3, "AAAAAAAAAAI=", {"env": "test"})
    assert after.properties.desired["interval"] == 30 and "old" not in after.properties.desired
    assert after.properties.desired["$version"] == 2
    assert after.properties.desired["$metadata"]["interval"]["$lastUpdatedVersion"] == 2

    with pytest.raises(HttpOperationError) as stale:
        registry.update_module_twin(device.device_id, "mod1", Twin(tags={"env": "lost"}), before.etag)
    assert status(stale) == 412
    assert registry.get_module_twin(device.device_id, "mod1").tags == {"env": "test"}


def test_a_twin_is_replaced_whole(registry, device):
    registry.update_twin(
        device.device_id, Twin(tags={"a": 1}, properties=TwinProperties(desired={"x": {"y": 1}, "z": 2})), "*"
    )
    replaced = registry.replace_twin(device.device_id, Twin(tags={"b": 2}, properties=TwinProperties(desired={"x": {}})), "*")
    assert replaced.tags == {"b": 2}
    assert {k: v for k, v in replaced.properties.desired.items() if not k.startswith("$")} == {"x": {}}


def test_a_twin_keeps_its_limits(registry, device):
    too_deep = value = {}
    for _ in range(10):
        value["n"] = {}
        value = value["n"]
    value["n"] = {}
    for desired in ({"a.b": 1}, {"text": "x" * 4097}, {"n": 2**53}, {"list": [None]}, too_deep, {"big": ["x" * 4000] * 9}):
        with pytest.raises(HttpOperationError) as refused:
            registry.update_twin(device.device_id, Twin(properties=TwinProperties(desired=desired)), "*")
        assert status(refused) in (400, 413), desired
    assert registry.get_twin(device.device_id).properties.desired["$version"] == 1


def test_statistics_count_devices(registry, device):
    assert registry.get_device_registry_statistics().total_device_count >= 1
    assert registry.get_service_statistics().connected_device_count >= 0


def test_many_identities_are_written_in_one_call_and_each_fails_for_itself(registry, name, key):
    ids = [f"{name}-{n}" for n in range(3)]
    sas = AuthenticationMechanism(type="sas", symmetric_key=SymmetricKey(primary_key=key, secondary_key=key))

    def items(mode, ids=ids, **more):
        return [ExportImportDevice(id=device_id, import_mode=mode, **more) for device_id in ids]

    twin = {"tags": {"floor": 1}, "properties": PropertyContainer(desired={"target": 20})}
    module = ExportImportDevice(id=ids[0], module_id="camera", import_mode="create", authentication=sas)
    created = registry.bulk_create_or_update_devices(
        [*items("create", status="enabled", authentication=sas, **twin), module]
    )
    assert (created.is_successful, created.errors) == (True, [])
    for device_id in ids:
        assert registry.get_device(device_id).authentication.symmetric_key.primary_key == key
        read = registry.get_twin(device_id)
        assert (read.tags, read.properties.desired["target"]) == ({"floor": 1}, 20)
    assert registry.get_module(ids[0], "camera").authentication.symmetric_key.primary_key == key

    again = registry.bulk_create_or_update_devices(items("create", [ids[1], f"{name}-new"], authentication=sas))
    assert not again.is_successful
    assert [error.device_id for error in again.errors] == [ids[1]]
    ids.append(f"{name}-new")
    assert registry.bulk_create_or_update_devices(items("updateTwin", tags={"floor": 2})).is_successful
    assert [registry.get_twin(device_id).tags["floor"] for device_id in ids] == [2, 2, 2, 2]

    assert registry.bulk_create_or_update_devices(items("delete")).is_successful
    for device_id in ids:
        with pytest.raises(HttpOperationError):
            registry.get_device(device_id)
