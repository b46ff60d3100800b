"""Both Python clients, for tests that hold for either."""

import pytest

from glimpse import Client
from tests.scripted import Waiting


@pytest.fixture(params=[Client, Waiting], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest):
    """Opens one of the two clients."""
    return request.param
