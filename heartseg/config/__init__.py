"""The configuration: one typed model a section, and how it is read."""
