"""`python -m fastun` is `fastun`."""

from fastun.command.cli import main

if __name__ == "__main__":
    main()
