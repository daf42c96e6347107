"""What a training run is made of, read from the configuration: its folder and its material."""
