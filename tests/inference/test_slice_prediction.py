from itertools import permutations, product

import nibabel
import numpy as np
import pytest

from heartseg.errors import ModelError
from heartseg.inference.slice_prediction import predict_slices, predict_volume
from heartseg.labels import HVSMR
from heartseg.modelfile.description import ModelDescription
from heartseg.scans.volume import Volume
from heartseg.slices.recipe import PreparedVolume, SliceRecipe, to_network_input

NUM_CLASSES = 9
SHAPE = (13, 17, 11)
SPACING_MM = np.array([0.8, 1.25, 2.0])
ORIENTATIONS = [
    (order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


def affine_of(order=(0, 1, 2), signs=(1, 1, 1), spacing_mm=SPACING_MM, tilt_degrees=0.0):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(order)].T * np.array(signs) * spacing_mm
    angle = np.deg2rad(tilt_degrees)
    rotation = np.eye(3)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = rotation @ affine[:3, :3]
    affine[:3, 3] = (-30, 12, 7)
    return affine


def label_volume(labels, affine):
    """A scan whose intensity tells the label: eight classes spread over black to white."""
    intensities = (labels / (NUM_CLASSES - 1)).astype(np.float32)
    return Volume(intensities, affine, nibabel.Nifti1Header())


def read_intensity(images):
    """A network that answers with the class whose grey level is nearest."""
    levels = np.linspace(0, 1, NUM_CLASSES, dtype=np.float32)
    nearest = np.abs(images[..., :1] - levels).argmin(axis=-1)
    return np.eye(NUM_CLASSES, dtype=np.float32)[nearest]


def random_labels(shape, seed=7):
    return np.random.default_rng(seed).integers(0, NUM_CLASSES, shape).astype(np.uint8)


def recipe_of(**options):
    return SliceRecipe(**{"image_height": 64, "image_width": 64, "image_channels": 1, **options})


@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_voxel_keeps_its_place_in_all_48_orientations(order, signs, plane):
    labels = random_labels(SHAPE)
    affine = affine_of(order, signs, spacing_mm=np.ones(3))
    # The grid of a slice and the network's are the same but for padding: nothing is resampled.
    recipe = recipe_of(plane=plane, fit="pad", image_height=20, image_width=24)

    predicted = predict_volume(
        read_intensity, label_volume(labels, affine), recipe, num_classes=NUM_CLASSES, batch_size=4
    )

    np.testing.assert_array_equal(predicted, labels)


@pytest.mark.parametrize("order_and_signs", ORIENTATIONS[::7])
def test_equal_patients_get_equal_labels_whatever_the_orientation_of_the_file(order_and_signs):
    order, signs = order_and_signs
    image = np.random.default_rng(3).random(SHAPE, np.float32)
    recipe = recipe_of(image_height=32, image_width=32)
    plain = predict_volume(
        read_intensity,
        Volume(image, affine_of(), nibabel.Nifti1Header()),
        recipe,
        num_classes=NUM_CLASSES,
    )

    # The same scan, stored in another order of axes.
    source = nibabel.Nifti1Image(image, affine_of())
    codes = nibabel.orientations.axcodes2ornt(
        nibabel.aff2axcodes(affine_of(order, signs, spacing_mm=np.ones(3)))
    )
    stored = source.as_reoriented(codes)
    turned = predict_volume(
        read_intensity,
        Volume(np.asarray(stored.dataobj), stored.affine, nibabel.Nifti1Header()),
        recipe,
        num_classes=NUM_CLASSES,
    )

    expected = nibabel.orientations.apply_orientation(plain, codes)
    np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_structures_of_an_oblique_anisotropic_scan_come_back_in_place(fit):
    affine = affine_of((2, 0, 1), (-1, 1, -1), tilt_degrees=25)
    labels = np.zeros((30, 41, 23), np.uint8)
    labels[4:18, 10:30, 3:12] = 3
    labels[18:27, 5:20, 12:20] = 8
    # The widest side of a slice is 41 voxels of 1.25 mm.
    recipe = recipe_of(fit=fit, spacing_mm=0.5, image_height=128, image_width=128)

    predicted = predict_volume(
        read_intensity, label_volume(labels, affine), recipe, num_classes=NUM_CLASSES
    )

    # Between two grey levels a blend looks like a third class; away from borders all is exact.
    interior = np.ones(labels.shape, bool)
    for axis in range(3):
        for shift in (-1, 1):
            interior &= np.roll(labels, shift, axis) == labels
    np.testing.assert_array_equal(predicted[interior], labels[interior])
    assert (predicted == labels).mean() > 0.97


def test_where_the_network_does_not_reach_there_is_background():
    labels = np.full((5, 21, 21), 2, np.uint8)
    recipe = recipe_of(fit="pad", image_height=16, image_width=16)

    predicted = predict_volume(
        read_intensity,
        label_volume(labels, affine_of(spacing_mm=np.ones(3))),
        recipe,
        num_classes=NUM_CLASSES,
    )

    # 21 pixels of 1 mm around the 16 of the network: 2 or 3 are cut off at each border.
    np.testing.assert_array_equal(predicted[:, 2:18, 3:19], labels[:, 2:18, 3:19])
    assert not predicted[:, 0].any()
    assert not predicted[:, :, -1].any()


@pytest.mark.parametrize("batch_size", [1, 4, 13, 50])
def test_the_batch_size_decides_how_many_slices_the_network_sees_at_once(batch_size):
    sizes = []

    def record(images):
        sizes.append(len(images))
        return read_intensity(images)

    labels = random_labels(SHAPE)
    image = label_volume(labels, affine_of(spacing_mm=np.ones(3)))
    reports = []
    predicted = predict_volume(
        record,
        image,
        recipe_of(fit="pad"),
        num_classes=NUM_CLASSES,
        batch_size=batch_size,
        report=lambda done, total, what: reports.append((done, total)),
    )

    np.testing.assert_array_equal(predicted, labels)
    assert sum(sizes) == 13
    assert max(sizes) == min(batch_size, 13)
    assert reports == [(count, 13) for count in range(1, 14)]


@pytest.mark.parametrize(
    "recipe",
    [
        recipe_of(image_channels=3),
        recipe_of(fit="pad", spacing_mm=0.7, image_height=32, image_width=48),
        recipe_of(window="percentile", window_range=(1, 99)),
    ],
)
def test_prepared_pictures_reach_the_network_as_the_slices_of_their_volume_do(recipe):
    image = np.random.default_rng(5).gamma(2, 0.4, SHAPE).astype(np.float32)
    volume = Volume(image, affine_of((1, 2, 0), (1, -1, 1)), nibabel.Nifti1Header())
    seen = []

    def record(images):
        seen.append(images)
        return read_intensity(images)

    predict_volume(record, volume, recipe, num_classes=NUM_CLASSES, batch_size=5)
    prepared = PreparedVolume(volume, recipe)
    pictures = [prepared[index] for index in range(len(prepared))]
    labels = predict_slices(record, pictures, recipe, num_classes=NUM_CLASSES, batch_size=5)

    half = len(seen) // 2
    for of_volume, of_pictures in zip(seen[:half], seen[half:], strict=True):
        np.testing.assert_array_equal(of_pictures, of_volume)
        assert of_volume.shape[1:] == (
            recipe.image_height,
            recipe.image_width,
            recipe.image_channels,
        )
    for picture, label_map in zip(pictures, labels, strict=True):
        batch = to_network_input(picture[np.newaxis], recipe.image_channels)
        np.testing.assert_array_equal(label_map, read_intensity(batch)[0].argmax(-1))


@pytest.mark.parametrize("tile_overlap", [None, 0.25])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1)])
def test_a_network_sees_the_neighbours_from_left_to_right_of_the_patient(signs, tile_overlap):
    image = np.zeros((6, 20, 12), np.float32)
    image += np.arange(6, dtype=np.float32)[:, np.newaxis, np.newaxis] / 10
    image = image[:: signs[0]]
    volume = Volume(image, affine_of(signs=signs), nibabel.Nifti1Header())
    seen = []

    def record(images):
        seen.extend(images[:, 8, 8].tolist())
        return read_intensity(images)

    recipe = recipe_of(image_height=16, image_width=16, context=1)
    options = {"num_classes": NUM_CLASSES, "batch_size": 4, "tile_overlap": tile_overlap}
    predict_volume(record, volume, recipe, **options)
    tiles = len(seen) // 6
    levels = np.round(np.array(seen).reshape(6, tiles, 3) * 10).astype(int)
    expected = [[1, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 4]]
    for tile in range(tiles):
        assert levels[:: signs[0], tile].tolist() == expected
    assert tiles == (1 if tile_overlap is None else 2)


