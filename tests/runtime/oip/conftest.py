"""One daemon for all tests that only ask it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.oip.models import write_repository

if TYPE_CHECKING:
    from tests.runtime.oip.clients import Client, Served


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model repository."""
    return write_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Served]":
    """A daemon on loopback without a token."""
    from tests.runtime.oip.clients import serving

    with serving(tmp_path_factory.mktemp("d"), repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, served: "Served") -> "Iterator[Client]":
    """Either transport's client of that daemon."""
    from tests.runtime.oip.clients import GrpcClient, HttpClient

    made = HttpClient(served) if request.param == "http" else GrpcClient(served)
    yield made
    made.raw.close()
