"""The architectures, and what can be computed about them before they are built."""
