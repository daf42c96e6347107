import cv2
import nibabel
import numpy as np
import pytest
from builders import list_visible
from dicom_builders import write_classic
from itk_images import write_itk

from heartseg.errors import BatchError, DataError
from heartseg.exchange.dicom_seg import write_dicom_seg
from heartseg.exchange.slicer import write_seg_nrrd
from heartseg.labels import HVSMR
from heartseg.pipelines.colorize import run_colorize
from heartseg.scans.dicom_series import choose_series
from heartseg.scans.geometry import SliceLayout

SHAPE = (14, 11, 9)
# Axes to posterior, inferior and right, as in the files of the data set.
AFFINE = np.array([[0, 0, 1.1, 0], [-0.8, 0, 0, 0], [0, -1.5, 0, 0], [0, 0, 0, 1]])


def random_labels(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 9, shape).astype(np.uint8)


def write_scan(file, voxels, affine=AFFINE):
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), file)
    return file


def write_picture(file, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), pixels if pixels.ndim == 2 else pixels[..., ::-1])
    return file


def read_rgb(file):
    return cv2.imread(str(file))[..., ::-1]


def names(folder):
    return list_visible(folder)


def test_every_slice_of_a_volume_becomes_a_picture_numbered_as_in_the_file(tmp_path):
    labels = random_labels()
    file = write_scan(tmp_path / "pat4_seg.nii.gz", labels)

    result = run_colorize([file], table=HVSMR, output_dir=tmp_path / "out")

    folder = tmp_path / "out" / "pat4_seg"
    assert names(folder) == [f"pat4_seg_{index:03d}.png" for index in range(9)]
    assert result.num_pictures == 9
    # A slice of a PIR file is turned by 90 degrees: anterior right, superior up.
    expected = HVSMR.palette[labels[::-1, :, 5].T]
    np.testing.assert_array_equal(read_rgb(folder / "pat4_seg_005.png"), expected)


def test_volume_to_colours_to_labels_is_the_identity(tmp_path):
    labels = random_labels()
    file = write_scan(tmp_path / "a.nii.gz", labels)

    run_colorize([file], table=HVSMR, output_dir=tmp_path / "colors", plane="axial")
    run_colorize(
        [tmp_path / "colors" / "a"], table=HVSMR, output_dir=tmp_path / "labels", decode=True
    )

    back = np.zeros_like(labels)
    for index, label_slice in enumerate(SliceLayout.from_affine(AFFINE, "axial").stack(back)):
        picture = tmp_path / "labels" / f"a_{index:03d}.png"
        label_slice[...] = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(back, labels)


def test_real_label_maps_survive_colours_and_back(hvsmr2, tmp_path):
    maps = sorted((hvsmr2 / "labels").glob("*_seg.nii.gz"))[:1]
    maps.append(hvsmr2 / "cropped_norm" / "pat58_cropped_seg.nii.gz")

    run_colorize(maps, table=HVSMR, output_dir=tmp_path / "colors")

    for file in maps:
        source = nibabel.load(file)
        name = file.name.removesuffix(".nii.gz")
        folder, decoded = tmp_path / "colors" / name, tmp_path / name
        run_colorize([folder], table=HVSMR, output_dir=decoded, decode=True)
        back = np.zeros(source.shape, np.uint8)
        slices = SliceLayout.from_affine(source.affine, "sagittal").stack(back)
        for index, label_slice in enumerate(slices):
            picture = decoded / f"{name}_{index:03d}.png"
            label_slice[...] = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(back, np.asarray(source.dataobj))


