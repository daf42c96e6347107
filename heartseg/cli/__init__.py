"""The terminal: commands that parse and delegate, and what they print."""
