"""Slices: how they reach a network, how they lie on disk, and how they become batches."""
