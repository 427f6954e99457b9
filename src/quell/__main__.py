"""`python -m quell` is `quell`."""

from .cli import main

if __name__ == "__main__":
    main()
