"""Whole-heart segmentation of cardiovascular MR for congenital heart disease."""

__version__ = "0.1.0"
