"""The graph, through the Python Digital Twins SDK."""

import json
import uuid
from pathlib import Path

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.digitaltwins.core import DigitalTwinsClient, DigitalTwinsEventRoute

from conftest import env


@pytest.fixture(scope="module")
def client(credential):
    return DigitalTwinsClient(env("AZURE_DIGITALTWINS_URL"), credential)


@pytest.fixture(scope="module")
def models(client):
    unique = uuid.uuid4().hex[:8]
    ids = {kind: f"dtmi:conformance:{kind}_{unique};1" for kind in ("Room", "Floor", "Thermostat", "Suite")}
    thermostat = {
        "@id": ids["Thermostat"], "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [{"@type": "Property", "name": "setPoint", "schema": "double"}],
    }
    room = {
        "@id": ids["Room"], "@type": "Interface", "@context": "dtmi:dtdl:context;2", "displayName": "Room",
        "contents": [
            {"@type": "Property", "name": "temperature", "schema": "double"},
            {"@type": "Property", "name": "tags", "schema": {"@type": "Map", "mapKey": {"name": "k", "schema": "string"}, "mapValue": {"name": "v", "schema": "string"}}},
            {"@type": "Component", "name": "thermostat", "schema": ids["Thermostat"]},
            {"@type": "Telemetry", "name": "noise", "schema": "integer"},
        ],
    }
    suite = {
        "@id": ids["Suite"], "@type": "Interface", "@context": ["dtmi:dtdl:context;3"], "extends": ids["Room"],
        "contents": [{"@type": "Property", "name": "beds", "schema": {"@type": "Array", "elementSchema": "integer"}}],
    }
    floor = {
        "@id": ids["Floor"], "@type": "Interface", "@context": "dtmi:dtdl:context;2",
        "contents": [{"@type": "Relationship", "name": "contains", "target": ids["Room"], "properties": [{"@type": "Property", "name": "since", "schema": "string"}]}],
    }
    sent = [suite, floor, room, thermostat]
    created = client.create_models(sent)
    assert [m.id for m in created] == [m["@id"] for m in sent]
    assert client.get_model(ids["Room"], include_model_definition=True).model == room
    return ids


def room(models, **more):
    return {"$metadata": {"$model": models["Room"]}, "thermostat": {"$metadata": {}}, **more}


def test_models_are_listed_with_what_they_depend_on_and_retired(client, models):
    found = {m.id for m in client.list_models(dependencies_for=[models["Suite"], models["Floor"]])}
    assert found == set(models.values())
    client.decommission_model(models["Floor"])
    with pytest.raises(HttpResponseError) as refused:
        client.upsert_digital_twin("never", {"$metadata": {"$model": models["Floor"]}})
    assert refused.value.status_code == 400
    with pytest.raises(ResourceExistsError):
        client.delete_model(models["Thermostat"])
    with pytest.raises(ResourceNotFoundError):
        client.get_model("dtmi:nowhere:Model;1")


def test_a_twin_is_created_patched_and_deleted_under_its_etag(client, models, name):
    created = client.upsert_digital_twin(name, room(models, temperature=80, tags={"a": "1"}))
    assert list(created)[:2] == ["$dtId", "$etag"] and created["temperature"] == 80
    assert created["$metadata"]["temperature"]["lastUpdateTime"] == created["$metadata"]["$lastUpdateTime"]
    assert client.get_digital_twin(name) == created
    with pytest.raises(ResourceExistsError):
        client.upsert_digital_twin(name, room(models), match_condition=MatchConditions.IfMissing)

    client.update_digital_twin(name, [
        {"op": "replace", "path": "/temperature", "value": 20.5},
        {"op": "add", "path": "/tags/b", "value": "2"},
        {"op": "remove", "path": "/tags/a"},
        {"op": "add", "path": "/thermostat/setPoint", "value": 19},
    ])
    changed = client.get_digital_twin(name)
    assert (changed["temperature"], changed["tags"]) == (20.5, {"b": "2"})
    assert client.get_component(name, "thermostat")["setPoint"] == 19
    client.update_component(name, "thermostat", [{"op": "replace", "path": "/setPoint", "value": 18}])

    with pytest.raises(ResourceModifiedError):
        client.update_digital_twin(name, [{"op": "replace", "path": "/temperature", "value": 1}],
                                   etag=created["$etag"], match_condition=MatchConditions.IfNotModified)
    for path, value in (("/temperature", "warm"), ("/unknown", 1)):
        with pytest.raises(HttpResponseError) as refused:
            client.update_digital_twin(name, [{"op": "add", "path": path, "value": value}])
        assert refused.value.status_code == 400
    assert client.get_digital_twin(name)["temperature"] == 20.5
    client.publish_telemetry(name, {"noise": 3})
    client.publish_component_telemetry(name, "thermostat", {"x": 1})
    client.delete_digital_twin(name)
    with pytest.raises(ResourceNotFoundError):
        client.get_digital_twin(name)


