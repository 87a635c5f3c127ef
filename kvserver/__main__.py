"""``python -m kvserver``."""

from kvserver.cli import main

if __name__ == "__main__":
    main()