def test_a_picture_alone_is_its_own_neighbour_and_those_of_a_scan_are_each_others():
    pictures = [np.full((64, 64), level, np.uint8) for level in (0, 51, 102)]
    seen = []

    def record(images):
        seen.extend(np.round(images[:, 8, 8] * 5).astype(int).tolist())
        return read_intensity(images)

    for of_one_scan in (False, True):
        predict_slices(
            record,
            pictures,
            recipe_of(context=1),
            num_classes=NUM_CLASSES,
            of_one_scan=of_one_scan,
        )
    assert seen == [[0, 0, 0], [1, 1, 1], [2, 2, 2], [1, 0, 1], [0, 1, 2], [1, 2, 1]]


def test_pictures_of_any_size_get_label_maps_of_their_own_size_in_their_order():
    shapes = [(40, 90), (64, 64), (7, 5), (200, 100)]
    pictures = [
        np.full(shape, round(255 * value / 8), np.uint8) for value, shape in enumerate(shapes, 1)
    ]

    labels = predict_slices(
        read_intensity, pictures, recipe_of(), num_classes=NUM_CLASSES, batch_size=3
    )

    for value, (shape, label_map) in enumerate(zip(shapes, labels, strict=True), 1):
        np.testing.assert_array_equal(label_map, np.full(shape, value, np.uint8))


