"""The architectures, and what is known of them before they are built."""
