"""``python -m kvclient`` is ``kvcli``."""

from kvclient.cli import main

if __name__ == "__main__":
    main()
