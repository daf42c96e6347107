"""Pictures: overlays, sheets, charts, movies, and the diagram of a network."""
