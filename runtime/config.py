"""One TOML file configures the daemon; a flag beats the environment, which beats the file.

    [serve]
    socket = "/run/headway/headway.sock"
    packages = ["/opt/models/driving/1"]
    [guard]
    vehicle = "demo"
    [offload]
    policy = "uniform"

The environment variable of `offload.max_wait_windows` is HEADWAY_OFFLOAD_MAX_WAIT_WINDOWS. Unknown keys are errors.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from runtime.errors import ConfigurationError

_PREFIX = "HEADWAY_"
_AT = re.compile(r" - at `\$\.(\w+)\.(\w+)")
_SEPARATORS = {"packages": ":", "devices": ",", "codecs": ",", "guarded": ","}  # of lists in the environment


class ServeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon: its socket (None: in the runtime folder), its model packages, whether it keeps a low priority.

    `tcp`: HOST:PORT on loopback where the local socket is served as well. `client_requests`, `client_messages`: how
    many requests one client may have in flight, and messages it may send a second (None: any number). `keep_warm_ms`:
    how often quick models are run on zeros while nothing is asked, so that the next request finds them in the caches.
    `busy_poll_us`: how long the daemon looks for the next request by shared memory before it sleeps.
    `pin_messages`: the threads that carry messages share one core, the last that no device is pinned to.
    `repository`: folder of models, <name>/<version>/; the newest version of each is loaded at the start, beside
    `packages`, and others may be later. `memory_mb`: most that models may take. `guarded`: models that the vehicle
    waits for, whose requests are due by the guard's deadline; None: the first one.

    `devices`: names as of `devices.open`, the first one usual. `placement`: by a package's name the device it runs on,
    or devices by the ids of its segments. `plans`: folder of plans, chosen among as things are, not with `placement`.
    `drift_every`: of how many answers of a model one is looked at for drift; more than 1 where consecutive inputs are
    alike, as frames of a camera.
    """

    socket: str | None = None
    packages: tuple[str, ...] = ()
    tcp: str | None = None
    repository: str | None = None
    memory_mb: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    guarded: tuple[str, ...] | None = None
    pin_messages: bool = True
    keep_warm_ms: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    busy_poll_us: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 200
    client_requests: Annotated[int, msgspec.Meta(ge=1)] = 64
    client_messages: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    devices: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("cpu",)
    placement: dict[str, str | dict[str, str]] = {}
    plans: str | None = None
    polite: bool = True
    drift_every: Annotated[int, msgspec.Meta(ge=1)] = 1


class FrontSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Open Inference Protocol: HOST:PORT of `http` and of `grpc` (None: not served; port 0: any that is free).

    `token_file`: the bearer token that clients must bring, in a file of mode 0600. `tls_certificate`, `tls_key`: PEM
    files of this server; `tls_client_ca`: who signs the certificates that clients must have. Another address than
    loopback needs the token or `tls_client_ca`. `model_control`: clients may load and unload models of the repository.
    """

    http: str | None = None
    grpc: str | None = None
    token_file: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    model_control: bool = False


class GuardSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The guard: its socket, the vehicle file or shipped name, its certificate, how long a proposal stays fresh [s]."""

    socket: str | None = None
    vehicle: str = "demo"
    certificate: str | None = None
    uncertified: bool = False
    start: bool = True
    fifo: bool = True
    proposal_max_age_s: float = 0.2


class OffloadSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Offloading: policy, edge server (None: none), declared link, energy profile, the cap on waiting [windows].

    `keys`, `server_key`: key file of this vehicle and public key of the edge server; both, or none on loopback. `link`:
    a file that declares the link, in place of `rate_mbps` and `seed`. `codecs`: what frames may be sent as, where the
    measured rate makes it worth while.
    """

    policy: Literal["local", "eager", "uniform", "adaptive"] = "uniform"
    edge: str | None = None
    keys: str | None = None
    server_key: str | None = None
    link: str | None = None
    codecs: tuple[str, ...] = ()
    radio: Literal["wifi", "lte", "3g"] = "wifi"
    rate_mbps: Annotated[float, msgspec.Meta(gt=0.0)] = 20.0
    seed: int = 1
    max_wait_windows: Annotated[int, msgspec.Meta(ge=1)] = 10
    profile: str = "drive_px2"
    profile_model: str = "ResNet-152"
    profile_input: str = "160x80"


class HeatSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a device gets hot: its thermal zone, the limit [degC] and how many times as slow it then is, if known.

    Without them the zones that are named like the device and their first trip points count.
    """

    zone: str | None = None
    limit_c: float | None = None
    slowdown: Annotated[float, msgspec.Meta(ge=1.0)] | None = None


class PlansSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the plans of `serve.plans` need to know of here.

    `names`: by the name that plans have for a device of this board, the one it has in `serve.devices`.
    `edges`: by the name that plans have for it, the address of an edge server; keys and link are those of
    `[offload]`. `accuracy_floor`: plans below it are left out. `levels`: clocks [Hz] by device and level. `heat`: by
    device. `host_root`: where the host's /sys and /proc are, as in a container. `probe_s`: how long no request goes to
    an edge server before a probe does [s], 0: never; a rate counts for two and a half of them. `settle_s`: how long a
    cheaper plan must have been better [s]. `kept`: plans that stay loaded.
    """

    names: dict[str, str] = {}
    edges: dict[str, str] = {}
    accuracy_floor: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] | None = None
    levels: dict[str, dict[str, Annotated[float, msgspec.Meta(gt=0.0)]]] = {}
    heat: dict[str, HeatSection] = {}
    host_root: str = "/"
    probe_s: Annotated[float, msgspec.Meta(ge=0.0)] = 2.0
    settle_s: Annotated[float, msgspec.Meta(ge=0.0)] = 1.0
    kept: Annotated[int, msgspec.Meta(ge=1)] = 2


class ObserveSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shows how the daemon fares: HOST:PORT on loopback of `metrics` and of the live `page` (None: not served).

    `otlp`: a receiver of traces, as http://127.0.0.1:4318 (None: no traces).
    `record`: folder of the flight recorder (None: nothing is recorded), with `record_files` files of `record_mb` each.
    """

    metrics: str | None = None
    page: str | None = None
    otlp: str | None = None
    record: str | None = None
    record_mb: Annotated[float, msgspec.Meta(ge=0.1)] = 32.0
    record_files: Annotated[int, msgspec.Meta(ge=2)] = 8


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be configured, with its defaults."""

    serve: ServeSection = ServeSection()
    front: FrontSection = FrontSection()
    guard: GuardSection = GuardSection()
    offload: OffloadSection = OffloadSection()
    plans: PlansSection = PlansSection()
    observe: ObserveSection = ObserveSection()


def load_config(path: Path | None, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Config:
    """Merge file, environment and flags into one configuration.

    Args:
        path: The TOML file; None: no file.
        flags: Values by dotted key ("offload.policy"); None means the flag was not given.
        environment: Environment variables; None: this process's.
    Raises:
        ConfigurationError: the file cannot be read; a key is unknown; a value is impossible.
    """
    table: dict[str, Any] = {} if path is None else _read(path)
    origin = "the command line" if path is None else str(path)
    origins: dict[tuple[str, str], str] = {}
    for name, section in _SECTIONS.items():
        for key in section.__struct_fields__:
            variable = f"{_PREFIX}{name}_{key}".upper()
            text = (os.environ if environment is None else environment).get(variable)
            if text is not None:
                _section(table, name, origin)[key] = text.split(_SEPARATORS[key]) if key in _SEPARATORS else text
                origins[name, key] = f"the environment's {variable}"
    for dotted, value in flags.items():
        if value is not None:
            name, key = dotted.split(".")
            _section(table, name, origin)[key] = value
            origins[name, key] = "the command line"
    try:
        return msgspec.convert(table, Config, strict=False)
    except msgspec.ValidationError as error:
        if (at := _AT.search(str(error))) is not None and (named := (at[1], at[2])) in origins:
            origin = origins[named]
        raise ConfigurationError(f"{origin}: {error}{_wrong(table, at)}; {_known(table)}") from error


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "serve": ServeSection,
    "front": FrontSection,
    "guard": GuardSection,
    "offload": OffloadSection,
    "plans": PlansSection,
    "observe": ObserveSection,
}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error


def _section(table: dict[str, Any], name: str, origin: str) -> dict[str, Any]:
    section = table.setdefault(name, {})
    if not isinstance(section, dict):
        raise ConfigurationError(f"{origin}: {name} = {section!r}: must be a table, [{name}]")
    return section


def _wrong(table: Mapping[str, Any], at: "re.Match[str] | None") -> str:
    """Say which value it was, and between which there is a choice."""
    section = None if at is None else _SECTIONS.get(at[1])
    if at is None or section is None or at[2] not in section.__struct_fields__:
        return ""
    value = table[at[1]].get(at[2])
    choices = get_args(get_type_hints(section)[at[2]])
    if choices and all(isinstance(choice, str) for choice in choices):
        return f" = {value!r}: must be one of {', '.join(choices)}"
    return f" = {value!r}"


def _known(table: Mapping[str, Any]) -> str:
    """Say which keys exist where the table names one that does not."""
    unknown = [name for name in table if name not in _SECTIONS]
    if unknown:
        return f"unknown section {', '.join(unknown)}: there are {', '.join(_SECTIONS)}"
    wrong = []
    for name, section in table.items():
        fields = _SECTIONS[name].__struct_fields__
        keys = [key for key in section if key not in fields] if isinstance(section, dict) else []
        wrong += [f"{name}.{key} is not one of {', '.join(fields)}" for key in keys]
    return "; ".join(wrong) or "see docs/configuration.md"
