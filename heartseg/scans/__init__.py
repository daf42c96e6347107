"""A scan: a volume of voxels with an affine, its grid, its intensities and how both change."""
