"""What a vehicle's windows need of the offload tier: the policy, the declared link, its estimate, the edge client.

Without an edge server there is no estimate, and so every policy runs every window here.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devices.profile import load_profile
from devices.tensor import Array
from offload.client import ClientSettings, EdgeClient, Handle, Outcome
from offload.link import WINDOW_S, EmulatedLink, LinkModel, Rayleigh
from offload.link.file import read_link
from offload.policy import Action, PolicySettings, WindowPolicy, make_estimator, make_policy
from offload.radio import MEGABIT, load_radio
from offload.security.curve import ClientSecurity
from offload.security.keys import read_keys
from runtime.config import OffloadSection
from runtime.errors import ConfigurationError
from runtime.observe.recorder.taps import TappedPolicy
from runtime.serve.events import EventHub
from runtime.serve.suspicion import Suspicion

if TYPE_CHECKING:
    from runtime.observe.trace.tracing import OpenSpan, Tracing


def local_run_j(section: OffloadSection) -> float:
    """Return the published energy of one full local run on the configured device [J].

    Raises:
        ConfigurationError: the profile tells no energy for the configured model.
    """
    figures = load_profile(section.profile).figures(section.profile_model, section.profile_input)
    if figures.energy is None:
        raise ConfigurationError(
            f"profile {section.profile!r} tells no energy for {section.profile_model} {section.profile_input}: "
            "choose a model whose energy is known with offload.profile_model"
        )
    return figures.energy.value


class Offloading:
    """One vehicle's offloading.

    Args:
        section: The configuration.
    Raises:
        LinkError, ProfileError, ClientError: a value of the configuration cannot be used.
    """

    def __init__(self, section: OffloadSection) -> None:
        self.name = section.policy
        self.radio = load_radio(section.radio)
        self.local_energy_j = local_run_j(section)
        self._settings = PolicySettings(self.local_energy_j, max_wait_windows=section.max_wait_windows)
        self._hub: EventHub | None = None
        self._policy: WindowPolicy = self._new_policy()
        self._estimator = make_estimator(section.policy, self.radio)
        model, seed = LinkModel(rate=Rayleigh(section.rate_mbps * MEGABIT)), section.seed
        if section.link is not None:
            model, seed = read_link(Path(section.link))
        self._link = EmulatedLink(model, seed, origin_s=time.monotonic())
        self._suspicion = Suspicion()
        self.client = self._connect(section)
        self.tracing: Tracing | None = None
        """Where each frame sent is told as a span; None: nowhere."""
        self._spans: dict[Handle, OpenSpan] = {}

    def _connect(self, section: OffloadSection) -> EdgeClient | None:
        if (section.keys is None) != (section.server_key is None):
            raise ConfigurationError("offload.keys and offload.server_key go together: see headway keys")
        if section.edge is None:
            return None
        settings = ClientSettings()
        if section.keys is not None and section.server_key is not None:
            security = ClientSecurity(read_keys(Path(section.keys)), {"": section.server_key})
            settings = ClientSettings(security=security)
        codecs = None
        if section.codecs:
            from offload.codec.choose import CodecChooser

            codecs = CodecChooser(section.codecs, self._rate_bps)
        return EdgeClient(section.edge, settings, link=self._link, codecs=codecs)

    def _rate_bps(self) -> float:
        return 0.0 if self.client is None else self.client.estimator.rate_bps.quantile(0.5)

    def begin(self) -> None:
        """Start anew for another vehicle."""
        self._policy = self._new_policy()

    def tell_decisions(self, hub: EventHub) -> None:
        """Have every decision of the policy told as an event from now on."""
        self._hub = hub
        self._policy = self._new_policy()

    def _new_policy(self) -> WindowPolicy:
        policy = make_policy(self.name, self._settings)
        return policy if self._hub is None else TappedPolicy(self.name, policy, self._settings, self._hub)

    def begin_window(self, index: int, deadline_s: float, now_s: float, bits: float) -> Action:
        """Return what window `index` is for, with `deadline_s` [s] tolerable from now on and `bits` to send."""
        self._estimator.observe(self._link.channel.sample(self._link.window(now_s)))
        reachable = self.client is not None and self.client.state.connected
        estimate = self._estimator.estimate(bits) if reachable else None
        return self._policy.begin(index, deadline_s, estimate)

    def wait_s(self, deadline_s: float) -> float:
        """Return how long a reply may take [s] with `deadline_s` [s] tolerable: to the start of the last window."""
        return (self._settings.windows(deadline_s) - 1) * WINDOW_S

    def submit(self, model: str, inputs: Mapping[str, Array], deadline_s: float) -> Handle:
        """Send a frame to the edge server; its answer is of use until `deadline_s` on the monotonic clock."""
        if self.client is None:
            raise RuntimeError("a policy may not offload without an edge server")
        if self.tracing is None:
            return self.client.submit(model, inputs, deadline_s)
        span = self.tracing.begin("offload", {"headway.model": model})
        handle = self.client.submit(model, inputs, deadline_s, traceparent=span.traceparent)
        self._spans[handle] = span
        return handle

    def cancel(self, handle: Handle) -> None:
        """Give a request up."""
        if self.client is not None:
            self.client.cancel(handle)

    def reply(self, window: int) -> bool:
        """Tell the policy that the reply came in `window`; False where it waits for none any more."""
        return self._policy.reply(window)

    def failed(self, window: int) -> bool:
        """Tell the policy in `window` that no reply will come; False where it waits for none any more."""
        return self._policy.failed(window)

    def take(self) -> list[Outcome]:
        """Return the outcomes that have come in."""
        if self.client is None:
            return []
        taken = self.client.take()
        for outcome in taken:
            self._suspicion.take(outcome, self.client.rtt_s)
            span = self._spans.pop(outcome.handle, None)
            if span is not None:
                told = {"headway.code": str(outcome.code), "headway.exit": outcome.exit_id or ""}
                span.end(told | {"server.address": outcome.endpoint}, failure=outcome.message)
        return taken

    def unusable(self) -> None:
        """Count an answer that does not fit the model."""
        self._suspicion.counts["unusable"] += 1

    def status(self) -> dict[str, Any] | None:
        """Return what `headway status` tells of the edge server; None without one."""
        if self.client is None:
            return None
        state = self.client.state
        return {
            "endpoint": self.client.endpoint,
            "state": state.status.lower(),
            "reason": state.reason,
            "rtt_ms": 1e3 * self.client.rtt_s,
            "outcomes": {str(code): count for code, count in (self.client.counts + self._suspicion.counts).items()},
        }

    def close(self) -> None:
        """Leave the edge server."""
        if self.client is not None:
            self.client.close()
