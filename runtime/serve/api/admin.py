"""Answers about models, plans and status, and loading and unloading, for the local socket."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from devices.errors import DeviceError
from devices.package import Package
from runtime.errors import RunError
from runtime.execute.errors import ModelNotFoundError
from runtime.execute.model import ServedModel
from runtime.serve.api import messages
from runtime.serve.library import MEGABYTE, MemoryBudgetError, ModelInUseError
from runtime.serve.mailbox import Mailbox
from runtime.serve.service import Service

_log = logging.getLogger("headway.daemon")
Query = messages.Models | messages.Load | messages.Unload | messages.PlansQuery | messages.Status


class Administration:
    """Answers queries; used on the socket thread alone.

    Args:
        service: The models.
        mailbox: Brings what the loading thread did back to the socket thread.
        status: Returns the daemon's state.
        plans: Returns what is known of plans; None where there are none.
    """

    def __init__(
        self,
        service: Service,
        mailbox: Mailbox,
        status: Callable[[], dict[str, Any]],
        plans: Callable[[], dict[str, Any] | None],
    ) -> None:
        self._service = service
        self._mailbox = mailbox
        self._status = status
        self._plans = plans

    def answer(self, query: Query, send: Callable[[messages.FromDaemon], None]) -> None:
        """Have `send` called with the answer, now or once the models were loaded."""
        match query:
            case messages.Models():
                send(messages.ModelsList(id=query.id, models=self._models(every=query.every)))
            case messages.PlansQuery():
                send(messages.PlansList(id=query.id, plans=self._plans()))
            case messages.Status():
                send(messages.StatusReport(id=query.id, status=self._status()))
            case messages.Load():
                loading = self._service.load(query.model, query.version)
                loading.add_done_callback(lambda done: self._mailbox.put(partial(self._loaded, query.id, done, send)))
            case messages.Unload():
                going = self._service.unload(query.model, query.version)
                going.add_done_callback(
                    lambda done: self._mailbox.put(partial(self._unloaded, query.id, query.model, done, send))
                )

    def _models(self, *, every: bool) -> list[dict[str, Any]]:
        served = {(model.package.name, model.package.version): model for model in self._service.models}
        told = [described(model.package) for model in served.values()]
        if every:
            told += [
                {"name": each.name, "version": each.version, "ready": False, "reason": each.reason}
                for each in self._service.index()
                if (each.name, each.version) not in served
            ]
        return told

    def _loaded(self, number: int, done: "Future[ServedModel]", send: Callable[[messages.FromDaemon], None]) -> None:
        error = done.exception()
        if error is not None:
            send(why(number, error))
            return
        package = done.result().package
        took_mb = self._service.footprint_bytes(package.name, package.version) / MEGABYTE
        send(messages.Loaded(id=number, model=package.name, version=package.version, took_mb=took_mb))

    def _unloaded(
        self, number: int, name: str, done: "Future[None]", send: Callable[[messages.FromDaemon], None]
    ) -> None:
        error = done.exception()
        send(messages.Unloaded(id=number, model=name) if error is None else why(number, error))


def why(number: int, error: BaseException) -> messages.Error:
    """Return what a client is told of an error while loading or unloading."""
    match error:
        case ModelNotFoundError():
            return messages.Error(id=number, code="NOT_FOUND", error=str(error))
        case MemoryBudgetError():
            return messages.Error(id=number, code="RESOURCE_EXHAUSTED", error=str(error))
        case ModelInUseError():
            return messages.Error(id=number, code="FAILED_PRECONDITION", error=str(error))
        case DeviceError() | RunError():
            return messages.Error(id=number, code="INVALID", error=str(error))
    _log.error("loading failed", exc_info=error, extra={"code": "load_failed"})
    return messages.Error(id=number, code="UNAVAILABLE", error=f"loading failed: {error}")


def described(package: Package) -> dict[str, Any]:
    """Return what a client is told of a served model."""
    return {
        "name": package.name,
        "version": package.version,
        "ready": True,
        "reason": "",
        "inputs": [{"name": i.name, "dtype": i.dtype, "shape": list(i.shape)} for i in package.inputs],
        "exits": [{"id": e.id, "kind": e.kind, "answer": e.answer, "threshold": e.threshold} for e in package.exits],
    }
