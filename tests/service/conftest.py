"""One running service for the tests of a module."""

import pytest
from builders.serving import serving


@pytest.fixture(scope="module")
def client():
    """A client of a service with a model that has heatmaps and one that has none."""
    with serving() as client:
        yield client
