"""What the pages say is so: files, commands and settings exist, blocks run, the site builds."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import typer
import yaml
from typer.testing import CliRunner

from bench.scenarios import document as scenarios
from docs import write_settings
from eigenmesh.cli.main import app
from eigenmesh.control.settings import Model, parse_document
from eigenmesh.demo import stage
from eigenmesh.demo.processes import envoy_binary
from eigenmesh.telemetry import promql
from eigenmesh.v1 import mesh_service_pb2 as reads
from eigenmesh.v1 import operations_service_pb2 as writes

from .api.stage import serving
from .pages import PAGES, ROOT, Block, Command, blocks, parsed, prose, spans, typed

BLOCKS = [block for page in PAGES for block in blocks(page)]
NAMED = re.compile(r"^(?:tests|bench|docs(?!/root)|deploy|proto|src)/[\w./-]+\.\w+")
"""Files of ours; docs/root is Envoy's."""


def of(language: str, title: str = "") -> list[Block]:
    found = [b for b in BLOCKS if b.language == language and b.title == title]
    assert found, f"no page has a block of {language} {title}"
    return found


# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = [found[0] for span in spans(page) if (found := NAMED.match(span))]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_pages_whose_claims_are_tested_name_the_tests() -> None:
    for name in ("faults.md", "live-settings.md", "xds.md", "telemetry.md", "journal.md"):
        assert any(NAMED.match(span) for span in spans(ROOT / "docs" / name)), name


def test_every_block_says_what_it_is() -> None:
    known = {"console", "yaml", "python", "promql", "text"}
    assert [str(block) for block in BLOCKS if block.language not in known] == []


def test_no_command_hides_outside_a_block() -> None:
    for page in PAGES:
        hidden = re.findall(r"^    +(?:\$|make|eigenmesh|docker) .*", prose(page), re.M)
        assert hidden == [], f"{page.name}: put it in a block of console, behind $"


def test_the_settings_page_is_up_to_date() -> None:
    assert write_settings.PAGE.read_text() == write_settings.page(), "run `make docs-settings`"


# Commands


ROOT_COMMAND = typer.main.get_command(app)
COMMANDS = [
    command
    for block in of("console")
    for command in typed(block)
    if "[OPTIONS]" not in command.words  # docs/cli.md is made of the commands themselves
]
IN_TEXT = [
    command
    for page in PAGES
    for span in spans(page)
    if re.match(r"(?:eigenmesh|make|ctl|docker compose) [^=:]", span)
    for command in parsed(re.sub(r"\[.*?\]", "", span), page.name)
]


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS), ids=str)
def test_a_command_can_be_typed(command: Command) -> None:
    takes(command)


@pytest.mark.parametrize("command", dict.fromkeys(IN_TEXT), ids=str)
def test_a_command_in_the_text_exists(command: Command) -> None:
    """There it may be named without what it needs."""
    try:
        takes(command)
    except Exception as error:
        if type(error).__name__ not in ("MissingParameter", "BadOptionUsage"):
            raise


def test_what_is_no_command_is_found() -> None:
    for line in (
        "eigenmesh chek eigenmesh.yaml",
        "eigenmesh ctl mode --rout shop",
        "eigenmesh ctl rollback soon",
        "make tests",
        'make demo ARGS="--prometeus"',
        "envoy --config eigenmesh.yaml",
        "docker compose --profile sidecars up",
        "pip install '.[prometeus]'",
        "kubectl apply",
    ):
        [command] = parsed(line, "here")
        with pytest.raises(Exception, match=r"."):
            takes(command)


def takes(command: Command) -> None:
    """Raises something that says what is wrong with it."""
    name, *words = command.words
    if name == "ctl":
        name, words = "eigenmesh", ["ctl", *words]
    check: dict[str, Callable[[list[str]], object]] = {
        "eigenmesh": eigenmesh_takes,
        "make": make_takes,
        "envoy": envoy_takes,
        "docker": docker_takes,
        "pip": pip_takes,
        "jq": lambda _: None,
        "curl": curl_takes,
    }
    assert name in check, f"say here how `{name}` is checked"
    check[name](words)


