"""Whole studies: commands one after the other, for every fold. It stands above the pipelines."""
