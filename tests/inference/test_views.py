import numpy as np

from heartseg.inference.views import (
    View,
    matrices_onto,
    to_box,
)


def test_labels_of_a_view_return_to_the_voxels_that_it_shows():
    # A view of voxels 4 to 15 of 20; the grid over it has one point per voxel.
    view = View((0.6, 1.0, 1.0), (0.0, 0.0, 0.0))
    box = to_box(view, (20, 6, 5))
    assert box == (slice(4, 16), slice(0, 6), slice(0, 5))
    for matrix, side in zip(
        matrices_onto(box, (20, 6, 5), view, (12, 6, 5)), (12, 6, 5), strict=True
    ):
        np.testing.assert_allclose(matrix, np.eye(side), atol=1e-5)
