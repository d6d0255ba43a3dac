"""The fixtures that the suite of azure-digitaltwins-core asks for, without its recordings."""

import os

import pytest


@pytest.fixture
def digitaltwin():
    return {"endpoint": os.environ["AZURE_DIGITALTWINS_URL"]}


@pytest.fixture
def recorded_test():
    """Nothing is recorded."""
