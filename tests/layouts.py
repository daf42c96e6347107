"""Arrays in every memory layout, to test that functions neither depend on it nor change them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Call:
    """A function of arrays, and the arrays."""

    function: Callable
    arrays: tuple


def in_c_order(array):
    return np.array(array, order="C")


def in_fortran_order(array):
    return np.array(array, order="F")


def as_every_second_element(array):
    larger = np.ones([2 * side for side in array.shape], array.dtype)
    strided = larger[(slice(None, None, 2),) * array.ndim]
    strided[...] = array
    return strided


def transposed(array):
    axes = (*range(1, array.ndim), 0)
    return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


def backwards(array):
    return np.ascontiguousarray(np.flip(array))[(slice(None, None, -1),) * array.ndim]


LAYOUTS = (in_fortran_order, as_every_second_element, transposed, backwards)


def lay_out(arrays: Sequence[np.ndarray], layout: Callable) -> list[np.ndarray]:
    """Return read-only arrays of a layout, so that a function that changes one of them raises."""
    laid = [layout(array) for array in arrays]
    for array, original in zip(laid, arrays, strict=True):
        assert not array.flags.c_contiguous
        np.testing.assert_array_equal(array, original)
        array.flags.writeable = False
    return laid


def check_layout(call: Call, layout: Callable) -> None:
    """Check that arrays of a layout give the result of arrays in C order, and are not changed."""
    expected = call.function(*map(in_c_order, call.arrays))

    found = call.function(*lay_out(call.arrays, layout))

    if not isinstance(expected, list):
        expected, found = [expected], [found]
    for one, other in zip(expected, found, strict=True):
        kind = np.asarray(one).dtype
        if kind.kind == "f":
            # Sums in another order may differ in the last digits.
            tolerance = 1e-12 if kind == np.float64 else 1e-5
            np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(other, one)
