"""The ventricles and atria of a phantom: blood pools with walls, valves and muscle.

Positions are in millimetres of a nominal adult, toward posterior, inferior and right from the
centre of the crop; they follow the mean positions and sizes of the structures in HVSMR-2.0.
"""

from dataclasses import dataclass, replace

import numpy as np

from heartseg.synthesis.phantom_plan import Heart, Plan, as_point
from heartseg.synthesis.phantom_vessels import PulmonaryArtery, Vessels
from heartseg.synthesis.shapes import (
    FloatArray,
    Grid,
    Point,
    Tube,
    ellipsoid,
    gap,
    random_field,
    rotation,
    tube,
)

_APEX = np.array([-0.62, 0.50, -0.60])
_TO_RV = np.array([-0.74, 0.05, 0.67])
_VALVE_RADIUS_MM = 11.0


@dataclass(frozen=True)
class Pools:
    """The blood of the four cavities, as signed distances; infinite where a cavity is missing.

    Attributes:
        lv: Left ventricle.
        rv: Right ventricle.
        la: Left atrium with its inlet into the ventricle.
        ra: Right atrium with its inlet into the ventricle.
        left_axis: Distance to the axis of the left inlet.
        right_axis: Distance to the axis of the right inlet.
    """

    lv: FloatArray
    rv: FloatArray
    la: FloatArray
    ra: FloatArray
    left_axis: FloatArray
    right_axis: FloatArray


def place_pools(grid: Grid, plan: Plan, heart: Heart) -> Pools:
    """Place the bodies of the ventricles and atria, which still overlap."""
    lv, rv, left_base, right_base = _ventricles(grid, plan, heart)
    la, left_axis = _left_atrium(grid, plan, left_base)
    ra, right_axis = _right_atrium(grid, plan, right_base)
    return Pools(lv, rv, la, ra, left_axis, right_axis)


def open_outflows(bodies: Pools, vessels: Vessels, heart: Heart) -> Pools:
    """Add the outflow tracts to the ventricles; the partner of a missing cavity replaces it."""
    lv = np.minimum(bodies.lv, vessels.outflow("LV"))
    rv = np.minimum(bodies.rv, vessels.outflow("RV"))
    la, ra = bodies.la, bodies.ra
    if heart.missing == "RV":
        rv = np.full_like(rv, np.inf)
    if heart.missing == "RA":
        la, ra = np.minimum(la, ra), np.full_like(ra, np.inf)
    return replace(bodies, lv=lv, rv=rv, la=la, ra=ra)


def separate_pools(
    pools: Pools,
    bodies: Pools,
    plan: Plan,
    heart: Heart,
    *,
    aorta: Tube,
    pulmonary: PulmonaryArtery,
) -> Pools:
    """Keep walls between the blood pools, except at the valves."""
    lv, left_axis, right_axis = pools.lv, pools.left_axis, pools.right_axis
    rv = np.maximum(pools.rv, gap(aorta.distance_mm, 3.0))
    rv = np.maximum(rv, np.maximum(gap(bodies.lv, plan.size(8.0, 0.12)), gap(lv, 5.5)))
    la = _cut_atrium(pools.la, lv, rv, left_axis, right_axis if heart.missing == "RA" else None)
    ra = np.maximum(pools.ra, gap(la, 2.6))
    ra = _cut_atrium(ra, rv, lv, right_axis, right_axis if heart.missing == "RV" else None)
    for lumen, wall in ((aorta.distance_mm, 2.2), (pulmonary.trunk.distance_mm, 1.8)):
        la = np.maximum(la, gap(lumen, wall))
        ra = np.maximum(ra, gap(lumen, wall))
    return replace(pools, rv=rv, la=la, ra=ra)


def wrap_in_muscle(pools: Pools, bodies: Pools, plan: Plan) -> FloatArray:
    """Return the ventricles with their muscle, which fills the gap between the two pools too."""
    lv_wall, rv_wall = plan.size(8.5, 0.12), plan.size(3.8, 0.12)
    # The bodies are not cut, so the gap lies inside them.
    left, right = np.minimum(pools.lv, bodies.lv), np.minimum(pools.rv, bodies.rv)
    return np.asarray(np.minimum(left - lv_wall, right - rv_wall), np.float32)


