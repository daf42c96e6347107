"""The anatomy of a phantom: cavities and vessels joined, labelled as an annotator would."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.synthesis.phantom_cavities import (
    Pools,
    open_outflows,
    place_pools,
    separate_pools,
    trabeculate,
    wrap_in_muscle,
)
from heartseg.synthesis.phantom_plan import Heart, Plan
from heartseg.synthesis.phantom_vessels import PulmonaryArtery, Vessels
from heartseg.synthesis.shapes import FloatArray, Grid, Tube, gap

LV, RV, LA, RA, AO, PA, SVC, IVC = range(1, 9)


@dataclass
class Anatomy:
    """A heart on a grid, as signed distances in nominal mm.

    Attributes:
        chambers: Blood of each structure by label, in the order of painting: where two overlap,
            the later one wins.
        walls: Muscle around the ventricles and atria, and walls of the vessels.
        beyond: Lumen of all vessels, also where an annotator would not trace them.
        zones: Where the end of a vessel is ambiguous, boolean by label.
        ventricles: The two ventricles with the muscle around them, on which the fat lies.
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
        heart: The properties of the heart; equal properties on equal grids give equal results.

    Returns:
        The distances from which labels and intensities are painted.
    """
    spread = {"mild": 0.8, "moderate": 1.1, "severe": 1.3}[heart.category]
    plan = Plan(np.random.default_rng(heart.seed), spread)
    vessels = Vessels(grid, plan)
    bodies = place_pools(grid, plan, heart)
    aorta = vessels.aorta()
    pulmonary = vessels.pulmonary(from_lv=heart.missing == "RV")
    svc, ivc = vessels.cavae()
    pools = open_outflows(bodies, vessels, heart)
    pools = separate_pools(pools, bodies, plan, heart, aorta=aorta, pulmonary=pulmonary)
    ventricles = wrap_in_muscle(pools, bodies, plan)
    pools = trabeculate(grid, plan, pools, inverted=heart.inverted)

    traced = _trace_vessels(plan, aorta, pulmonary, svc, ivc, vessels.pulmonary_veins())
    blood = _order_blood(pools, traced, inverted=heart.inverted)
    zones = {label: vessel.zone for label, vessel in traced.items()}
    zones[LA] &= pools.la > 0
    beyond = np.minimum.reduce([vessel.lumen for vessel in traced.values()])
    walls = np.minimum.reduce([ventricles, pools.la - 1.9, pools.ra - 1.9, beyond - 1.4])
    present = {label: pool for label, pool in blood.items() if bool((pool < 0).any())}
    return Anatomy(present, walls, beyond, zones, ventricles)


def _order_blood(
    pools: Pools, traced: dict[int, "_Traced"], *, inverted: bool
) -> dict[int, FloatArray]:
    """Return the blood of each label in the order of painting: where pools meet, later ones win."""
    veins = np.maximum(traced[LA].labelled, gap(pools.ra, 2.4))
    lv, rv = (pools.rv, pools.lv) if inverted else (pools.lv, pools.rv)
    vessels = {label: traced[label].labelled for label in (SVC, IVC, PA)}
    return vessels | {
        LA: np.minimum(pools.la, veins),
        RA: pools.ra,
        AO: traced[AO].labelled,
        RV: rv,
        LV: lv,
    }


@dataclass(frozen=True)
class _Traced:
    """A vessel or a group of them.

    Attributes:
        lumen: All of its blood.
        labelled: The part of the lumen that an annotator would trace.
        zone: Where the end of that part is ambiguous.
    """

    lumen: FloatArray
    labelled: FloatArray
    zone: NDArray[np.bool_]


def _trace_vessels(
    plan: Plan, aorta: Tube, pulmonary: PulmonaryArtery, svc: Tube, ivc: Tube, veins: list[Tube]
) -> dict[int, _Traced]:
    """Separate the vessels by walls and end their labels; pulmonary veins belong to the LA."""
    artery = np.maximum(pulmonary.distance_mm, gap(aorta.distance_mm, 2.0))
    artery = np.maximum(artery, gap(svc.distance_mm, 1.8))
    vein_lumen = np.minimum.reduce([vein.distance_mm for vein in veins])
    for lumen, wall in ((aorta.distance_mm, 2.0), (artery, 1.8)):
        vein_lumen = np.maximum(vein_lumen, gap(lumen, wall))
    return {
        SVC: _trace([svc], svc.distance_mm, plan.size(10.0)),
        IVC: _trace([ivc], ivc.distance_mm, plan.size(10.0)),
        PA: _trace(pulmonary.branches, artery, plan.size(17.0)),
        LA: _trace(veins, vein_lumen, plan.size(12.0)),
        AO: _trace([aorta], aorta.distance_mm, plan.size(7.0)),
    }


def _trace(tubes: list[Tube], lumen: FloatArray, margin_mm: float) -> _Traced:
    """End the label of a vessel before its lumen ends; near that end its extent is ambiguous."""
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
