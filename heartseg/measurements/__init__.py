"""What is measured of a label map: areas, diameters of vessels, ratios, indexing to the body."""
