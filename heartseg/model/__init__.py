"""The network, how it is trained and how it is kept."""
