"""The anatomy of a phantom: its chambers, and how they and the vessels join.

Positions are in millimetres of a nominal adult, posterior, inferior and right of the middle of the
crop; they follow the mean positions and sizes of the structures in HVSMR-2.0.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from heartseg.synthesis.phantom_vessels import Plan, PulmonaryArtery, Vessels, as_point
from heartseg.synthesis.shapes import (
    FloatArray,
    Grid,
    Point,
    Tube,
    ellipsoid,
    random_field,
    rotation,
    tube,
)

LV, RV, LA, RA, AO, PA, SVC, IVC = range(1, 9)
Category = Literal["mild", "moderate", "severe"]
Missing = Literal["RV", "RA"]

_APEX = np.array([-0.62, 0.50, -0.60])
_TO_RV = np.array([-0.74, 0.05, 0.67])
_VALVE_RADIUS_MM = 11.0


@dataclass(frozen=True)
class Heart:
    """What makes one heart differ from another.

    Attributes:
        category: How far the proportions stray from the mean.
        missing: The structure that this heart lacks: its partner takes its place.
        inverted: Whether the ventricles have changed sides.
        seed: Seed of every size and position.
    """

    category: Category
    missing: Missing | None
    inverted: bool
    seed: int


@dataclass
class Anatomy:
    """A heart on a grid, as signed distances in nominal mm.

    Attributes:
        chambers: Blood of each structure by label, in the order of painting: later ones win.
        walls: Muscle around the ventricles and atria, and walls of the vessels.
        beyond: Lumen of vessels further than they are traced: blood without a label.
        zones: Where the extent of a vessel is a matter of taste, boolean by label.
        ventricles: The two ventricles with the muscle around them: what the fat clings to.
    """

    chambers: dict[int, FloatArray]
    walls: FloatArray
    beyond: FloatArray
    zones: dict[int, NDArray[np.bool_]]
    ventricles: FloatArray


def build_anatomy(grid: Grid, heart: Heart) -> Anatomy:
    """Place the structures of a heart on a grid.

    Args:
        grid: The voxels.
        heart: What this heart is like; equal hearts on equal grids are equal.

    Returns:
        The distances from which labels and intensities are painted.
    """
    spread = {"mild": 0.8, "moderate": 1.1, "severe": 1.3}[heart.category]
    plan = Plan(np.random.default_rng(heart.seed), spread)
    vessels = Vessels(grid, plan)
    lv, rv, left_base, right_base = _ventricles(grid, plan, heart)
    lv_body, rv_body = lv, rv
    la, left_axis = _left_atrium(grid, plan, left_base)
    ra, right_axis = _right_atrium(grid, plan, right_base)
    aorta = vessels.aorta()
    pulmonary = vessels.pulmonary(from_lv=heart.missing == "RV")
    svc, ivc = vessels.cavae()
    lv, rv = np.minimum(lv, vessels.outflow("LV")), np.minimum(rv, vessels.outflow("RV"))
    if heart.missing == "RV":
        rv = np.full_like(rv, np.inf)
    if heart.missing == "RA":
        la, ra = np.minimum(la, ra), np.full_like(ra, np.inf)

    # Blood pools keep a wall between them, but for the valves.
    rv = np.maximum(rv, _gap(aorta.distance_mm, 3.0))
    rv = np.maximum(rv, np.maximum(_gap(lv_body, plan.size(8.0, 0.12)), _gap(lv, 5.5)))
    la = _cut_atrium(la, lv, rv, left_axis, right_axis if heart.missing == "RA" else None)
    ra = np.maximum(ra, _gap(la, 2.6))
    ra = _cut_atrium(ra, rv, lv, right_axis, right_axis if heart.missing == "RV" else None)
    for lumen, wall in ((aorta.distance_mm, 2.2), (pulmonary.trunk.distance_mm, 1.8)):
        la = np.maximum(la, _gap(lumen, wall))
        ra = np.maximum(ra, _gap(lumen, wall))
    lv_wall, rv_wall = plan.size(8.5, 0.12), plan.size(3.8, 0.12)
    # The uncut shapes: what lies between the two pools is muscle too.
    ventricles = np.minimum(np.minimum(lv, lv_body) - lv_wall, np.minimum(rv, rv_body) - rv_wall)
    lv, rv = _trabeculate(grid, plan, lv, rv, inverted=heart.inverted)

    traced = _trace_vessels(plan, aorta, pulmonary, svc, ivc, vessels.pulmonary_veins())
    blood = {label: vessel.labelled for label, vessel in traced.items()}
    veins = np.maximum(blood.pop(LA), _gap(ra, 2.4))
    # The order of painting: where pools meet, the later one wins.
    blood |= {LA: np.minimum(la, veins), RA: ra, AO: blood.pop(AO), RV: rv, LV: lv}
    if heart.inverted:
        blood[RV], blood[LV] = lv, rv
    zones = {label: vessel.zone for label, vessel in traced.items()}
    zones[LA] &= la > 0
    beyond = np.minimum.reduce([vessel.lumen for vessel in traced.values()])
    walls = np.minimum.reduce([ventricles, la - 1.9, ra - 1.9, beyond - 1.4])
    present = {label: pool for label, pool in blood.items() if bool((pool < 0).any())}
    return Anatomy(present, walls, beyond, zones, ventricles)


@dataclass(frozen=True)
class _Traced:
    """A vessel or a group of them.

    Attributes:
        lumen: All of its blood.
        labelled: The part of the lumen that an annotator would trace.
        zone: Where the end of that part is a matter of taste.
    """

    lumen: FloatArray
    labelled: FloatArray
    zone: NDArray[np.bool_]


def _trace_vessels(
    plan: Plan, aorta: Tube, pulmonary: PulmonaryArtery, svc: Tube, ivc: Tube, veins: list[Tube]
) -> dict[int, _Traced]:
    """Keep walls between the vessels and end their labels; pulmonary veins belong to the LA."""
    artery = np.maximum(pulmonary.distance_mm, _gap(aorta.distance_mm, 2.0))
    artery = np.maximum(artery, _gap(svc.distance_mm, 1.8))
    vein_lumen = np.minimum.reduce([vein.distance_mm for vein in veins])
    for lumen, wall in ((aorta.distance_mm, 2.0), (artery, 1.8)):
        vein_lumen = np.maximum(vein_lumen, _gap(lumen, wall))
    return {
        SVC: _trace([svc], svc.distance_mm, plan.size(10.0)),
        IVC: _trace([ivc], ivc.distance_mm, plan.size(10.0)),
        PA: _trace(pulmonary.branches, artery, plan.size(17.0)),
        LA: _trace(veins, vein_lumen, plan.size(12.0)),
        AO: _trace([aorta], aorta.distance_mm, plan.size(7.0)),
    }


def _ventricles(
    grid: Grid, plan: Plan, heart: Heart
) -> tuple[FloatArray, FloatArray, Point, Point]:
    """Return both ventricles, and the point in the base of each that blood flows in to."""
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
        # Volume overload of the right side is the commonest finding of the data set.
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
    # As thick as the septum: no atrium creeps between the ventricles.
    other_gap = 8.5 * np.clip((other_axis - _VALVE_RADIUS_MM) / 4.0, 0, 1)
    return np.asarray(np.maximum(np.maximum(atrium, own_gap - own), other_gap - other), np.float32)


def _gap(shape: FloatArray, width_mm: float) -> FloatArray:
    """Return the distance to everything that stays ``width_mm`` away from a shape."""
    return np.asarray(np.float32(width_mm) - shape, np.float32)


def _trabeculate(
    grid: Grid, plan: Plan, lv: FloatArray, rv: FloatArray, *, inverted: bool
) -> tuple[FloatArray, FloatArray]:
    """Roughen the ventricles, the right one more, and set papillary muscles into the left one."""
    ridges = np.maximum(random_field(plan.rng, grid.axes, 6.5), 0)
    depths = (1.3, 2.6) if not inverted else (2.6, 1.3)
    lv, rv = (
        side + np.float32(depth) * ridges * np.clip(1 + side / 9, 0, 1)
        for side, depth in zip((lv, rv), depths, strict=True)
    )
    muscles = np.minimum(
        tube(grid, [plan.place(-20, 24, -40), plan.place(-6, 18, -24)], [4, 2.6]).distance_mm,
        tube(grid, [plan.place(-8, 40, -34), plan.place(2, 26, -20)], [4, 2.6]).distance_mm,
    )
    if inverted:
        return lv, np.maximum(rv, -muscles)
    return np.maximum(lv, -muscles), rv


def _trace(tubes: list[Tube], lumen: FloatArray, margin_mm: float) -> _Traced:
    """End the label of a vessel before its lumen ends; nearby, its extent is a matter of taste."""
    traced = np.zeros(lumen.shape, bool)
    zone = np.zeros(lumen.shape, bool)
    for vessel in tubes:
        inside = vessel.distance_mm < 0
        left = vessel.length_mm - vessel.along_mm
        traced |= inside & (left > margin_mm)
        zone |= inside & (left > margin_mm - 6) & (left < margin_mm + 5)
    nearest = np.minimum.reduce([vessel.distance_mm for vessel in tubes])
    ended = (nearest < 0) & ~traced
    return _Traced(lumen, np.where(ended, np.float32(0.01), lumen), zone & (lumen < 0))
