"""`az role`: definitions and assignments by name and by id, for principals that the directory knows and for others."""

import os
import uuid

import pytest

SUBSCRIPTION = f"/subscriptions/{os.environ['ARM_SUBSCRIPTION_ID']}"
GROUP = f"{SUBSCRIPTION}/resourceGroups/{os.environ['AZURE_RESOURCE_GROUP']}"
TWINS = f"{GROUP}/providers/Microsoft.DigitalTwins/digitalTwinsInstances/twins"
APPLICATION = os.environ["AZURE_CLIENT_ID"]
DATA_OWNER = ("Azure Digital Twins Data Owner", "bcd981a7-7f74-457b-83e1-cceb9e632ffe")
READER = ("IoT Hub Data Reader", "b447c946-2db7-41ec-983d-d8bf3b1c77e3")


def assignments(az, *arguments):
    return az("role", "assignment", "list", *arguments)


@pytest.mark.parametrize("name", DATA_OWNER)
def test_a_role_is_found_by_its_name_and_by_its_guid(az, name):
    [role] = az("role", "definition", "list", "--name", name, "--scope", TWINS)
    assert (role["roleName"], role["name"]) == DATA_OWNER
    assert "Microsoft.DigitalTwins/models/*" in role["permissions"][0]["dataActions"]


def test_custom_roles_are_none(az):
    assert az("role", "definition", "list", "--custom-role-only", "true") == []


@pytest.mark.parametrize("role", READER)
def test_a_role_is_given_to_an_application_by_its_client_id_and_taken_again(az, role):
    made = az("role", "assignment", "create", "--assignee", APPLICATION, "--role", role, "--scope", TWINS)
    again = az("role", "assignment", "create", "--assignee", APPLICATION, "--role", role, "--scope", TWINS)
    assert again["id"] == made["id"]
    [shown] = assignments(az, "--scope", TWINS)
    assert (shown["id"], shown["roleDefinitionName"]) == (made["id"], READER[0])
    assert shown["principalName"] == APPLICATION
    inherited = assignments(az, "--scope", TWINS, "--include-inherited", "--assignee", APPLICATION)
    assert {"Owner", READER[0]} <= {one["roleDefinitionName"] for one in inherited}
    az("role", "assignment", "delete", "--assignee", APPLICATION, "--role", role, "--scope", TWINS)
    assert assignments(az, "--scope", TWINS) == []


def test_a_role_is_given_to_an_id_that_nobody_knows_when_its_type_is_said(az):
    stranger = str(uuid.uuid4())
    wish = ["role", "assignment", "create", "--assignee-object-id", stranger, "--role", "Reader", "--scope", GROUP]
    assert "PrincipalNotFound" in az.refused(*wish)
    made = az(*wish, "--assignee-principal-type", "ServicePrincipal")
    assert (made["principalId"], made["scope"]) == (stranger, GROUP)
    assert [one["id"] for one in assignments(az, "--all", "--assignee-object-id", stranger)] == [made["id"]]
    az("role", "assignment", "delete", "--ids", made["id"])
    assert assignments(az, "--all", "--assignee-object-id", stranger) == []


def test_a_managed_identity_is_looked_up_and_goes_with_what_it_was_given(az):
    name = f"user-{uuid.uuid4().hex[:8]}"
    group = ["--resource-group", os.environ["AZURE_RESOURCE_GROUP"]]
    identity = az("identity", "create", "--name", name, *group)
    az("role", "assignment", "create", "--assignee", identity["principalId"], "--role", READER[1], "--scope", GROUP)
    [held] = assignments(az, "--scope", GROUP)
    assert (held["principalId"], held["principalName"]) == (identity["principalId"], identity["clientId"])
    az("identity", "delete", "--name", name, *group)
    assert assignments(az, "--scope", GROUP) == []
