"""Whole-heart segmentation of cardiovascular MR for congenital heart disease."""

import os

# OpenCV reads this limit when it is first imported, which any module of heartseg may do. A picture
# whose header claims more pixels is then refused before memory is allocated for them.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))

__version__ = "0.1.0"
