"""From a trained network to label maps of slices and volumes."""
