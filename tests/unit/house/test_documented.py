"""Every command, option, field, metric, drop reason and alert is documented, and nothing else is.

docs/configuration.md is compared both ways: what it lists must exist, and what exists must be
listed. Headings name the command; the first column of the tables below names the option. Its tables
of fields are made, and looked at in tests/unit/config/test_reference.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from fastun.command.cli import cli
from fastun.config import vocabulary, wg_quick
from fastun.link.hello import Ability, Hello
from fastun.metrics.families import FAMILIES
from fastun.metrics.tables import markdown, markdown_of_drops, renewed
from fastun.native import DROPS
from fastun.session.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

# What pages name of the repository.
METRIC = re.compile(r"`(fastun_[a-z_]+)[`{]")
EXTERNAL = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w./~%?&=+#,:@!-]*)?")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:csrc|fastun|tests|grafana|docs|bench)/[\w./-]*)`")


def pages() -> list[Path]:
    """All Markdown files of the repository, without what a build or a download has left there."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:  # a source archive
        return [page for page in ROOT.rglob("*.md") if ".venv" not in page.parts]
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def below(heading: str, text: str) -> list[list[str]]:
    """The cells of each row of the first table below each `### ...heading...`."""
    rows = []
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE):
        title, _, body = part.partition("\n")
        if f"`{heading}`" in title:
            lines = [line for line in body.splitlines() if line.startswith("| ")]
            rows += [
                [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
                for line in lines
                if not line.startswith(("| ---", "| option", "| field"))
            ]
    return rows


def commands(group: click.Group = cli, name: str = "fastun") -> Iterator[tuple[str, click.Command]]:
    """Each command that can be run, with its whole name."""
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


COMMANDS = dict(commands())


def options_of(name: str) -> list[list[str]]:
    """The rows of a command's options, and of those that all commands of its group have."""
    return below(name, CONFIGURATION) + below(name.rpartition(" ")[0], CONFIGURATION)


# -- commands and options ---------------------------------------------------------------------


def test_every_command_has_a_heading_and_every_heading_a_command() -> None:
    headings = re.findall(r"^### (`fastun .*)$", CONFIGURATION, flags=re.MULTILINE)
    documented = {name for line in headings for name in re.findall(r"`(fastun [^`]+)`", line)}
    assert documented == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_exactly_the_options_that_a_command_has_are_documented(name: str) -> None:
    documented = {
        word for row in options_of(name) for word in re.findall(r"(?<![\w-])--?[a-z][\w-]*", row[0])
    }
    options = {
        flag
        for option in COMMANDS[name].params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
    }
    assert documented == options


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_and_choices_of_options_are_those_of_the_code(name: str) -> None:
    rows = {word: row for row in options_of(name) for word in re.findall(r"--\w[\w-]*", row[0])}
    for option in COMMANDS[name].params:
        if not isinstance(option, click.Option):
            continue
        cells = rows[max(option.opts, key=len)]
        if isinstance(option.type, click.Choice):
            assert "\\|".join(option.type.choices) in cells[0]
        if option.show_default and option.default is not None:
            assert str(option.default) in cells[1]


# -- the file, and the hello -------------------------------------------------------------------


def test_every_key_of_the_hello_is_documented() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = page.partition("## The hello")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    fields = set(Hello.__struct_fields__) - {"abilities"}  # each of which is a key of its own
    assert set(documented) == {*fields, *Ability}


def test_log_lines_that_are_explained_exist() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## The log")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE)
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "fastun").rglob("*.py"))
    joined = re.sub(r'"\s+f?"', "", sources)
    assert [line for line in lines if line not in joined] == []
    assert len(lines) > 20


def test_each_variable_of_the_environment_that_is_read_is_documented() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "fastun").rglob("*.py"))
    read = re.compile(r"environ(?:\.get\(|\[)\"(FASTUN_\w+)\"")
    names = {name for source in sources for name in read.findall(source)}
    assert "FASTUN_DEBUG" in names
    assert [name for name in names if f"`{name}=" not in CONFIGURATION] == []


def test_everything_that_can_be_accepted_is_documented() -> None:
    described = CONFIGURATION.partition("### `accept`")[2].partition("\n###")[0]
    assert [word for word in vocabulary.ACCEPTABLE if f"`{word}`" not in described] == []


def test_every_key_of_wg_quick_files_is_documented() -> None:
    for section, keys in wg_quick._KEYS.items():  # noqa: SLF001 (there is no other list)
        [row] = re.findall(rf"^\| `\[{section}\]` \| (.*) \|$", CONFIGURATION, flags=re.MULTILINE)
        assert row == ", ".join(f"`{key}`" for key in keys)


# -- metrics, drop reasons, alerts ------------------------------------------------------------


