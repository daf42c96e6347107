"""What is measured of a label map: areas, diameters of vessels, ratios, and indexing to the body."""
