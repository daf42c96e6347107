"""Online augmentation of training slices: image and label map always move together.

Keras's preprocessing layers were tested layer by layer (Keras 3.15, with an image that equals its
label map) and are not used, for two reasons. ``RandomFlip``, ``RandomRotation``, ``RandomZoom``,
``RandomTranslation`` and ``RandomShear`` keep labels intact and aligned, but
``RandomElasticTransform`` draws another displacement for the label map than for the image, and
refuses integer labels. All of these layers keep their seed in a variable, so that in a parallel
``map`` two runs differ and numbers repeat, and a resumed run cannot repeat an epoch. Here
everything depends on one generator per slice, and all geometry is one resampling, so that several
transforms blur an image only once.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.opencv import cv2


@dataclass(frozen=True)
class Augmentation:
    """How a training slice may be changed; zero or False switches a change off.

    Attributes:
        flip_horizontal: Mirror left and right with probability 1/2.
        flip_vertical: Mirror up and down with probability 1/2.
        rotation_degrees: Largest rotation in either direction.
        scale: Largest change of size: 0.1 gives 0.9 to 1.1.
        shift: Largest shift as a fraction of the side.
        elastic_alpha: Largest elastic displacement in pixels.
        elastic_sigma: Smoothness of the elastic displacement in pixels.
        brightness: Largest intensity that is added or subtracted; white is 1.
        contrast: Largest change of contrast: 0.2 gives 0.8 to 1.2.
        gamma: Largest change of the exponent: 0.2 gives 0.8 to 1.25.
        blur_sigma: Largest width of a Gaussian blur in pixels.
        noise: Largest standard deviation of added noise.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    rotation_degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 16.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    blur_sigma: float = 0.0
    noise: float = 0.0

    @property
    def is_active(self) -> bool:
        """Whether any change is switched on."""
        values = asdict(self)
        del values["elastic_sigma"]
        return any(values.values())

    @property
    def _resamples(self) -> bool:
        return any((self.rotation_degrees, self.scale, self.shift, self.elastic_alpha))


def augment_slice(
    image: NDArray[np.float32],
    labels: NDArray[np.uint8],
    settings: Augmentation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Change a slice and its label map in the same way.

    Args:
        image: ``(H, W)`` intensities in [0, 1]; or ``(S, H, W)``, the slice and its neighbours,
            which all change alike, except for their noise.
        labels: ``(H, W)`` labels.
        settings: The allowed changes.
        rng: Source of the random numbers.

    Returns:
        New arrays of the same shapes: the image in [0, 1] and the labels. The image is interpolated
        linearly, the labels by nearest neighbour. Pixels from outside the slice are black and
        background.
    """
    for is_on, axis in ((settings.flip_horizontal, -1), (settings.flip_vertical, -2)):
        if is_on and rng.random() < 0.5:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
    if settings._resamples:
        columns, rows = _draw_sampling_grid(labels.shape, settings, rng)
        image = _change_each(image, lambda part: cv2.remap(part, columns, rows, cv2.INTER_LINEAR))
        labels = cv2.remap(np.ascontiguousarray(labels), columns, rows, cv2.INTER_NEAREST)
    return _change_intensity(image, settings, rng), np.ascontiguousarray(labels)


def _change_each(
    image: NDArray[np.float32], change: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Change each slice of ``(H, W)`` or ``(S, H, W)``."""
    slices = np.ascontiguousarray(image).reshape(-1, *image.shape[-2:])
    return np.stack([change(part) for part in slices]).reshape(image.shape)


def _draw_sampling_grid(
    shape: Sequence[int], settings: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the column and the row in the input that each pixel of the result is read from."""
    height, width = shape
    angle = np.deg2rad(rng.uniform(-settings.rotation_degrees, settings.rotation_degrees))
    size = rng.uniform(1 - settings.scale, 1 + settings.scale)
    down, right = rng.uniform(-settings.shift, settings.shift, 2) * (height, width)
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2

    row, column = np.mgrid[:height, :width].astype(np.float32)
    row -= middle_row + down
    column -= middle_column + right
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    rows = cosine * row + sine * column + middle_row
    columns = cosine * column - sine * row + middle_column
    if settings.elastic_alpha:
        strength = rng.uniform(0, settings.elastic_alpha)
        rows += strength * _draw_smooth_field(height, width, settings.elastic_sigma, rng)
        columns += strength * _draw_smooth_field(height, width, settings.elastic_sigma, rng)
    return columns.astype(np.float32), rows.astype(np.float32)


def _draw_smooth_field(
    height: int, width: int, sigma: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a field that varies over about ``sigma`` pixels; its largest magnitude is 1."""
    noise = rng.uniform(-1, 1, (height, width)).astype(np.float32)
    field = cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(field / max(float(np.abs(field).max()), 1e-12), np.float32)


def _change_intensity(
    image: NDArray[np.float32], settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    if settings.blur_sigma:
        # Below a tenth of a pixel nothing changes, and OpenCV replaces 0 by a width of its own.
        sigma = max(0.1, rng.uniform(0, settings.blur_sigma))
        image = _change_each(image, lambda part: cv2.GaussianBlur(part, (0, 0), sigma))
    if settings.contrast:
        mean = image.mean()
        image = (image - mean) * rng.uniform(1 - settings.contrast, 1 + settings.contrast) + mean
    if settings.brightness:
        image = image + rng.uniform(-settings.brightness, settings.brightness)
    if settings.gamma:
        # Uniform in the logarithm, so that a darker image is as likely as a brighter one.
        reach = -np.log(1 - settings.gamma)
        image = np.clip(image, 0, 1) ** np.exp(rng.uniform(-reach, reach))
    if settings.noise:
        deviation = rng.uniform(0, settings.noise)
        image = image + deviation * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 1).astype(np.float32)