def test_relationships_hold_twins_and_answer_queries(client, models, name):
    floor_model = models["Floor"]
    client._client.digital_twin_models.update(floor_model, [{"op": "replace", "path": "/decommissioned", "value": False}])
    floor = f"{name}-floor"
    client.upsert_digital_twin(floor, {"$metadata": {"$model": floor_model}})
    for number in range(3):
        client.upsert_digital_twin(f"{name}-{number}", room(models, temperature=20 + number))
        client.upsert_relationship(floor, f"r{number}", {
            "$relationshipName": "contains", "$targetId": f"{name}-{number}", "since": f"202{number}"})
    assert len(list(client.list_relationships(floor))) == 3
    incoming = list(client.list_incoming_relationships(f"{name}-0"))
    assert [(r.source_id, r.relationship_name) for r in incoming] == [(floor, "contains")]
    client.update_relationship(floor, "r0", [{"op": "replace", "path": "/since", "value": "1999"}])
    assert client.get_relationship(floor, "r0")["since"] == "1999"

    warm = f"SELECT R.$dtId AS id, R.temperature FROM DIGITALTWINS F JOIN R RELATED F.contains E " \
           f"WHERE F.$dtId = '{floor}' AND R.temperature > 20 AND E.since != '1999' AND IS_OF_MODEL(R, '{models['Room']}')"
    rows = sorted((row["id"], row["temperature"]) for row in client.query_twins(warm))
    assert rows == [(f"{name}-1", 21), (f"{name}-2", 22)]
    count = list(client.query_twins(f"SELECT COUNT() FROM DIGITALTWINS WHERE STARTSWITH($dtId, '{name}-')"))
    assert count == [{"COUNT": 4}]
    with pytest.raises(HttpResponseError) as wrong:
        list(client.query_twins("foo"))
    assert "missing SELECT at 'foo'" in str(wrong.value)

    with pytest.raises(HttpResponseError) as held:
        client.delete_digital_twin(f"{name}-0")
    assert "RelationshipsNotDeleted" in str(held.value)
    with pytest.raises(ResourceNotFoundError):
        client.upsert_relationship(floor, "bad", {"$relationshipName": "contains", "$targetId": "nobody"})
    for number in range(3):
        client.delete_relationship(floor, f"r{number}")
        client.delete_digital_twin(f"{name}-{number}")
    client.delete_digital_twin(floor)


def test_a_subtype_is_found_as_its_ancestor(client, models, name):
    client.upsert_digital_twin(name, {"$metadata": {"$model": models["Suite"]}, "thermostat": {"$metadata": {}}, "beds": [1, 2]})
    found = list(client.query_twins(f"SELECT T FROM DIGITALTWINS T WHERE IS_OF_MODEL(T, '{models['Room']}') AND ARRAY_CONTAINS(T.beds, 2) AND T.$dtId = '{name}'"))
    assert found[0]["T"]["$dtId"] == name
    exact = list(client.query_twins(f"SELECT * FROM DIGITALTWINS T WHERE IS_OF_MODEL(T, '{models['Room']}', exact) AND T.$dtId = '{name}'"))
    assert exact == []


def test_a_route_needs_an_endpoint(client, name):
    with pytest.raises(HttpResponseError) as refused:
        client.upsert_event_route(name, DigitalTwinsEventRoute(endpoint_name="nowhere", filter="true"))
    assert "EventRouteEndpointInvalid" in str(refused.value)
    assert name not in [route.id for route in client.list_event_routes()]


@pytest.mark.parametrize("ontology", ["opendigitaltwins-building.json", "realestatecore-rec-dtdlv2.json"])
def test_a_published_ontology_loads(client, ontology):
    path = Path(env("TWINHUB_SHARED")) / "data/ontologies" / ontology
    models = json.loads(path.read_text())
    models = models if isinstance(models, list) else list(models.values())
    for batch in in_dependency_order(models, size=250):
        client.create_models(batch)
    assert client.get_model(models[-1]["@id"]).id == models[-1]["@id"]


def in_dependency_order(models, size):
    """Batches in which every model comes with, or after, what it extends and contains, as `az dt model create` sends them."""
    by_id = {m["@id"]: m for m in models}
    done, order = set(), []

    def needs(model):
        extends = model.get("extends", [])
        yield from extends if isinstance(extends, list) else [extends]
        for content in model.get("contents", []):
            if "Component" in content.get("@type", ""):
                yield content["schema"]

    def visit(model):
        if model["@id"] in done:
            return
        done.add(model["@id"])
        for need in needs(model):
            if isinstance(need, str) and need in by_id:
                visit(by_id[need])
        order.append(model)

    for model in models:
        visit(model)
    return [order[i : i + size] for i in range(0, len(order), size)]
