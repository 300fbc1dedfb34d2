"""``python -m vfsim``."""

from vfsim.cli.main import main

if __name__ == "__main__":
    main()
