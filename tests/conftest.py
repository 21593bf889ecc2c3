"""
What all tests share: the event loops they run on, and how much hypothesis tries.
"""

import logging
import os

import pytest
from hypothesis import HealthCheck, settings

# Litestar sets the level of all loggers to INFO; tests look for what is out of the ordinary.
logging.getLogger("asgi_batch").setLevel(logging.WARNING)

# The machine may be busy, so that the time one example takes says nothing.
settings.register_profile(
    "base", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
BASE = settings.get_profile("base")
# At a desk: new examples with every run, and those that failed are remembered.
settings.register_profile("dev", BASE, max_examples=100)
# In CI: the same examples with every run, so that a red run is red for a reason in the commit.
settings.register_profile("ci", BASE, max_examples=100, derandomize=True, database=None)
# `make fuzz`: new examples for ten minutes or so, all tests of input together.
settings.register_profile("fuzz", BASE, max_examples=2_500)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ],
)
def anyio_backend(request):
    """
    The event loops that everything in process is tested on; anyio's own plugin asks for this.
    """
    return request.param


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """
    A PostgreSQL server that a process of the tests starts once, for those that ask for it.
    """
    from postgres_server import postgres_server

    with postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server