def test_a_picture_of_label_values_becomes_colours_and_back(tmp_path):
    labels = random_labels((20, 30))
    file = write_picture(tmp_path / "a.png", labels)

    run_colorize([file], table=HVSMR, output_dir=tmp_path / "out")
    run_colorize(
        [tmp_path / "out" / "a.png"], table=HVSMR, output_dir=tmp_path / "back", decode=True
    )

    np.testing.assert_array_equal(read_rgb(tmp_path / "out" / "a.png"), HVSMR.palette[labels])
    back = cv2.imread(str(tmp_path / "back" / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(back, labels)


def test_an_overlay_lies_beside_the_mask_of_a_picture(tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 15:] = 1
    file = write_picture(tmp_path / "a.png", labels)
    image = write_picture(tmp_path / "image.png", np.full((20, 30), 200, np.uint8))

    run_colorize([file], table=HVSMR, output_dir=tmp_path / "out", overlay=image)

    assert names(tmp_path / "out") == ["a.png", "a_overlay.png"]
    drawn = read_rgb(tmp_path / "out" / "a_overlay.png")
    assert np.all(drawn[:, :15] == 200)
    # 0.55 x 200 + 0.45 x (180, 60, 60), the display colour of the LV
    np.testing.assert_array_equal(drawn[0, 20], [191, 137, 137])


def test_overlays_of_a_volume_lie_beside_its_masks(tmp_path):
    file = write_scan(tmp_path / "a.nii.gz", random_labels())
    image = write_scan(tmp_path / "image.nii.gz", np.random.default_rng(1).random(SHAPE))

    result = run_colorize([file], table=HVSMR, output_dir=tmp_path / "out", overlay=image)

    assert result.num_pictures == 18
    assert names(tmp_path / "out" / "a")[:2] == ["a_000.png", "a_000_overlay.png"]


def test_several_inputs_take_their_images_from_a_folder_by_name(tmp_path):
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / "labels" / name, random_labels((8, 9)))
        write_picture(tmp_path / "images" / name, np.zeros((8, 9), np.uint8))

    run_colorize(
        [tmp_path / "labels"],
        table=HVSMR,
        output_dir=tmp_path / "out",
        overlay=tmp_path / "images",
    )
    assert names(tmp_path / "out") == ["a.png", "a_overlay.png", "b.png", "b_overlay.png"]

    with pytest.raises(DataError, match="folder of images"):
        run_colorize(
            [tmp_path / "labels"],
            table=HVSMR,
            output_dir=tmp_path / "other",
            overlay=tmp_path / "images" / "a.png",
        )


def test_a_colour_off_the_palette_is_reported_with_file_pixel_and_colour(tmp_path):
    colors = HVSMR.palette[random_labels((8, 9))]
    colors[3, 4] = (250, 3, 1)
    write_picture(tmp_path / "in" / "bad.png", colors)
    write_picture(tmp_path / "in" / "good.png", HVSMR.palette[random_labels((8, 9))])

    with pytest.raises(BatchError, match=r"bad\.png.*\(3, 4\).*\(250, 3, 1\)"):
        run_colorize([tmp_path / "in"], table=HVSMR, output_dir=tmp_path / "out", decode=True)
    assert names(tmp_path / "out") == ["good.png"]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((5, 6), 9, np.uint8), "0 to 8, found 9"),
        (np.zeros((5, 6, 3), np.uint8), "--decode"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, pixels, message):
    file = write_picture(tmp_path / "a.png", pixels)

    with pytest.raises(BatchError, match=message):
        run_colorize([file], table=HVSMR, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_on_another_grid_is_refused(tmp_path):
    labels = write_scan(tmp_path / "a.nii.gz", random_labels())
    shifted = AFFINE.copy()
    shifted[0, 3] = 5
    image = write_scan(tmp_path / "image.nii.gz", np.ones(SHAPE), shifted)
    picture = write_picture(tmp_path / "b.png", random_labels((8, 9)))
    other = write_picture(tmp_path / "other.png", np.zeros((9, 8), np.uint8))

    for file, overlay, message in (
        (labels, image, "affine"),
        (picture, other, r"expected the shape \(8, 9\) of .*b\.png, found \(9, 8\)"),
    ):
        with pytest.raises(BatchError, match=message):
            run_colorize([file], table=HVSMR, output_dir=tmp_path / "out", overlay=overlay)


def test_nothing_is_replaced_unless_asked(tmp_path):
    volume = write_scan(tmp_path / "a.nii.gz", random_labels())
    picture = write_picture(tmp_path / "b.png", random_labels((8, 9)))
    for file in (volume, picture):
        options = {"table": HVSMR, "output_dir": tmp_path / "out"}
        run_colorize([file], **options)
        with pytest.raises(DataError, match=f"{file.name[0]}.*already exists.*--overwrite"):
            run_colorize([file], **options)
        run_colorize([file], overwrite=True, **options)

    with pytest.raises(DataError, match="is an input"):
        run_colorize([picture], table=HVSMR, output_dir=tmp_path, overwrite=True)


def test_a_folder_that_was_interrupted_is_filled_again(tmp_path):
    file = write_scan(tmp_path / "a.nii.gz", random_labels())
    folder = tmp_path / "out" / "a"
    folder.mkdir(parents=True)
    (folder / "UNFINISHED").touch()
    (folder / "a_000.png").touch()

    run_colorize([file], table=HVSMR, output_dir=tmp_path / "out")

    assert len(names(folder)) == 9
    assert all((folder / name).stat().st_size for name in names(folder))


def test_conflicting_results_and_options_are_errors_before_any_work(tmp_path):
    one = write_picture(tmp_path / "one" / "a.png", random_labels((8, 9)))
    two = write_picture(tmp_path / "two" / "a.bmp", random_labels((8, 9)))
    out = tmp_path / "out"

    with pytest.raises(DataError, match=r"a\.bmp: its result a\.png"):
        run_colorize([one, two], table=HVSMR, output_dir=out)
    with pytest.raises(DataError, match="leave out --overlay"):
        run_colorize([one], table=HVSMR, output_dir=out, decode=True, overlay=two)
    with pytest.raises(DataError, match="no such file"):
        run_colorize([tmp_path / "gone.png"], table=HVSMR, output_dir=out)
    assert not out.exists()


def test_label_maps_of_every_format_have_the_colours_of_nifti(tmp_path):
    labels, inputs = random_labels(), tmp_path / "in"
    write_scan(inputs / "a.nii.gz", labels)
    image = random_labels(seed=1).astype(np.uint16)
    dicom = write_classic(tmp_path / "dicom", image, AFFINE)
    write_itk(inputs / "b.nrrd", labels, AFFINE)
    write_itk(inputs / "c.mha", labels, AFFINE)
    nibabel.save(nibabel.MGHImage(labels, AFFINE), inputs / "d.mgz")
    write_seg_nrrd(inputs / "e.seg.nrrd", labels, affine=AFFINE, table=HVSMR)
    seg = inputs / "f.seg.dcm"
    write_dicom_seg(seg, labels, affine=AFFINE, series=choose_series(dicom), table=HVSMR)

    result = run_colorize([inputs], table=HVSMR, output_dir=tmp_path / "out")

    assert result.num_inputs == 6
    pictures = [tmp_path / "out" / "a" / picture for picture in names(tmp_path / "out" / "a")]
    for name in "bcdef":
        others = [tmp_path / "out" / name / other for other in names(tmp_path / "out" / name)]
        for picture, other in zip(pictures, others, strict=True):
            np.testing.assert_array_equal(read_rgb(other), read_rgb(picture))
    # Over the series that the DICOM SEG refers to.
    run_colorize([seg], table=HVSMR, output_dir=tmp_path / "over", overlay=dicom)
    assert len(names(tmp_path / "over" / "f")) == 2 * len(pictures)
