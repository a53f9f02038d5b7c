"""`eigenmesh replay` on journals of a simulated mesh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from eigenmesh.cli.main import app
from eigenmesh.control.journal import Journal
from tests.control.meshes import Simulation

SETTINGS = """
telemetry: {envoy: {admin: ["http://127.0.0.1:9901"]}}
solver: classical
envoy:
  routes:
    - name: edge
      virtual_hosts:
        - name: v
          domains: ["*"]
          routes:
            - name: shop
              match: {prefix: "/"}
              route:
                weighted_clusters:
                  clusters: [{name: a, weight: 1}, {name: b, weight: 1}, {name: c, weight: 1}]
  clusters:
    - {name: a, type: STATIC, connect_timeout: 1s}
    - {name: b, type: STATIC, connect_timeout: 1s}
    - {name: c, type: STATIC, connect_timeout: 1s}
"""


@pytest.fixture(autouse=True)
def _not_nicer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs in this process, whose later tests have to be as quick as the others."""
    monkeypatch.setattr("os.nice", lambda _: 0)


@pytest.fixture
async def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    writer = Journal(path)
    simulation = Simulation(writer)
    for _ in range(12):
        await simulation.tick()
    writer.close()
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    return found.exit_code, found.stdout, found.stderr


def test_for_people(journal: Path) -> None:
    before, beside = journal.read_bytes(), sorted(journal.parent.iterdir())
    code, out, _ = run(journal, "--solver", "classical", "--set", "guard.max_step=0.4")
    assert code == 0
    assert "12 decisions made anew" in out
    assert "observations are those of what really ran" in out
    assert "\x1b" not in out
    assert journal.read_bytes() == before
    assert sorted(journal.parent.iterdir()) == beside, "nothing is left behind"


def test_for_programs(journal: Path, tmp_path: Path) -> None:
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(SETTINGS)
    changes = [
        "--set",
        "guard.max_step=0.4",
        "--set",
        "objective.scenarios=[{demand_factor: 1, weight: 1}]",
    ]
    code, out, err = run(journal, "-c", file, "-o", "json", "--decisions", 10, *changes)
    assert code == 0, err
    found = json.loads(out)
    assert [one["number"] for one in found["decisions"]] == list(range(3, 13))
    assert found["would"]["largest"] > 0.1 > found["done"]["largest"] - 1e-9
    assert found["would"]["latency"] < found["done"]["latency"]
    assert found["would"]["won"].keys() <= {"weights", "limits"}
    first = found["decisions"][0]
    assert abs(sum(first["would"]["weights"]["shop"].values()) - 1.0) < 1e-9
    assert first["done"]["action"] == "push"


def test_a_file_that_is_written_meanwhile(journal: Path) -> None:
    writer = Journal(journal)
    assert run(journal, "--solver", "classical")[0] == 0
    writer.close()


def test_circuits_may_be_asked(journal: Path) -> None:
    code, out, err = run(journal, "--solver", "variational", "--decisions", 2, "-o", "json")
    assert code == 0, err
    asked = {
        c["solver"] for one in json.loads(out)["decisions"] for c in one["would"]["candidates"]
    }
    assert asked == {"born-machine", "qaoa"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("guard.max_stp=0.3", "guard.max_stp: unknown key 'max_stp'; did you mean 'max_step'?"),
        ("guard.max_step=3", "guard.max_step: 3: input should be less than or equal to 1"),
        ("guard.max_step", "'guard.max_step': write NAME=VALUE"),
        ("guard.max_step=[", "the value is not YAML"),
        ("guard.max_step.a=1", "guard.max_step"),
        ("objective.ladder=[1, 2, 3]", "2, 4, 8"),
    ],
)
@pytest.mark.parametrize("with_file", [False, True])
def test_a_bad_change_is_one_line(
    journal: Path, tmp_path: Path, change: str, words: str, with_file: bool
) -> None:
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(SETTINGS)))
    code, out, err = run(journal, "--set", change, *(("-c", file) if with_file else ()))
    assert code == 1
    assert out == ""
    assert words in err
    assert err.startswith("eigenmesh: ")
    assert len(err.splitlines()) == 1, err


def test_the_commands_of_the_docs(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(journal.parent)
    journal.rename("eigenmesh.sqlite")
    Path("eigenmesh.yaml").write_text(SETTINGS)
    text = (Path(__file__).parents[2] / "docs" / "journal.md").read_text()
    commands = [line.split() for line in text.splitlines() if line.startswith("$ eigenmesh ")]
    assert len(commands) == 3
    for _, _, name, *arguments in commands:
        assert name == "replay"
        piped = arguments.index(">") if ">" in arguments else None
        assert run(*arguments[:piped])[0] == 0


def test_what_is_no_journal(tmp_path: Path) -> None:
    code, _, err = run(tmp_path / "none.sqlite")
    assert code == 1
    assert "there is no such file" in err
    (tmp_path / "text.sqlite").write_text("not a database" * 100)
    code, _, err = run(tmp_path / "text.sqlite")
    assert code == 1
    assert "not a database" in err
    Journal(tmp_path / "new.sqlite").close()
    code, _, err = run(tmp_path / "new.sqlite")
    assert code == 1
    assert "it has no decisions" in err
