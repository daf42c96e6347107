"""Synthetic images: phantoms, and scenes around real label maps."""
