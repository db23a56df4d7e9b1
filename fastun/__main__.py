"""`python -m fastun` is `fastun`."""

from fastun.cli import main

if __name__ == "__main__":
    main()
