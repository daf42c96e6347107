"""From volumes on disk to batches of slices, and back to volumes."""
