"""Run the command line with ``python -m voxshelf``."""

from voxshelf.cli import main

if __name__ == "__main__":
    main()
