"""Scans: volumes of voxels with an affine, their grids, their intensities, their resampling."""
