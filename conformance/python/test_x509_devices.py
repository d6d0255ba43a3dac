"""Devices and modules that prove themselves with certificates, through the Python device SDK and Eclipse Paho."""

import base64
import datetime
import queue
import ssl

import paho.mqtt.client as mqtt
import pytest
from azure.iot.device import X509, IoTHubDeviceClient, IoTHubModuleClient, Message
from azure.core.exceptions import HttpResponseError
from azure.iot.device.exceptions import ClientError
from azure.mgmt.iothub import IotHubClient
from azure.mgmt.iothub.models import (
    CertificateDescription,
    CertificateProperties,
    CertificateVerificationDescription,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from conftest import env, telemetry

PATIENCE = 15
KEYS = {
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "EC": lambda: ec.generate_private_key(ec.SECP256R1()),
}


def named(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class Certified:
    """A certificate with its key, signed by another one or by itself."""

    def __init__(self, common_name, issuer=None, kind="EC", is_ca=False):
        self.key, now = KEYS[kind](), datetime.datetime.now(datetime.timezone.utc)
        signer = issuer or self
        self.common_name, self.subject = common_name, named(common_name)
        builder = x509.CertificateBuilder(
            issuer_name=signer.subject,
            subject_name=self.subject,
            public_key=self.key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(days=1),
            not_valid_after=now + datetime.timedelta(days=30),
        )
        if is_ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign(signer.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def thumbprint(self, algorithm=hashes.SHA256()):
        return self.certificate.fingerprint(algorithm).hex()

    def files(self, folder, *chain):
        """Where an SDK reads them: the certificate with what stands between it and the root, and the key."""
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        certificate.write_bytes(b"".join(each.pem for each in (self, *chain)))
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return X509(str(certificate), str(key))


def sent_once(client, device_id, module_id=""):
    """Whether a message arrives, stamped with how its sender proved itself."""
    client.connect()
    client.send_message(Message("{}"))
    client.shutdown()
    (message,) = [each for each in telemetry(device_id) if (each["moduleId"] or "") == module_id]
    method = message["systemProperties"]["iothub-connection-auth-method"]
    scope = "module" if module_id else "device"
    assert method == f'{{"scope":"{scope}","type":"x509","issuer":"external","acceptingIpFilterRule":null}}'


def is_refused(client):
    with pytest.raises(ClientError):
        client.connect()
    client.shutdown()


def device_client(device_id, x509_files, ca_pem, websockets=False):
    return IoTHubDeviceClient.create_from_x509_certificate(
        x509_files,
        env("IOTHUB_HOSTNAME"),
        device_id,
        server_verification_cert=ca_pem,
        connection_retry=False,
        websockets=websockets,
    )


def module_client(device_id, module_id, x509_files, ca_pem):
    return IoTHubModuleClient.create_from_x509_certificate(
        x509_files,
        env("IOTHUB_HOSTNAME"),
        device_id,
        module_id,
        server_verification_cert=ca_pem,
        connection_retry=False,
    )


@pytest.fixture
def gone_after(registry, name):
    yield name
    registry.delete_device(name)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=["SHA-1", "SHA-256"])
def test_a_device_comes_in_by_its_thumbprint(registry, gone_after, ca_pem, tmp_path, kind, algorithm):
    own, other = Certified(gone_after, kind=kind), Certified(gone_after, kind=kind)
    absent = "AB" * (len(own.thumbprint(algorithm)) // 2)
    registry.create_device_with_x509(gone_after, absent, own.thumbprint(algorithm), "enabled")
    sent_once(device_client(gone_after, own.files(tmp_path), ca_pem), gone_after)
    is_refused(device_client(gone_after, other.files(tmp_path), ca_pem))


def test_a_certificate_speaks_over_a_websocket_too(registry, gone_after, ca_pem, tmp_path):
    own, other = Certified(gone_after), Certified(gone_after)
    registry.create_device_with_x509(gone_after, own.thumbprint(), own.thumbprint(), "enabled")
    sent_once(device_client(gone_after, own.files(tmp_path), ca_pem, websockets=True), gone_after)
    is_refused(device_client(gone_after, other.files(tmp_path), ca_pem, websockets=True))


def test_a_module_comes_in_by_its_own_thumbprint(registry, device, ca_pem, tmp_path):
    own = Certified("whatever")
    registry.create_module_with_x509(device.device_id, "mod1", "", own.thumbprint(), own.thumbprint())
    sent_once(module_client(device.device_id, "mod1", own.files(tmp_path), ca_pem), device.device_id, "mod1")
    is_refused(device_client(device.device_id, own.files(tmp_path), ca_pem))


@pytest.fixture
def upload(credential, scenario, name):
    """Uploads a CA certificate to the hub and proves that its key is ours, as one does in the portal."""
    options = {"base_url": scenario["endpoint"], "credential_scopes": [scenario["audience"] + "/.default"]}
    certificates = IotHubClient(credential, scenario["subscription"], **options).certificates
    at = (scenario["group"], "hub", name)
    etags = []

    def uploaded(authority, is_proven=True):
        body = CertificateDescription(properties=CertificateProperties(certificate=base64.b64encode(authority.pem).decode()))
        made = certificates.create_or_update(*at, body)
        assert not made.properties.is_verified and made.properties.subject == f"CN={authority.common_name}"
        etags.append(made.etag)
        if is_proven:
            with_code = certificates.generate_verification_code(*at, etags.pop())
            proof = Certified(with_code.properties.verification_code, authority)
            proof = CertificateVerificationDescription(certificate=base64.b64encode(proof.pem).decode())
            verified = certificates.verify(*at, with_code.etag, proof)
            assert verified.properties.is_verified
            etags.append(verified.etag)
        assert name in [each.name for each in certificates.list_by_iot_hub(*at[:2]).value]

    yield uploaded
    certificates.delete(*at, etags.pop())
    with pytest.raises(HttpResponseError) as gone:
        certificates.get(*at)
    assert gone.value.status_code == 404


@pytest.mark.parametrize("kind", KEYS)
def test_a_device_comes_in_below_an_authority_that_is_verified(
    registry, gone_after, upload, ca_pem, tmp_path, kind
):
    root = Certified("our root", kind=kind, is_ca=True)
    intermediate = Certified("our line 1", root, kind, is_ca=True)
    registry.create_device_with_certificate_authority(gone_after, "enabled")
    own, other = Certified(gone_after, intermediate, kind), Certified("another", intermediate, kind)
    upload(root)
    is_refused(device_client(gone_after, own.files(tmp_path), ca_pem))
    is_refused(device_client(gone_after, other.files(tmp_path, intermediate), ca_pem))
    sent_once(device_client(gone_after, own.files(tmp_path, intermediate), ca_pem), gone_after)


def test_a_module_comes_in_below_an_authority_that_is_verified(registry, device, upload, ca_pem, tmp_path):
    root = Certified("our root", is_ca=True)
    registry.create_module_with_certificate_authority(device.device_id, "mod1", "")
    upload(root)
    device_alone = Certified(device.device_id, root)
    is_refused(module_client(device.device_id, "mod1", device_alone.files(tmp_path), ca_pem))
    own = Certified(f"{device.device_id}/mod1", root)
    sent_once(module_client(device.device_id, "mod1", own.files(tmp_path), ca_pem), device.device_id, "mod1")


def test_an_authority_that_nobody_verified_lets_nobody_in(registry, gone_after, upload, ca_pem, tmp_path):
    root = Certified("our root", is_ca=True)
    registry.create_device_with_certificate_authority(gone_after, "enabled")
    upload(root, is_proven=False)
    is_refused(device_client(gone_after, Certified(gone_after, root).files(tmp_path), ca_pem))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_paho_connects_with_a_certificate_in_either_version_of_tls(registry, gone_after, tmp_path, version):
    own = Certified(gone_after, kind="RSA")
    registry.create_device_with_x509(gone_after, own.thumbprint(), own.thumbprint(), "enabled")
    own.files(tmp_path)

    def code(with_certificate):
        context = ssl.create_default_context(cafile=env("TWINHUB_CA_FILE"))
        context.minimum_version = context.maximum_version = version
        if with_certificate:
            context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
        client, connacks = mqtt.Client(client_id=gone_after, protocol=mqtt.MQTTv311), queue.Queue()
        client.on_connect = lambda _client, _data, _flags, code: connacks.put(code)
        client.username_pw_set(f"{env('IOTHUB_HOSTNAME')}/{gone_after}/?api-version=2021-04-12")
        client.tls_set_context(context)
        client.connect(env("IOTHUB_HOSTNAME"), 8883)
        client.loop_start()
        try:
            return connacks.get(timeout=PATIENCE)
        finally:
            client.disconnect()
            client.loop_stop()

    assert (code(True), code(False)) == (0, 5)
