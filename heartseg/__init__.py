"""Whole-heart segmentation of cardiovascular MR for congenital heart disease."""

import os

# Read by OpenCV when it loads: pictures whose header claims more pixels are refused before
# memory is set aside for them.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))

__version__ = "0.1.0"