def eigenmesh_takes(words: list[str]) -> None:
    """By the parser of the command line, which raises what it would print."""
    words = [word for word in words if word != "--help"]
    command: Any = ROOT_COMMAND
    if words[0].startswith("-"):
        # These do something at once.
        assert words[0] in {option for parameter in command.params for option in parameter.opts}
        return
    context = command.make_context("eigenmesh", words)
    while words and hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, words)
        if words or not hasattr(command, "commands"):
            context = command.make_context(name, [*words], parent=context)


def make_takes(words: list[str]) -> None:
    """As far as it goes without doing it; the commands that it would run are looked at."""
    done = subprocess.run(
        ["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    # A folder's name is a target, too.
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" not in done.stdout
    for line in re.findall(r"bin/(eigenmesh .*)", done.stdout):
        for command in parsed(line, "Makefile"):
            eigenmesh_takes([*command.words[1:]])


def envoy_takes(words: list[str]) -> None:
    text = subprocess.run(
        [str(envoy_binary()), "--help"], capture_output=True, text=True, timeout=30
    ).stdout
    for word in words:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", text), word


def docker_takes(words: list[str]) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    profiles = {profile for service in services for profile in service["profiles"]}
    rest = re.sub(rf"--profile (?:{'|'.join(profiles)}) ", "", " ".join(words))
    assert rest in ("compose up", "compose up --build")


def curl_takes(words: list[str]) -> None:
    """Calls of the page, whose path ends with a method of the API."""
    *_, address = words
    found = re.fullmatch(r"http://127\.0\.0\.1:18002/api/call/(\w+)", address)
    services = [s for file in (reads, writes) for s in file.DESCRIPTOR.services_by_name.values()]
    assert found, address
    assert any(found[1] in service.methods_by_name for service in services), address


def pip_takes(words: list[str]) -> None:
    install, what = words
    assert install == "install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, extra = re.fullmatch(r"(\.|eigenmesh)(?:\[(\w+)\])?", what).groups()  # type: ignore[union-attr]
    assert extra is None or extra in project["optional-dependencies"], name


# Settings, and other YAML


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_settings_are_settings(block: Block) -> None:
    """Whole ones by all that `eigenmesh check` looks at; of parts, each field."""
    whole = stage.settings(stage.Ports(), Path("journal.sqlite"))
    document = yaml.safe_load(block.text)
    if "capacities" in document:
        scenarios.parse(document, "mine")
        return
    is_whole = {"telemetry", "envoy"} <= set(document)
    filled = _filled(document, whole)
    if is_whole:
        parse_document(filled, str(block))
    else:
        needed = {key: whole[key] for key in ("telemetry", "envoy")}
        Model.model_validate(needed | filled)


def _filled(part: Any, by: Any) -> Any:
    """What the page leaves out ([...] and {...}), taken from another document."""
    if part in (["..."], {"...": None}):
        return by if by is not None else {}
    if isinstance(part, dict):
        known = by if isinstance(by, dict) else {}
        return {key: _filled(value, known.get(key)) for key, value in part.items()}
    return [_filled(value, None) for value in part] if isinstance(part, list) else part


def test_settings_in_the_text_are_settings() -> None:
    """`mode: approve` and the like, and names such as `guard.max_age`."""
    whole = stage.settings(stage.Ports(), Path("journal.sqlite"))
    needed = {key: whole[key] for key in ("telemetry", "envoy")}
    sections = "|".join(Model.model_fields)
    seen = 0
    for page in PAGES:
        if page.name == "ARCHITECTURE.md":
            continue  # there these are packages
        for span in spans(page):
            key, _, value = span.partition(": ")
            if value and key in Model.model_fields:
                Model.model_validate(needed | yaml.safe_load(span))
                seen += 1
            if re.fullmatch(rf"(?:{sections})(?:\.[a-z_]+|\.[A-Z]+)+", span):
                assert leads_to(span.split(".")), f"{page.name}: no setting {span}"
                seen += 1
    assert seen > 40


def leads_to(names: list[str]) -> bool:
    """Whether this path names a setting; what an operator names may be anything."""
    model: Any = Model
    names = names[::-1]
    while names and model is not None:
        if (field := model.model_fields.get(names.pop())) is None:
            return False
        between, model = write_settings.model_in(field.annotation) or ("", None)
        if between == ".NAME" and names:
            names.pop()
    return True


OVERLAY = next(b for b in of("yaml") if b.page.endswith("quickstart.md") and "overlay" in b.text)


def test_the_overlay_of_the_quick_start_joins_an_envoy(tmp_path: Path) -> None:
    settings, own = tmp_path / "eigenmesh.yaml", tmp_path / "yours.yaml"
    settings.write_text(OVERLAY.text)
    checked = CliRunner().invoke(app, ["check", str(settings)])
    assert "steers route shop: old 50%, new 50%" in checked.stdout
    made = CliRunner().invoke(app, ["bootstrap", "--overlay", "-c", str(settings)])
    assert made.exit_code == 0, made.output
    own.write_text(yaml.safe_dump(stage.static_bootstrap(stage.Ports())))
    done = subprocess.run(
        [str(envoy_binary()), "--mode", "validate", "-c", own, "--config-yaml", made.stdout],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", of("yaml", "envoy.yaml"), ids=str)
def test_what_is_envoys_is_taken_by_envoy(block: Block, tmp_path: Path) -> None:
    (tmp_path / "envoy.yaml").write_text(block.text)
    done = subprocess.run(
        [str(envoy_binary()), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", of("yaml", "compose.yaml"), ids=str)
def test_what_is_composes_is_so_by_its_specification(block: Block) -> None:
    schema = ROOT / "tests/deploy/compose-spec/compose-spec.json"
    jsonschema.Draft7Validator(json.loads(schema.read_text())).validate(yaml.safe_load(block.text))


def test_titles_are_those_that_are_looked_at() -> None:
    assert {block.title for block in BLOCKS} <= {"", "envoy.yaml", "compose.yaml"}


# Code and queries


@pytest.mark.parametrize("block", of("python"), ids=str)
async def test_python_runs(
    block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as api:
        source = block.text.replace("127.0.0.1:18001", api.address)
        code = compile(source, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, {})
        if inspect.isawaitable(running):
            # It watches for good: two decisions will do.
            task = asyncio.ensure_future(running)
            for _ in range(2):
                await asyncio.sleep(0.2)
                await api.simulation.tick()
            await asyncio.sleep(0.2)
            ended = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not ended or task.exception() is None
    assert len(capsys.readouterr().out.splitlines()) >= 3


@pytest.mark.parametrize("block", of("promql"), ids=str)
def test_queries_parse(block: Block) -> None:
    if "$matchers" in block.text:
        promql.check_query(block.text.strip())
    else:
        promql_parser.parse(block.text)


# The site


class Outside(HTMLParser):
    """Collects what a page would load from elsewhere; links are for its reader to follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            named = [v for k, v in attrs if k in ("src", "href", "srcset", "data") and v]
            self.found += [v for v in named if re.match(r"(?:https?:)?//", v)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_in_the_site_and_its_navigation(site: Path) -> None:
    home = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / page.with_suffix(".html").name).exists()
        assert f'href="{page.with_suffix(".html").name}"' in home, "add it to mkdocs.yml"
    assert not [*site.rglob("*.py")]


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        outside = Outside()
        outside.feed(page.read_text())
        assert outside.found == [], page.name
        # For these the theme fetches scripts, when it is read.
        for script in ("mermaid", "iframe-worker"):
            assert script not in page.read_text(), page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text())
