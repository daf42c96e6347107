"""Run the command-line program as ``python -m heartseg``."""

from heartseg.cli.app import main

if __name__ == "__main__":
    main()
