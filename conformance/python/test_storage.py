"""The blob endpoint of the default storage account, through the client of storage, unmodified."""

import base64
import os
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import (
    AccessPolicy,
    AccountSasPermissions,
    BlobBlock,
    BlobClient,
    BlobPrefix,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    ContentSettings,
    ResourceTypes,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)
from conftest import env


def soon():
    return datetime.now(timezone.utc) + timedelta(hours=1)


@pytest.fixture(scope="module")
def service():
    return BlobServiceClient.from_connection_string(env("AZURE_STORAGE_CONNECTION_STRING"))


@pytest.fixture
def container(service):
    client = service.create_container(f"c-{uuid.uuid4().hex[:12]}")
    yield client
    try:
        client.delete_container()
    except ResourceNotFoundError:
        pass  # the test deleted it itself


def key(service):
    return service.credential.account_key


def test_what_is_uploaded_is_downloaded(container):
    blob = container.get_blob_client("dev 1/a+b é.txt")
    settings = ContentSettings(content_type="text/plain", cache_control="no-cache")
    blob.upload_blob(b"hello world", metadata={"color": "red"}, content_settings=settings)
    assert blob.download_blob().readall() == b"hello world"
    assert blob.download_blob(offset=6, length=3).readall() == b"wor"
    properties = blob.get_blob_properties()
    assert (properties.size, properties.metadata, properties.blob_type) == (11, {"color": "red"}, "BlockBlob")
    assert properties.content_settings.content_type == "text/plain"
    assert properties.content_settings.cache_control == "no-cache"
    with pytest.raises(ResourceExistsError):
        blob.upload_blob(b"again")
    blob.upload_blob(b"", overwrite=True)
    assert blob.download_blob().readall() == b""
    assert blob.exists()
    blob.delete_blob()
    assert not blob.exists()
    with pytest.raises(ResourceNotFoundError):
        blob.download_blob()


def test_a_large_file_goes_in_blocks_and_comes_back_in_ranges(service, container):
    data = os.urandom(9 * 1024 * 1024 + 77)
    small = ContainerClient.from_connection_string(
        env("AZURE_STORAGE_CONNECTION_STRING"),
        container.container_name,
        max_single_put_size=1024 * 1024,
        max_block_size=1024 * 1024,
        max_single_get_size=1024 * 1024,
        max_chunk_get_size=1024 * 1024,
    )
    blob = small.get_blob_client("large")
    blob.upload_blob(data, max_concurrency=4)
    assert blob.download_blob(max_concurrency=4).readall() == data
    committed, uncommitted = blob.get_block_list("all")
    assert (len(committed), len(uncommitted)) == (10, 0)


def test_blocks_wait_for_their_list(container):
    blob = container.get_blob_client("blocks")
    ids = [base64.b64encode(b"%06d" % number).decode() for number in range(3)]
    for block, text in zip(ids, [b"a", b"b", b"c"]):
        blob.stage_block(block, text)
    assert not blob.exists()
    blob.commit_block_list([BlobBlock(ids[2]), BlobBlock(ids[0])])
    assert blob.download_blob().readall() == b"ca"
    with pytest.raises(HttpResponseError) as refused:
        blob.commit_block_list([BlobBlock("eHh4eHh4")])
    assert refused.value.error_code == "InvalidBlockList"


def test_append_blobs_grow_at_their_end(container):
    blob = container.get_blob_client("log")
    blob.create_append_blob()
    blob.append_block(b"one\n")
    told = blob.append_block(b"two\n", appendpos_condition=4)
    assert told["blob_append_offset"] == "4"
    with pytest.raises(HttpResponseError) as refused:
        blob.append_block(b"x", appendpos_condition=4)
    assert refused.value.error_code == "AppendPositionConditionNotMet"
    assert blob.download_blob().readall() == b"one\ntwo\n"


def test_lists_have_pages_prefixes_and_metadata(container):
    for name in ["a/1", "a/2", "b&<>", "c"]:
        container.upload_blob(name, name, metadata={"n": "1"})
    assert [blob.name for blob in container.list_blobs()] == ["a/1", "a/2", "b&<>", "c"]
    assert [blob.name for blob in container.list_blobs(name_starts_with="a/")] == ["a/1", "a/2"]
    pages = container.list_blobs(results_per_page=3, include=["metadata"]).by_page()
    pages = [list(page) for page in pages]
    assert [len(page) for page in pages] == [3, 1]
    assert pages[0][0].metadata == {"n": "1"}
    walked = list(container.walk_blobs())
    assert [one.name for one in walked] == ["a/", "b&<>", "c"]
    assert isinstance(walked[0], BlobPrefix)


