"""Result files: one module per output format, and the registry in which they have their names."""
