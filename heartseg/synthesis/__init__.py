"""Images that are made: phantoms, and scenes around real label maps."""
