"""`python -m kolbo_demo`."""

from kolbo_demo.cli import main

if __name__ == "__main__":
    main()
