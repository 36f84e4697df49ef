"""`python -m tools.evaluate`."""

from tools.evaluate.cli import main

if __name__ == "__main__":
    main()
