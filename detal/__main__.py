"""``python -m detal``."""

from detal.cli import main

if __name__ == "__main__":
    main()