def test_containers_are_made_listed_and_deleted(service, container):
    with pytest.raises(ResourceExistsError):
        service.create_container(container.container_name)
    container.set_container_metadata({"a": "1"})
    assert container.get_container_properties().metadata == {"a": "1"}
    listed = service.list_containers(name_starts_with=container.container_name, include_metadata=True)
    assert [one.metadata for one in listed] == [{"a": "1"}]
    assert service.get_account_information()["account_kind"] == "StorageV2"
    assert service.get_service_properties()["cors"] == []
    container.delete_container()
    assert not container.exists()


def test_conditions_are_held_against_the_etag(container):
    blob = container.get_blob_client("conditions")
    first = blob.upload_blob(b"1")["etag"]
    blob.upload_blob(b"2", overwrite=True, etag=first, match_condition=MatchConditions.IfNotModified)
    with pytest.raises(ResourceModifiedError):
        blob.upload_blob(b"3", overwrite=True, etag=first, match_condition=MatchConditions.IfNotModified)
    with pytest.raises(ResourceModifiedError):
        blob.delete_blob(etag=first, match_condition=MatchConditions.IfNotModified)
    blob.set_blob_metadata({"some_name": "v"})
    blob.set_http_headers(ContentSettings(content_type="a/b"))
    properties = blob.get_blob_properties()
    assert (properties.metadata, properties.content_settings.content_type) == ({"some_name": "v"}, "a/b")


def test_tokens_let_do_what_they_say(service, container):
    account, name = service.account_name, container.container_name
    blob = container.get_blob_client("secret")
    blob.upload_blob(b"secret")
    read = generate_blob_sas(account, name, "secret", account_key=key(service), permission=BlobSasPermissions(read=True), expiry=soon())
    reader = BlobClient.from_blob_url(blob.url, credential=read)
    assert reader.download_blob().readall() == b"secret"
    with pytest.raises(HttpResponseError) as refused:
        reader.upload_blob(b"x", overwrite=True)
    assert refused.value.error_code == "AuthorizationPermissionMismatch"
    lister = generate_container_sas(account, name, account_key=key(service), permission=ContainerSasPermissions(list=True), expiry=soon())
    assert [one.name for one in ContainerClient.from_container_url(container.url, credential=lister).list_blobs()] == ["secret"]
    whole = generate_account_sas(
        account,
        account_key=key(service),
        resource_types=ResourceTypes(service=True, container=True, object=True),
        permission=AccountSasPermissions(read=True, write=True, list=True, create=True, delete=True),
        expiry=soon(),
    )
    everything = BlobServiceClient(service.url, credential=whole)
    made = everything.create_container(f"{name}-2")
    made.upload_blob("x", b"x")
    made.delete_container()
    late = generate_blob_sas(account, name, "secret", account_key=key(service), permission=BlobSasPermissions(read=True), expiry=soon() - timedelta(hours=2))
    with pytest.raises(ClientAuthenticationError):
        BlobClient.from_blob_url(blob.url, credential=late).download_blob()


def test_a_stored_policy_is_what_its_tokens_stand_on(service, container):
    policy = AccessPolicy(permission=ContainerSasPermissions(read=True), expiry=soon())
    container.set_container_access_policy({"readers": policy})
    assert container.get_container_access_policy()["signed_identifiers"][0].id == "readers"
    container.upload_blob("b", b"b")
    token = generate_container_sas(service.account_name, container.container_name, account_key=key(service), policy_id="readers")
    reader = BlobClient.from_blob_url(container.get_blob_client("b").url, credential=token)
    assert reader.download_blob().readall() == b"b"
    container.set_container_access_policy({})
    with pytest.raises(ClientAuthenticationError):
        reader.download_blob()


def test_a_wrong_key_is_refused(service):
    wrong = {"account_name": service.account_name, "account_key": base64.b64encode(b"x" * 64).decode()}
    with pytest.raises(ClientAuthenticationError):
        BlobServiceClient(service.url, credential=wrong).get_service_properties()
