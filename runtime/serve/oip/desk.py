"""What both transports ask beside inference, answered from the service: plain tables, or an `OipError`."""

import asyncio
from collections.abc import Mapping
from typing import Any

from devices.errors import DeviceError
from runtime.errors import RunError
from runtime.execute.errors import ModelNotFoundError
from runtime.execute.model import ServedModel
from runtime.serve.library import MemoryBudgetError, ModelInUseError
from runtime.serve.oip import describe
from runtime.serve.oip.describe import Table
from runtime.serve.oip.errors import Cause, OipError
from runtime.serve.service import Service


class Desk:
    """Health, metadata, statistics and the repository.

    Args:
        service: The daemon's.
        model_control: Whether clients may load and unload.
    """

    def __init__(self, service: Service, *, model_control: bool) -> None:
        self._service = service
        self._model_control = model_control

    def require_ready(self) -> None:
        """Return if every model is loaded and warm and the guard answers.

        Raises:
            OipError: They are not, or the daemon is about to end.
        """
        why = self._service.why_not_ready
        if why:
            raise OipError(Cause.UNAVAILABLE, why)

    def require_model(self, name: str, version: str) -> None:
        """Return if a model is served.

        Raises:
            OipError: It is not.
        """
        self._model(name, version)

    def server(self) -> Table:
        """Return name, version and extensions of this server."""
        return describe.server_metadata()

    def model(self, name: str, version: str) -> Table:
        """Return the metadata of a model; an empty version is the one served by default.

        Raises:
            OipError: It is not served.
        """
        package = self._model(name, version).package
        return describe.model_metadata(package, self._service.versions(name))

    def config(self, name: str, version: str) -> Table:
        """Return the configuration of a model.

        Raises:
            OipError: It is not served.
        """
        model = self._model(name, version)
        return describe.model_config(model.package, model.device)

    def statistics(self, name: str = "", version: str = "") -> list[Table]:
        """Return the counts of one model, of all its versions, or of all models.

        Raises:
            OipError: It is not served.
        """
        if version:
            chosen = [self._model(name, version)]
        elif name:
            self._model(name, "")
            chosen = [model for model in self._service.models if model.package.name == name]
        else:
            chosen = list(self._service.models)
        packages = [model.package for model in chosen]
        try:
            return [describe.statistics(each, self._service.statistics(each.name, each.version)) for each in packages]
        except ModelNotFoundError as error:  # unloaded meanwhile
            raise OipError(Cause.NOT_FOUND, str(error)) from error

    def index(self, *, ready: bool) -> list[Table]:
        """Return what lies in the repository or is served; with `ready` only the latter."""
        return describe.index(self._service.index(), ready=ready)

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load the newest version of a model in the repository; it is served once this returns.

        Raises:
            OipError: Not allowed, not there, or it does not load.
        """
        self._check_control()
        if parameters:
            raise OipError(
                Cause.FORBIDDEN,
                f"parameters {sorted(parameters)}: models come from the repository as they are, never from a client",
            )
        await _done(self._service.load(name))

    async def unload(self, name: str) -> None:
        """Serve a model no more.

        Raises:
            OipError: Not allowed, not loaded, or still needed.
        """
        self._check_control()
        await _done(self._service.unload(name))

    def _check_control(self) -> None:
        if not self._model_control:
            raise OipError(Cause.FORBIDDEN, "loading and unloading is not allowed here: set front.model_control = true")

    def _model(self, name: str, version: str) -> ServedModel:
        found = [m for m in self._service.models if m.package.name == name and version in ("", m.package.version)]
        if not found:
            try:
                self._service.package(name, version or None)
            except ModelNotFoundError as error:
                raise OipError(Cause.NOT_FOUND, str(error)) from error
        return found[-1]


async def _done(future: "Any") -> None:
    try:
        await asyncio.wrap_future(future)
    except ModelNotFoundError as error:
        raise OipError(Cause.NOT_FOUND, str(error)) from error
    except ModelInUseError as error:
        raise OipError(Cause.FORBIDDEN, str(error)) from error
    except MemoryBudgetError as error:
        raise OipError(Cause.EXHAUSTED, str(error)) from error
    except (DeviceError, RunError) as error:
        raise OipError(Cause.INVALID, str(error)) from error
