# ./run test prepares everything and calls `make check`; the parts can be called on their own.

# Where ./run puts the tools. nft is in sbin, which is not on every user's PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.venv/prometheus/usr/bin:/usr/sbin:/sbin

C_SOURCES = $(wildcard csrc/*.h csrc/*/*.[ch] tests/native/*.[ch] tests/native/*/*.[ch] bench/micro/*.[ch] \
	bench/tunnel/programs/*.c)

# A path's tests, or those of the lines changed since a commit: make mutation FILES="..." or BASE=...
FILES =
BASE =
# Of the security mutants CI judges one part a day, so that all of them are in a fortnight.
N_SECURITY_PARTS = 14
SECURITY_PART := $(shell expr $$(date +%s) / 86400 % $(N_SECURITY_PARTS))/$(N_SECURITY_PARTS)

# Tests wait as much as they compute, those with tunnels more than the others, so more of them run
# at once than there are processors. What measures runs alone. Long ones come first.
N_PROCESSORS := $(shell nproc)
UNITS_AT_ONCE = -n $(shell expr $(N_PROCESSORS) \* 2) --dist worksteal
TUNNELS_AT_ONCE = -n $(shell expr $(N_PROCESSORS) \* 5 / 2) --dist loadscope
UNIT_FOLDERS = tests/bench tests/property tests/mutation tests/unit
TUNNEL_FOLDERS = tests/netns tests/fault tests/interop tests/attack

# Print a line and how long it took: $(call timed,NAME,COMMAND)
timed = @start=$$(date +%s); echo "== $(1)"; $(2); status=$$?; \
	echo "== $(1): $$(($$(date +%s) - start)) s"; exit $$status

# Run pytest; what fails runs again with nothing beside it, and that counts. These tests watch seconds
# go by, on machines that others use too, and what only ever fails once is in the output for us to
# find: $(call tests,MARK,HOW,FOLDERS)
tests = python -m pytest -q $(2) -m "$(1)" $(3) || { [ $$? -eq 1 ] && \
	echo "== what failed runs again alone" && \
	python -m pytest -q --last-failed --last-failed-no-failures none -m "$(1)" $(3); }

.PHONY: check quick lint types native fuzz unit tunnels alone test security mutation soak reliability micro clean
.NOTPARALLEL:

check: lint types native fuzz security test

# What can be run after every change: nothing that needs a device, a namespace or threads.
quick: lint types
	$(call timed,native,$(MAKE) --no-print-directory -C tests/native quick >.quick.log 2>&1 || \
		{ cat .quick.log; exit 1; })
	$(call timed,unit,FASTUN_QUICK=1 python -m pytest -q $(UNITS_AT_ONCE) -m "not slow and not alone" tests/unit)

lint:
	python -m ruff check .
	python -m ruff format --check .
	lint-imports --no-logo
	@if command -v clang-format >/dev/null; then \
		echo clang-format --dry-run -Werror; clang-format --dry-run -Werror $(C_SOURCES); \
	else echo "lint: no clang-format, so the C files are not checked"; fi

types:
	python -m mypy --strict -p fastun -p bench.tunnel -p bench.micro -p bench.model -m bench.demo

native:
	$(call timed,native,$(MAKE) --no-print-directory -C tests/native check)

# In CI so many inputs for each target, or a second; `make soak` and `make fuzz FUZZ_SECONDS=60
# FUZZ_RUNS=-1` take longer.
FUZZ_RUNS = 10000
FUZZ_SECONDS = 1
fuzz:
	$(call timed,fuzz,{ $(MAKE) --no-print-directory -C tests/native fuzz FUZZ_RUNS=$(FUZZ_RUNS) \
		FUZZ_SECONDS=$(FUZZ_SECONDS) >.fuzz.log 2>&1 || { cat .fuzz.log; exit 1; }; } && \
		python -m tests.fuzz.run --runs $(FUZZ_RUNS) --seconds $(FUZZ_SECONDS))

test: unit tunnels alone

unit:
	$(call timed,unit,$(call tests,not alone,$(UNITS_AT_ONCE),$(UNIT_FOLDERS)))

tunnels:
	$(call timed,tunnels,$(call tests,not alone,$(TUNNELS_AT_ONCE),$(TUNNEL_FOLDERS)))

alone:
	$(call timed,alone,$(call tests,alone))

# The checks that SECURITY.md rests on, turned round one at a time: one part of the list.
security:
	$(call timed,security mutants,python -m tests.mutation.run --security --part $(SECURITY_PART))

mutation:
	python -m tests.mutation.run $(if $(BASE),--base $(BASE),$(FILES))

# What docs/reliability.md promises, measured again.
soak:
	FASTUN_SOAK=1 FASTUN_FIGURES=tests/figures.jsonl python -m pytest -m soak --timeout=7200
	HYPOTHESIS_PROFILE=soak python -m pytest -q $(UNITS_AT_ONCE) --timeout=7200 -m hypothesis $(UNIT_FOLDERS)
	$(MAKE) fuzz FUZZ_RUNS=10000000 FUZZ_SECONDS=0
	FASTUN_SOAK=1 FASTUN_FIGURES=tests/figures.jsonl python -m tests.fuzz.counted
	python -m tests.mutation.run --security
	python -m tests.support.figures

# The short form of the same: reliability TESTS="tests/fault/test_kills_and_stops.py"
TESTS = tests
reliability:
	FASTUN_FIGURES=tests/figures.jsonl python -m pytest -q $(TESTS)
	python -m tests.support.figures

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
	rm -rf .quick.log .fuzz.log build fastun/native/*.so fastun/native/_fastun.c .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -not -path './.venv/*' -exec rm -rf {} +
	$(MAKE) -C tests/native clean
