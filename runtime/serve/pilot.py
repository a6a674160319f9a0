"""One vehicle's windows: each 20 ms, decide where the perception runs, and propose a control from what it last said.

A step brings odometry and a camera frame. The window's policy says what the window is for: run the model here, send
the frame to the edge server, wait for its reply, or do nothing. Whatever answers last, from wherever, feeds the
controller; between answers the controller goes by odometry, so that every window proposes a control. The tolerable
deadline is the guard's, counted down since its stamp; the policies and the runs here are held to it.

Everything happens on the daemon's socket thread: replies of workers and of the edge client come through the mailbox.
"""

import logging

_log = logging.getLogger("headway.pilot")
_VEHICLE_SILENT_S = 1.0
