"""The daemon's plans: which placement is in force, when another takes its place, and why.

folder      the problem and the plans as `headway plan --out` writes them; which of them can run here, and why not
names       devices by the daemon's names, where plans have others
replies     what replies tell of the devices of this board: slowdown, waits, losses; and what requests ask for
edges       what edge servers and the links to them tell; probes where no request goes
board       what the board itself tells: temperature and throttling, cores that are busy with other work
levels      the clocks that plans set
loading     the models of plans, of which the last few stay loaded
plans       the choice
"""

from runtime.serve.plans.plans import Plans

__all__ = ["Plans"]