def test_no_pictures_give_no_label_maps():
    assert predict_slices(read_intensity, [], recipe_of(), num_classes=NUM_CLASSES) == []


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_tiles_predict_a_large_slice_at_its_own_resolution(fit):
    labels = random_labels((3, 50, 37))
    image = label_volume(labels, affine_of(spacing_mm=np.ones(3)))
    recipe = recipe_of(fit=fit, image_height=16, image_width=24)
    options = {"num_classes": NUM_CLASSES, "batch_size": 4, "tile_overlap": 0.25}
    shapes = set()

    def record(images):
        shapes.add(images.shape[1:])
        assert len(images) <= 4
        return read_intensity(images)

    predicted = predict_volume(record, image, recipe, **options)
    [picture] = predict_slices(record, [np.uint8(labels[0].T * 31.875)], recipe, **options)

    np.testing.assert_array_equal(predicted, labels)
    np.testing.assert_array_equal(picture, labels[0].T)
    assert shapes == {(16, 24, 1)}


def test_tiles_change_nothing_for_slices_that_fit():
    image = Volume(
        np.random.default_rng(2).random((3, 10, 14), np.float32),
        affine_of(),
        nibabel.Nifti1Header(),
    )
    plain = predict_volume(read_intensity, image, recipe_of(), num_classes=NUM_CLASSES)
    tiled = predict_volume(
        read_intensity, image, recipe_of(), num_classes=NUM_CLASSES, tile_overlap=0.5
    )

    np.testing.assert_array_equal(tiled, plain)


def test_a_network_with_other_classes_is_refused():
    image = label_volume(random_labels(SHAPE), affine_of())

    with pytest.raises(ModelError, match=r"\(8, 64, 64, 4\).*\(8, 64, 64, 9\)"):
        predict_volume(read_intensity, image, recipe_of(), num_classes=4)


def metadata():
    return {
        "recipe": SliceRecipe(plane="axial", fit="pad").to_dict(),
        "labels": [
            {"value": s.value, "key": s.key, "name": s.name, "color": list(s.color)}
            for s in HVSMR.structures
        ],
    }


def test_a_model_tells_its_recipe_and_labels():
    description = ModelDescription.from_metadata(metadata(), source="best.keras")

    assert description.recipe == SliceRecipe(plane="axial", fit="pad")
    assert description.table == HVSMR


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {"plane": "diagonal"}}, "broken"),
        ({"recipe": {"angle": 3}}, "angle"),
        ({"labels": [{"value": 0}]}, "lacks 'key'"),
        ({"labels": []}, "without gaps"),
        ({"labels": 5}, "broken"),
    ],
)
def test_a_broken_description_is_refused_by_the_name_of_the_model(change, message):
    with pytest.raises(ModelError, match=rf"best\.keras.*{message}"):
        ModelDescription.from_metadata({**metadata(), **change}, source="best.keras")
