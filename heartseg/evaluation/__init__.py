"""Scores of label maps, and the report of them."""
