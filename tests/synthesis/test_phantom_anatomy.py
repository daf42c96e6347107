import numpy as np
import pytest

from heartseg.synthesis.phantom_anatomy import AO, IVC, LA, LV, PA, RA, RV, SVC, build_anatomy
from heartseg.synthesis.phantom_plan import Heart
from heartseg.synthesis.shapes import build_grid


@pytest.fixture(scope="module")
def grid():
    return build_grid((40, 48, 45), (2.6, 2.6, 2.6), np.random.default_rng(0), bend_mm=0.0)


def build(grid, **changes):
    values = {"category": "mild", "missing": None, "inverted": False, "seed": 5, **changes}
    return build_anatomy(grid, Heart(**values))


def test_structures_are_painted_from_the_veins_to_the_left_ventricle(grid):
    assert list(build(grid).chambers) == [SVC, IVC, PA, LA, RA, AO, RV, LV]


def test_equal_hearts_are_equal_and_others_are_not(grid):
    first, again, other = build(grid), build(grid), build(grid, seed=6)
    np.testing.assert_array_equal(first.chambers[LV], again.chambers[LV])
    assert (first.chambers[LV] != other.chambers[LV]).any()


@pytest.mark.parametrize(("missing", "label"), [("RV", RV), ("RA", RA)])
def test_a_missing_structure_has_no_blood(grid, missing, label):
    assert set(build(grid, missing=missing).chambers) == set(range(1, 9)) - {label}


def test_inverted_ventricles_exchange_their_sides(grid):
    plain, inverted = build(grid), build(grid, inverted=True)
    right_of = {
        name: {label: np.argwhere(made.chambers[label] < 0)[:, 2].mean() for label in (LV, RV)}
        for name, made in {"plain": plain, "inverted": inverted}.items()
    }
    assert right_of["plain"][LV] < right_of["plain"][RV]
    assert right_of["inverted"][LV] > right_of["inverted"][RV]


def test_the_label_of_a_vessel_ends_before_its_blood_inside_an_ambiguous_zone(grid):
    anatomy = build(grid)
    for label in (SVC, IVC, PA):
        labelled = anatomy.chambers[label] < 0
        assert (anatomy.beyond[labelled] < 0).all()
        zone = anatomy.zones[label]
        # The zone lies on both sides of the end of the label.
        assert (zone & labelled).any()
        assert (zone & ~labelled).any()
    # The left atrium itself is not ambiguous, only its veins are.
    assert not (anatomy.zones[LA] & (anatomy.chambers[AO] < 0)).any()


def test_walls_enclose_every_blood_pool(grid):
    anatomy = build(grid)
    for label, pool in anatomy.chambers.items():
        assert (anatomy.walls[pool < 0] < 0).mean() > 0.97, label
    assert (anatomy.ventricles[anatomy.chambers[LV] < 0] < 0).all()
