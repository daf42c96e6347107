"""Surfaces of masks: triangles, and distances between them in mm."""
