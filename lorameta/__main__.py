"""`python -m lorameta` is the command `lorameta`."""

from lorameta.cli import main

if __name__ == "__main__":
    main()
