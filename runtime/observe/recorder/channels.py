"""The channels of a flight log: topic, schema, and what stands in its messages.

    /guard/rules           headway.GuardRules     vehicle and settings of a guard, when the recorder began to follow it
    /guard/tick            headway.GuardTick      each tick: clock, observation, proposal, decision; now and then memory
    /scheduler/decision    headway.Decision       each decision about a request or a window, with what it was made from
    /daemon/event          headway.Event          requests, windows, models, plans, drift, edge server
    /recorder/gap          headway.Gap            what was lost on its way to the recorder
    /scene                 foxglove.SceneUpdate   top view: vehicle, obstacles, held arc, backup manoeuvre
    /vehicle/pose          foxglove.PoseInFrame   the vehicle's pose

All are JSON. Times are CLOCK_MONOTONIC [ns or s] inside messages; log times are of the day. Numbers that JSON lacks
stand as "nan", "inf" and "-inf".
"""

from dataclasses import dataclass
from typing import Any

import msgspec

_NUMBER = {"type": ["number", "string", "null"]}
_INTEGER = {"type": ["integer", "null"]}
_TEXT = {"type": ["string", "null"]}
_ANY_OBJECT = {"type": ["object", "null"]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_OBSERVATION = {
    "type": ["object", "null"],
    "properties": {
        "stamp_ns": _INTEGER,
        "x_m": _NUMBER,
        "y_m": _NUMBER,
        "heading_rad": _NUMBER,
        "beta_rad": _NUMBER,
        "speed_mps": _NUMBER,
        "obstacles": _list(_list(_NUMBER)),
        "applied_id": _INTEGER,
    },
}
_PROPOSAL = {
    "type": ["object", "null"],
    "properties": {"stamp_ns": _INTEGER, "beta_rad": _NUMBER, "speed_mps": _NUMBER},
}
_DECISION = _object(
    id=_INTEGER,
    stamp_ns=_INTEGER,
    mode=_TEXT,
    reason=_TEXT,
    beta_rad=_NUMBER,
    speed_mps=_NUMBER,
    brake={"type": "boolean"},
    apply_by_ns=_INTEGER,
    hold_until_ns=_INTEGER,
    backup={"type": ["array", "null"], "items": {}},
    backup_manoeuvre=_TEXT,
    deadline_s=_NUMBER,
    barrier_deadline_s=_NUMBER,
    limited_by=_TEXT,
    intervened={"type": "boolean"},
    proposed_beta_rad=_NUMBER,
    shortfall_s=_NUMBER,
    switch_time_s=_NUMBER,
)
_TIME = _object(sec={"type": "integer"}, nsec={"type": "integer"})
_VECTOR = _object(x={"type": "number"}, y={"type": "number"}, z={"type": "number"})
_QUATERNION = _object(x={"type": "number"}, y={"type": "number"}, z={"type": "number"}, w={"type": "number"})
_POSE = _object(position=_VECTOR, orientation=_QUATERNION)
_COLOR = _object(r={"type": "number"}, g={"type": "number"}, b={"type": "number"}, a={"type": "number"})
_CUBE = _object(pose=_POSE, size=_VECTOR, color=_COLOR)
_CYLINDER = _object(
    pose=_POSE, size=_VECTOR, bottom_scale={"type": "number"}, top_scale={"type": "number"}, color=_COLOR
)
_LINE = _object(
    type={"type": "integer"},
    pose=_POSE,
    thickness={"type": "number"},
    scale_invariant={"type": "boolean"},
    points=_list(_VECTOR),
    color=_COLOR,
    colors=_list(_COLOR),
    indices=_list({"type": "integer"}),
)
_ENTITY = _object(
    timestamp=_TIME,
    frame_id={"type": "string"},
    id={"type": "string"},
    lifetime=_TIME,
    frame_locked={"type": "boolean"},
    metadata=_list(_object(key={"type": "string"}, value={"type": "string"})),
    arrows=_list({"type": "object"}),
    cubes=_list(_CUBE),
    spheres=_list({"type": "object"}),
    cylinders=_list(_CYLINDER),
    lines=_list(_LINE),
    triangles=_list({"type": "object"}),
    texts=_list({"type": "object"}),
    models=_list({"type": "object"}),
)


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A topic of the log and the schema of its messages."""

    topic: str
    schema_name: str
    schema: dict[str, Any]

    def schema_bytes(self) -> bytes:
        """Return the JSON schema."""
        return msgspec.json.encode({"title": self.schema_name, **self.schema})


RULES = Channel(
    "/guard/rules",
    "headway.GuardRules",
    _object(pid=_INTEGER, fingerprint=_TEXT, certificate=_TEXT, vehicle=_ANY_OBJECT, settings=_ANY_OBJECT),
)
TICK = Channel(
    "/guard/tick",
    "headway.GuardTick",
    _object(
        pid=_INTEGER,
        number=_INTEGER,
        now_s=_NUMBER,
        observation=_OBSERVATION,
        proposal=_PROPOSAL,
        decision=_DECISION,
        memory=_ANY_OBJECT,
        exceeded=_TEXT,
    ),
)
DECISION = Channel(
    "/scheduler/decision",
    "headway.Decision",
    _object(what=_TEXT, request=_TEXT, model=_TEXT, plans=_TEXT, asked=_ANY_OBJECT, decided={}),
)
EVENT = Channel(
    "/daemon/event", "headway.Event", _object(topic=_TEXT, number=_INTEGER, at_ns=_INTEGER, data=_ANY_OBJECT)
)
GAP = Channel("/recorder/gap", "headway.Gap", _object(source=_TEXT, lost=_INTEGER))
SCENE = Channel(
    "/scene",
    "foxglove.SceneUpdate",
    _object(
        deletions=_list(_object(timestamp=_TIME, type={"type": "integer"}, id={"type": "string"})),
        entities=_list(_ENTITY),
    ),
)
POSE = Channel(
    "/vehicle/pose", "foxglove.PoseInFrame", _object(timestamp=_TIME, frame_id={"type": "string"}, pose=_POSE)
)
CHANNELS = (RULES, TICK, DECISION, EVENT, GAP, SCENE, POSE)
