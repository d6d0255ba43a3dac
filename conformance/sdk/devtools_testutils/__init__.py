"""Stands in for the private package that Microsoft's own test suites import, so that they run as they are against a real
server: credentials from the environment, clients as they would be made by hand, names that nobody else has."""

import os
import uuid


class AzureRecordedTestCase:
    # Nothing here takes minutes, so the waits for the cloud service are left out.
    is_live = False

    def get_credential(self, _client_class, is_async=False):
        if is_async:
            from azure.identity.aio import ClientSecretCredential
        else:
            from azure.identity import ClientSecretCredential
        return ClientSecretCredential(
            os.environ["AZURE_TENANT_ID"],
            os.environ["AZURE_CLIENT_ID"],
            os.environ["AZURE_CLIENT_SECRET"],
            authority=os.environ["AZURE_AUTHORITY_HOST"],
            disable_instance_discovery=True,
        )

    def create_client_from_credential(self, client_class, credential, **arguments):
        return client_class(credential=credential, **arguments)

    def create_random_name(self, prefix):
        return prefix + uuid.uuid4().hex[:12]
