"""The emulator's map: one road of one lane whose curvature changes linearly, as OpenDRIVE.

Each section of a route is one geometry: a line or an arc where its curvature stays, else a spiral.
The lane is shifted by half its width, so that its centre is the road's reference line.
"""

import math
from collections.abc import Sequence

from carla_bridge.route import Route, Section

SECTIONS = (Section(60.0, 0.0), Section(20.0, 0.01), Section(40.0, 0.01), Section(20.0, 0.0), Section(60.0, 0.0))
WIDTH_M = 20.0


def laps(count: int) -> tuple[Section, ...]:
    """Return the road `count` times over, every second time mirrored."""
    turned = (Section(item.length_m, (-1) ** lap * item.curvature_1pm) for lap in range(count) for item in SECTIONS)
    return tuple(turned)


def opendrive(sections: Sequence[Section] = SECTIONS, width_m: float = WIDTH_M) -> str:
    """Return the road that starts at the origin along x and follows `sections`, as OpenDRIVE 1.4."""
    route = Route.from_sections(sections)
    parts, start_m, before = [], 0.0, 0.0
    for section in sections:
        x_m, y_m = route.at(start_m)
        shape = f'<spiral curvStart="{before!r}" curvEnd="{section.curvature_1pm!r}"/>'
        if before == section.curvature_1pm:  # of a spiral whose curvature stays the reader makes no numbers
            shape = f'<arc curvature="{before!r}"/>' if before else "<line/>"
        parts.append(
            f'<geometry s="{start_m!r}" x="{x_m!r}" y="{y_m!r}" hdg="{route.heading_at(start_m)!r}" '
            f'length="{section.length_m!r}">{shape}</geometry>'
        )
        start_m, before = start_m + section.length_m, section.curvature_1pm
    lane = (
        f'<lane id="-1" type="driving" level="false"><width sOffset="0.0" a="{width_m!r}" b="0" c="0" d="0"/>'
        '<roadMark sOffset="0.0" type="solid" weight="standard" color="white" width="0.15" laneChange="none"/></lane>'
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OpenDRIVE><header revMajor="1" revMinor="4" name="emulated" '
        'version="1.0" north="0" south="0" east="0" west="0">'
        "<geoReference><![CDATA[+proj=tmerc +lat_0=0 +lon_0=0]]></geoReference></header>"
        f'<road name="only" length="{math.fsum(item.length_m for item in sections)!r}" id="1" junction="-1"><link/>'
        f"<planView>{''.join(parts)}</planView><elevationProfile/><lateralProfile/>"
        f'<lanes><laneOffset s="0.0" a="{width_m / 2.0!r}" b="0" c="0" d="0"/><laneSection s="0.0">'
        '<center><lane id="0" type="none" level="false"><roadMark sOffset="0.0" type="solid" weight="standard" '
        'color="white" width="0.15" laneChange="none"/></lane></center>'
        f"<right>{lane}</right></laneSection></lanes></road></OpenDRIVE>"
    )