def test_every_metric_that_is_named_anywhere_exists() -> None:
    known = {family.name for family in FAMILIES}
    known |= {family.name.removesuffix("_total") for family in FAMILIES}
    series = {name + suffix for name in known for suffix in ("", "_bucket", "_sum", "_count")}
    for page in pages():
        if page.name == "CHANGELOG.md" or "results" in page.parts:
            continue  # what was renamed, and what an older version measured
        named = set(METRIC.findall(page.read_text(encoding="utf-8")))
        assert named <= series, page


def test_the_tables_of_metrics_are_those_of_the_code() -> None:
    fix = "run: python -m fastun.metrics docs/metrics.md"
    assert markdown() in METRICS, fix
    assert markdown_of_drops() in METRICS, fix
    assert renewed(METRICS) == METRICS, fix


def test_every_drop_reason_and_handshake_result_is_documented() -> None:
    reasons = re.findall(r"^\| \w+ \| ([\w-]+) \| `(\w+)` \|", METRICS, flags=re.MULTILINE)
    assert reasons == [(drop.role, drop.reason) for drop in DROPS]
    handshakes = METRICS.partition("## Handshake results")[2].partition("\n## ")[0]
    results = re.findall(r"^\| `(\w+)` \|", handshakes, flags=re.MULTILINE)
    assert results == ["ok", *(refusal.value for refusal in Refusal)]


def test_every_alert_is_documented() -> None:
    alerts = (ROOT / "grafana" / "prometheus" / "fastun.alerts.yaml").read_text(encoding="utf-8")
    documented = (ROOT / "grafana" / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"- alert: (\w+)", alerts)
    assert names
    assert re.findall(r"^### (\w+)", documented, flags=re.MULTILINE) == names


# -- all pages --------------------------------------------------------------------------------


FOLDER = re.compile(r"`(\w+)/`")
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = prose(page)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    plain = (re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title).replace("`", "") for title in titles)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            if not EXTERNAL.fullmatch(link):
                broken.append(link)
            continue
        found = page.parent / target if target else page
        if found.parent.name == "results" and not found.parent.exists():
            continue  # a copy without stored results, as for mutants
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_folders_that_are_named_exist(page: Path) -> None:
    named = PATH.findall(prose(page))
    made_by_a_run = {path for path in named if "DATE" in path}
    assert [
        path for path in named if path not in made_by_a_run and not (ROOT / path).exists()
    ] == []


@pytest.mark.parametrize("pattern", [METRIC, LINK, PATH])
def test_pages_have_many_of_what_is_looked_for(pattern: re.Pattern[str]) -> None:
    assert sum(len(pattern.findall(page.read_text(encoding="utf-8"))) for page in pages()) > 50


@pytest.mark.parametrize("language", ["csrc", "fastun"])
def test_the_architecture_lists_every_folder(language: str) -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = page.partition(f"### {language}/:")[2].partition("\n##")[0]
    listed = {
        name
        for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        for name in FOLDER.findall(row)
    }
    folders = {path.name for path in (ROOT / language).iterdir() if path.is_dir()}
    assert listed == folders - {"__pycache__"}


def test_every_decision_is_in_the_index_once() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in folder.glob("20*.md"))


def files_where_behaviours_live() -> Iterator[tuple[str, list[Path]]]:
    """Each file of ARCHITECTURE's last table, with where it may be.

    A name without a folder is in the folder named last in its row, or in that of the file before.
    """
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for row in page.partition("## Where a behaviour lives")[2].splitlines():
        named, before = ROOT, ROOT
        for word in re.findall(r"`([\w/]+(?:/|\.py|\.c|\.h))`", row):
            if word.startswith(("fastun/", "csrc/", "bench/")):
                named = before = ROOT / (word if word.endswith("/") else Path(word).parent)
                continue  # as for all pages: test_files_and_folders_that_are_named_exist
            yield word, [named / word, before / word]
            before = (named / word).parent


def test_each_file_is_where_the_architecture_says_that_a_behaviour_lives() -> None:
    files = list(files_where_behaviours_live())
    assert len(files) > 50
    assert [word for word, places in files if not any(each.exists() for each in places)] == []


def examples() -> Iterator[tuple[str, str]]:
    """Each command of fastun's in a block of console input, and the page that it is on."""
    for page in pages():
        for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language != "console":
                continue
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.match(r"[a-z]*[$#] (?:sudo )?(?:\S*/)?(fastun \w.*)", line):
                    typed = re.sub(r"\$\([^)]*\)", "PRINTED", match[1])
                    command = re.split(r" [|<>] ", typed)[0].split("  #")[0]
                    yield str(page.relative_to(ROOT)), command


@pytest.mark.parametrize(("page", "line"), list(examples()))
def test_examples_are_commands_that_parse(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, (page, line)
        command = found
        context = click.Context(command, info_name=name, parent=context)
    command.parse_args(context, words)


def test_there_are_examples_on_the_first_page() -> None:
    assert sum(page == "README.md" for page, _ in examples()) >= 3