def trabeculate(grid: Grid, plan: Plan, pools: Pools, *, inverted: bool) -> Pools:
    """Roughen the ventricles, the right one more; add papillary muscles to the left one."""
    ridges = np.maximum(random_field(plan.rng, grid.axes, 6.5), 0)
    depths = (1.3, 2.6) if not inverted else (2.6, 1.3)
    lv, rv = (
        side + np.float32(depth) * ridges * np.clip(1 + side / 9, 0, 1)
        for side, depth in zip((pools.lv, pools.rv), depths, strict=True)
    )
    muscles = np.minimum(
        tube(grid, [plan.place(-20, 24, -40), plan.place(-6, 18, -24)], [4, 2.6]).distance_mm,
        tube(grid, [plan.place(-8, 40, -34), plan.place(2, 26, -20)], [4, 2.6]).distance_mm,
    )
    if inverted:
        return replace(pools, lv=lv, rv=np.maximum(rv, -muscles))
    return replace(pools, lv=np.maximum(lv, -muscles), rv=rv)


def _ventricles(
    grid: Grid, plan: Plan, heart: Heart
) -> tuple[FloatArray, FloatArray, Point, Point]:
    """Return both ventricles, and for each the point in its base where blood enters."""
    own_turn = plan.rng.uniform(-1, 1, 3) * 7.0 * plan.spread
    turn = rotation((own_turn[0], own_turn[1], own_turn[2])) @ plan.turn
    apex = turn @ (_APEX / np.sqrt((_APEX**2).sum()))
    to_rv = turn @ _TO_RV
    to_rv = to_rv - apex * float((apex * to_rv).sum())
    to_rv = to_rv / np.sqrt((to_rv**2).sum())
    frame = np.stack([apex, to_rv, np.cross(apex, to_rv)])

    center = np.array(plan.place(-1, 18, -21))
    right = center + 21.0 * to_rv + 1.0 * apex
    left_radii, right_radii = plan.radii(33, 19, 19.5), plan.radii(30, 22, 25)
    if heart.category != "mild":
        # Volume overload of the right side is the most common finding in the data set.
        dilation = float(plan.rng.uniform(1.0, 1.14))
        right_radii = (right_radii[0], right_radii[1] * dilation, right_radii[2] * dilation)
    if heart.missing == "RV":
        center = center + 9.0 * to_rv
        left_radii = (left_radii[0], left_radii[1] * 1.4, left_radii[2] * 1.2)
    lv = ellipsoid(grid.points, as_point(center), left_radii, frame)
    rv = ellipsoid(grid.points, as_point(right), right_radii, frame)
    if heart.missing == "RV":
        rv = np.full_like(rv, np.inf)
    return lv, rv, as_point(center - 22.0 * apex), as_point(right - 14.0 * apex)


def _left_atrium(grid: Grid, plan: Plan, base: Point) -> tuple[FloatArray, FloatArray]:
    """Return the left atrium with its inlet into the ventricle, and the distance to its axis."""
    middle = plan.place(17, 0, 4)
    body = ellipsoid(grid.points, middle, plan.radii(16, 18, 25))
    appendage = ellipsoid(grid.points, plan.place(4, -6, -26), plan.radii(13, 8, 8))
    return _with_inlet(grid, [body, appendage], middle, base)


def _right_atrium(grid: Grid, plan: Plan, base: Point) -> tuple[FloatArray, FloatArray]:
    """Return the right atrium with its inlet into the ventricle, and the distance to its axis."""
    middle = plan.place(-3, 9, 33)
    body = ellipsoid(grid.points, middle, plan.radii(20, 23, 19))
    appendage = ellipsoid(grid.points, plan.place(-18, -6, 24), plan.radii(13, 11, 9))
    return _with_inlet(grid, [body, appendage], middle, base)


def _with_inlet(
    grid: Grid, parts: list[FloatArray], middle: Point, base: Point
) -> tuple[FloatArray, FloatArray]:
    inlet = tube(grid, [middle, base], [_VALVE_RADIUS_MM, _VALVE_RADIUS_MM]).distance_mm
    return np.minimum.reduce([*parts, inlet]), inlet + np.float32(_VALVE_RADIUS_MM)


def _cut_atrium(
    atrium: FloatArray,
    own: FloatArray,
    other: FloatArray,
    valve_axis: FloatArray,
    second_axis: FloatArray | None,
) -> FloatArray:
    """Keep muscle between an atrium and the ventricles, open only around its valves."""
    own_gap = 5.0 * np.clip((valve_axis - _VALVE_RADIUS_MM) / 4.0, 0, 1)
    other_axis = np.full_like(valve_axis, 99.0) if second_axis is None else second_axis
    # As wide as the septum, so that no atrium reaches between the ventricles.
    other_gap = 8.5 * np.clip((other_axis - _VALVE_RADIUS_MM) / 4.0, 0, 1)
    return np.asarray(np.maximum(np.maximum(atrium, own_gap - own), other_gap - other), np.float32)
