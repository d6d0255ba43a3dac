"""`az iot hub`, as far as it needs no extension: certificates, consumer groups, figures, enrichments and routes of a hub of its own."""

import datetime
import os
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

GROUP = os.environ["AZURE_RESOURCE_GROUP"]


@pytest.fixture(scope="module")
def hub(az):
    name = f"az-hub-{uuid.uuid4().hex[:8]}"
    az("iot", "hub", "create", "--name", name, "--resource-group", GROUP, "--sku", "S1")
    yield name
    az("iot", "hub", "delete", "--name", name, "--resource-group", GROUP)


class Certified:
    """A certificate with its key, signed by another one or by itself, in a file."""

    def __init__(self, path, common_name, issuer=None):
        self.path, self.key, now = str(path), ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        signer = issuer or self
        builder = x509.CertificateBuilder(
            issuer_name=signer.subject,
            subject_name=self.subject,
            public_key=self.key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(days=1),
            not_valid_after=now + datetime.timedelta(days=30),
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        path.write_bytes(builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def test_a_certificate_is_uploaded_verified_and_deleted(az, hub, tmp_path):
    at = ("--hub-name", hub, "--resource-group", GROUP)
    root = Certified(tmp_path / "root.pem", "our root")
    made = az("iot", "hub", "certificate", "create", *at, "--name", "root", "--path", root.path)
    assert (made["properties"]["isVerified"], made["properties"]["subject"]) == (False, "CN=our root")
    at_root = (*at, "--name", "root")
    stale = az.refused("iot", "hub", "certificate", "generate-verification-code", *at_root, "--etag", "AAAA")
    assert "412" in stale or "etag" in stale.lower() or "precondition" in stale.lower(), stale
    coded = az("iot", "hub", "certificate", "generate-verification-code", *at_root, "--etag", made["etag"])
    proof = Certified(tmp_path / "proof.pem", coded["properties"]["verificationCode"], root)
    verify = ("iot", "hub", "certificate", "verify", *at_root, "--path", proof.path)
    assert az(*verify, "--etag", coded["etag"])["properties"]["isVerified"] is True
    listed = az("iot", "hub", "certificate", "list", *at)
    assert [one["name"] for one in listed["value"]] == ["root"]
    shown = az("iot", "hub", "certificate", "show", *at_root)
    az("iot", "hub", "certificate", "delete", *at_root, "--etag", shown["etag"])
    assert az("iot", "hub", "certificate", "list", *at)["value"] == []


def test_consumer_groups_are_made_listed_and_deleted(az, hub):
    at = ("--hub-name", hub, "--resource-group", GROUP)
    assert az("iot", "hub", "consumer-group", "create", *at, "--name", "readers")["name"] == "readers"
    assert az("iot", "hub", "consumer-group", "show", *at, "--name", "readers")["name"] == "readers"
    assert {one["name"] for one in az("iot", "hub", "consumer-group", "list", *at)} == {"$Default", "readers"}
    az("iot", "hub", "consumer-group", "delete", *at, "--name", "readers")
    assert [one["name"] for one in az("iot", "hub", "consumer-group", "list", *at)] == ["$Default"]


def test_figures_of_a_hub_are_shown(az, hub):
    assert az("iot", "hub", "show-stats", "--name", hub, "--resource-group", GROUP)["totalDeviceCount"] == 0
    metrics = az("iot", "hub", "show-quota-metrics", "--name", hub, "--resource-group", GROUP)
    assert {"TotalMessages", "TotalDeviceCount"} <= {one["name"] for one in metrics}


def test_enrichments_and_routes_are_stored_and_tried(az, hub):
    at = ("--resource-group", GROUP)
    enrich = ("--name", hub, *at, "--key", "place")
    az("iot", "hub", "message-enrichment", "create", *enrich, "--value", "desk", "--endpoints", "events")
    [enrichment] = az("iot", "hub", "message-enrichment", "list", "--name", hub, *at)
    assert (enrichment["key"], enrichment["value"], enrichment["endpointNames"]) == ("place", "desk", ["events"])
    az("iot", "hub", "message-enrichment", "delete", *enrich)
    assert az("iot", "hub", "message-enrichment", "list", "--name", hub, *at) == []

    route = ("--hub-name", hub, *at, "--route-name", "hot")
    condition = "temperatureAlert = 'true'"
    az("iot", "hub", "route", "create", *route, "--source", "devicemessages", "--endpoint-name", "events", "--condition", condition)
    assert az("iot", "hub", "route", "show", *route)["condition"] == condition
    tried = ("iot", "hub", "route", "test", *route, "--body", "{}")
    assert az(*tried, "--ap", '{"temperatureAlert": "true"}')["result"] == "true"
    assert az(*tried, "--ap", '{"temperatureAlert": "false"}')["result"] == "false"
    az("iot", "hub", "route", "delete", *route)
