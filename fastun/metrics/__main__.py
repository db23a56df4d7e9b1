"""`python -m fastun.metrics` prints the documentation's tables."""

from fastun.metrics.tables import markdown, markdown_of_drops

if __name__ == "__main__":
    print(markdown(), markdown_of_drops(), sep="\n\n")  # noqa: T201 (it is what is asked for)
