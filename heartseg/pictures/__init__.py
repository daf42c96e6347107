"""Pictures for people: overlays, sheets, charts, movies."""
