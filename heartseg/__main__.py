"""The command-line program, run as ``python -m heartseg``."""

from heartseg.cli.app import main

if __name__ == "__main__":
    main()
