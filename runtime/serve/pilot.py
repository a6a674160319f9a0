"""One vehicle's windows: each 20 ms, decide where the perception runs, and propose a control from what it last said.

A step brings odometry and a camera frame. The window's policy says what the window is for: run the model here, send
the frame to the edge server, wait for its reply, or do nothing. Whatever answers last, from wherever, feeds the
controller; between answers the controller goes by odometry, so that every window proposes a control. The tolerable
deadline is the guard's, counted down since its stamp; the policies and the runs here are held to it.

Everything happens on the daemon's socket thread: replies of workers and of the edge client come through the mailbox.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from devices.package import Package
from devices.profile import load_profile
from devices.tensor import Array
from offload.energy import WindowEnergy
from offload.estimate import ChannelEstimator, Estimate
from offload.link import WINDOW_S, EmulatedLink, LinkModel, Rayleigh
from offload.policy import Action, PolicySettings, WindowPolicy, make_policy
from offload.radio import MEGABIT, load_radio
from runtime.config import OffloadSection
from runtime.errors import MessageError
from runtime.execute.executor import Executor
from runtime.execute.request import Reply, Request, Status
from runtime.serve.controller import Controller, Pose
from runtime.serve.guard_messages import Report
from runtime.serve.mailbox import Mailbox
from runtime.serve.messages import Step, WindowReport

_log = logging.getLogger("headway.pilot")
_VEHICLE_SILENT_S = 1.0
