"""From volumes on disk to batches of slices, and back to volumes."""

import os

# Read by OpenCV when it loads: pictures whose header claims more pixels are refused before
# memory is set aside for them.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))
