"""Patients: which file belongs to whom, and who trains, validates and tests a model."""
