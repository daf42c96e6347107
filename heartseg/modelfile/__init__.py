"""A model on disk: written, checked, read and described."""
