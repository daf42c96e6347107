"""One module a command: files in, calls of the core, files out."""
