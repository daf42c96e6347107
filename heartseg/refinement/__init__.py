"""From a few corrected slices of a scan to its full segmentation."""
