"""Label maps in the formats of other programs: DICOM SEG, 3D Slicer, one file per structure."""
