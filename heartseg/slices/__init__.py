"""Slices: how they are prepared for a network, how they are stored, how they become batches."""
