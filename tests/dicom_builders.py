"""DICOM series for tests, written with pydicom alone, in the ways of several scanners."""

import zipfile

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
IDENTITY = {
    "PatientName": "DOE^JANE",
    "PatientID": "ID-4711",
    "PatientBirthDate": "19830214",
    "StudyDate": "20240229",
    "AccessionNumber": "ACC-0815",
    "ReferringPhysicianName": "HOUSE^GREGORY",
}
"""What may appear in no message; the parts are in ``SECRETS``."""
SECRETS = ("DOE", "JANE", "4711", "19830214", "20240229", "0815", "HOUSE", "GREGORY")
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def split_affine(affine):
    """Return orientation, spacing, first position and step of an array (columns, rows, slices)."""
    lps = _TO_LPS @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    orientation = [*(lps[:3, 0] / lengths[0]), *(lps[:3, 1] / lengths[1])]
    return orientation, [lengths[1], lengths[0]], lps[:3, 3], lps[:3, 2]


def ds(values):
    """Return numbers as the decimal strings that DICOM stores, of at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in np.ravel(values)]


def make_base(sop_class, **values):
    """Return the attributes that all files have in common."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = generate_uid()
    for key, value in IDENTITY.items():
        setattr(dataset, key, value)
    dataset.PatientSex = "F"
    dataset.StudyTime = "101010"
    dataset.StudyID = "1"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.Modality = "MR"
    dataset.SeriesNumber = 3
    dataset.SeriesDescription = "whole heart"
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for key, value in values.items():
        setattr(dataset, key, value)
    return dataset


def set_pixels(dataset, pixels):
    """Store ``([frames,] rows, columns)`` integers of 16 bits."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = 16
    dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()


def save(dataset, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(file, enforce_file_format=True)
    return file


def make_classic(voxels, affine, **values):
    """Return one single-frame data set per slice of a ``(columns, rows, slices)`` array."""
    orientation, spacing, start, step = split_affine(affine)
    series = []
    for z in range(voxels.shape[2]):
        dataset = make_base(MR, InstanceNumber=z + 1, **values)
        dataset.ImageOrientationPatient = ds(orientation)
        dataset.ImagePositionPatient = ds(start + z * step)
        dataset.PixelSpacing = ds(spacing)
        # Wrong on purpose: the distance of slices is that of their positions.
        dataset.SliceThickness = "9.5"
        set_pixels(dataset, np.ascontiguousarray(voxels[:, :, z].T))
        series.append(dataset)
    return series


def write_classic(folder, voxels, affine, **values):
    """Write single-frame files in an order that is not that of the slices; return the folder."""
    for z, dataset in enumerate(make_classic(voxels, affine, **values)):
        save(dataset, folder / f"IM{(7 * z + 3) % 1009:04d}")
    return folder


def item(**values):
    dataset = Dataset()
    for key, value in values.items():
        setattr(dataset, key, value)
    return dataset


def sequence(**values):
    return Sequence([item(**values)])


def make_enhanced(voxels, affine, *, order=None, shared_orientation=True, scaling=None, **values):
    """Return a multi-frame data set.

    Args:
        order: Which slice each frame holds; None: as they lie.
        shared_orientation: Whether orientation and spacing stand once, or in each frame.
        scaling: ``(slope, intercept)`` per slice; None: nowhere.
    """
    orientation, spacing, start, step = split_affine(affine)
    order = list(range(voxels.shape[2])) if order is None else list(order)
    dataset = make_base(ENHANCED_MR, InstanceNumber=1, NumberOfFrames=len(order), **values)
    organization = generate_uid()
    dataset.DimensionOrganizationSequence = sequence(DimensionOrganizationUID=organization)
    dataset.DimensionIndexSequence = Sequence(
        item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=tag_for_keyword(keyword),
            FunctionalGroupPointer=tag_for_keyword("FrameContentSequence"),
        )
        for keyword in ("StackID", "InStackPositionNumber")
    )
    common = {
        "PlaneOrientationSequence": sequence(ImageOrientationPatient=ds(orientation)),
        "PixelMeasuresSequence": sequence(PixelSpacing=ds(spacing), SliceThickness="9.5"),
    }
    dataset.SharedFunctionalGroupsSequence = sequence(**(common if shared_orientation else {}))
    groups = []
    for z in order:
        group = item(**({} if shared_orientation else common))
        group.PlanePositionSequence = sequence(ImagePositionPatient=ds(start + z * step))
        group.FrameContentSequence = sequence(
            StackID="1", InStackPositionNumber=z + 1, DimensionIndexValues=[1, z + 1]
        )
        if scaling is not None:
            slope, intercept = scaling[z]
            group.PixelValueTransformationSequence = sequence(
                RescaleSlope=ds(slope)[0], RescaleIntercept=ds(intercept)[0], RescaleType="US"
            )
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    set_pixels(dataset, np.stack([voxels[:, :, z].T for z in order]))
    return dataset


def write_archive(file, folder):
    """Pack every file of a folder into a ``.zip``."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in sorted(folder.rglob("*")):
            archive.write(entry, entry.relative_to(folder))
    return file
