"""OpenCV, imported in one place: an installation without its system libraries is explained here."""

from heartseg.errors import MissingPackageError

try:
    import cv2
except ImportError as error:
    raise MissingPackageError(
        f"OpenCV cannot be loaded ({error}). Machines without a display, such as slim containers, "
        "often lack libGL. Run `pip uninstall -y opencv-python` and then `pip install "
        "opencv-python-headless`, or install the system library (on Debian and Ubuntu "
        "`apt-get install libgl1`)"
    ) from error

__all__ = ["cv2"]
