# ./run test prepares everything and calls `make check`; the parts can be called on their own.

# Where ./run puts the tools. nft is in sbin, which is not on every user's PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.venv/prometheus/usr/bin:/usr/sbin:/sbin

C_SOURCES = $(wildcard csrc/*.h csrc/*/*.[ch] tests/native/*.[ch] tests/native/fuzz/*.[ch] bench/micro/*.[ch])

.PHONY: check lint types native test soak micro clean
.NOTPARALLEL:

check: lint types native test

lint:
	python -m ruff check .
	python -m ruff format --check .
	lint-imports --no-logo
	@if command -v clang-format >/dev/null; then \
		echo clang-format --dry-run -Werror; clang-format --dry-run -Werror $(C_SOURCES); \
	else echo "lint: no clang-format, so the C files are not checked"; fi

types:
	python -m mypy --strict fastun
	python -m mypy --strict -p bench.tunnel -p bench.micro

native:
	$(MAKE) -C tests/native check

test:
	python -m pytest

soak:
	FASTUN_SOAK=1 python -m pytest -m soak --timeout=7200

# The parts of the data path, three times, and how they stand to the stored baseline.
# One minute on a quiet machine.
MICRO_RESULT := bench/results/micro-$(shell date -u +%Y-%m-%dT%H%M%S)
micro:
	@mkdir -p $(dir $(MICRO_RESULT))
	@for run in 1 2 3; do \
		python -m pytest -q bench/micro --benchmark-columns=min,median,iqr,rounds \
			--benchmark-json=$(MICRO_RESULT)-$$run.json || exit; \
	done
	python -m bench.micro.compare $(MICRO_RESULT)-[123].json

clean:
	rm -rf build fastun/native/*.so fastun/native/_fastun.c .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -not -path './.venv/*' -exec rm -rf {} +
	$(MAKE) -C tests/native clean
