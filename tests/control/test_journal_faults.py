"""Files that are damaged, full, read-only or in use: the right plan, or an error that says what to
do; never another plan."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from eigenmesh.control.journal import Journal, JournalError, JournalWriteError, Resumed
from eigenmesh.demo import stage
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import BreakerLimits, Decision, Plan
from eigenmesh.xds.documents import dump_yaml

from .test_journal import ENTRY, decision

HERE = Path(__file__).parent
SRC = HERE.parent.parent / "src"
MESH = "mesh-1"


def plan(share: float, limit: int = 40) -> Plan:
    """One that takes some pages: half of its clusters come from overflow pages."""
    routes = {f"r{n}": {f"a{n}": share, f"b{n}": 1.0 - share} for n in range(100)}
    return Plan(routes, {f"a{n}": BreakerLimits.around(limit + n) for n in range(100)})


IN_FORCE, GOOD, LATER = plan(0.7), plan(0.6), plan(0.2)
CONTROLS = Controls(Mode.APPROVE, pins={"r1": {"a1": 0.7}}).to_dict()
ESTIMATORS = [{"a": {"t0": 0.02 + n}} for n in range(12)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What a journal leaves: closed, and killed with its last decisions in the log."""
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder / "j.sqlite")
    journal.put_originals(plan(0.5), MESH)
    for n in range(10):
        journal.put_in_force(plan(0.05 * n), MESH, good=plan(0.01 * n))
        journal.record(decision(n), ESTIMATORS[n])
    journal.put_controls(CONTROLS, ENTRY)
    journal.set_pending(9)
    journal.put_in_force(IN_FORCE, MESH, good=GOOD)
    for n in (10, 11):
        journal.record(decision(n), ESTIMATORS[n])

    def left() -> dict[str, bytes]:
        ends = ("", "-wal")
        paths = {end: folder / f"j.sqlite{end}" for end in ends}
        return {end: path.read_bytes() for end, path in paths.items() if path.exists()}

    killed = left()
    journal.close()
    return {"closed": left(), "killed": killed}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for old in folder.iterdir():
        old.unlink()
    for end, data in files.items():
        (folder / f"j.sqlite{end}").write_bytes(data)
    return folder / "j.sqlite"


def check(path: Path) -> None:
    """Right, or an error; and so it is after the next push."""
    try:
        journal = Journal(path)
    except JournalError:
        return
    in_force = IN_FORCE
    try:
        is_right(journal.resume(MESH), IN_FORCE, GOOD)
        try:
            journal.record(decision(100), ESTIMATORS[0])
            journal.put_in_force(LATER, MESH, good=IN_FORCE)
            in_force = LATER
        except JournalWriteError:
            return  # nothing is pushed then
    except JournalError:
        return
    finally:
        journal.close()
    try:
        journal = Journal(path)
    except JournalError:
        return
    try:
        is_right(journal.resume(MESH), in_force, IN_FORCE)
        originals = journal.originals()
        assert originals == plan(0.5)
        kept = journal.decision(9)
        assert kept is None or kept == decision(9)
    except JournalError:
        pass
    finally:
        journal.close()


def is_right(found: Resumed, in_force: Plan, good: Plan) -> None:
    assert (found.plan, found.good) == (in_force, good)
    assert (found.controls, found.pending) == (CONTROLS, 9)
    # Of what needs not be the latest: one that was.
    assert not found.estimator or found.estimator in ESTIMATORS


STATES = st.sampled_from(["closed", "killed"])
PART, BIT = st.floats(0, 1, exclude_max=True), st.integers(0, 7)


def test_the_undamaged_files_are_resumed(files: dict[str, dict[str, bytes]], folder: Path) -> None:
    assert "-wal" in files["killed"]
    assert "-wal" not in files["closed"]
    for state in files.values():
        journal = Journal(put(folder, state))
        is_right(journal.resume(MESH), IN_FORCE, GOOD)
        assert journal.resume(MESH).last_number == 11
        journal.close()
        check(put(folder, state))


@examples(max_examples=200)
@given(
    state=STATES,
    flips=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8
    ),
    log=st.booleans(),
)
def test_flipped_bits_never_give_another_plan(
    files: dict[str, dict[str, bytes]],
    folder: Path,
    state: str,
    log: bool,
    flips: list[tuple[float, int]],
) -> None:
    damaged = dict(files[state])
    end = "-wal" if log and "-wal" in damaged else ""
    data = bytearray(damaged[end])
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    damaged[end] = bytes(data)
    check(put(folder, damaged))


@examples(max_examples=100)
@given(bit=st.integers(0, 100 * 8 - 1))
def test_a_flipped_bit_in_the_header(
    files: dict[str, dict[str, bytes]], folder: Path, bit: int
) -> None:
    data = bytearray(files["closed"][""])
    data[bit // 8] ^= 1 << bit % 8
    check(put(folder, {"": bytes(data)}))


@examples(max_examples=100)
@given(state=STATES, end=st.sampled_from(["", "-wal"]), part=PART)
def test_a_file_cut_short(
    files: dict[str, dict[str, bytes]], folder: Path, state: str, end: str, part: float
) -> None:
    damaged = dict(files[state])
    if end in damaged:
        damaged[end] = damaged[end][: 1 + int(part * len(damaged[end]))]
    check(put(folder, damaged))


@examples(max_examples=50)
@given(st.binary(min_size=1, max_size=5000))
def test_a_file_of_something_else(folder: Path, data: bytes) -> None:
    path = put(folder, {"": data})
    with pytest.raises(JournalError, match="move the file away"):
        Journal(path)
    assert path.read_bytes() == data


def test_an_empty_file_is_a_first_use(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").touch()
    journal = Journal(tmp_path / "j.sqlite")
    assert journal.resume(MESH) == Resumed()
    journal.close()


def child(code: str, path: Path, *start: str, **more: object) -> str:
    """What the code prints; `path` is its, and the journal's classes."""
    head = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from eigenmesh.control.journal import *\n"
        "from eigenmesh.mesh import Plan\n"
        "from tests.control.test_journal import PLAN, decision\n"
        "path = Path(sys.argv[1])\n"
    )
    done = subprocess.run(
        [*start, sys.executable, "-c", head + code, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=HERE.parent.parent,
        **more,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    out: str = done.stdout
    return out


AS_NOBODY = """
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)  # root may write anything
"""
OPEN = """
try:
    Journal(path)
except JournalError as error:
    print(error)
print(Journal.reading(path).resume("m").plan == PLAN)
"""


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    """A journal in a folder that anybody may enter."""
    folder = Path("/tmp") / f"eigenmesh-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    folder.chmod(0o755)
    journal = Journal(folder / "j.sqlite")
    journal.put_in_force(decision(1).plan, "m")
    journal.close()
    yield folder / "j.sqlite"
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["file", "folder", "lock"])
def test_what_is_read_only_is_refused_and_can_be_read(written: Path, what: str) -> None:
    lock = Path(f"{written}.lock")
    for path in (written, lock):
        path.chmod(0o666)
    written.parent.chmod(0o777)
    {"file": written, "folder": written.parent, "lock": lock}[what].chmod(
        0o555 if what == "folder" else 0o444
    )
    if what == "folder":
        lock.unlink()
    refused, right = child(AS_NOBODY + OPEN, written).splitlines()
    assert refused.startswith(f"journal: {written}: ")
    assert "can be written" in refused or "check the file's permissions" in refused
    assert right == "True"


FILL = """
journal = Journal(path)
journal.put_in_force(PLAN, "m")
last = None
try:
    for number in range(1, 10_000):
        journal.record(decision(number))
except JournalWriteError as error:
    print(error)
try:
    for number in range(1, 10_000):
        grown = Plan({"r": {f"c{n}": 1.0 / number for n in range(number)}}, {})
        journal.put_in_force(grown, "m")
        last = grown
except JournalWriteError as error:
    print(error)
print(journal.resume("m").plan == (last or PLAN))
journal.close()
print(Journal.reading(path).resume("m").plan == (last or PLAN))
"""
ROOM_AGAIN = """
(path.parent / "big").unlink()
journal = Journal(path)
journal.put_in_force(PLAN, "m")
journal.record(decision(20_000))
print(journal.resume("m").plan == PLAN)
"""


def test_a_full_file_system(tmp_path: Path) -> None:
    """A real one, of two megabytes, in a mount namespace that ends with the process."""
    space = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*space, "true"], check=False).returncode:
        pytest.skip("this user may mount nothing, not even in a namespace of its own")
    mount = f"mount -t tmpfs -o size=2m none {tmp_path} && "
    mount += f'head -c 1500000 /dev/zero > {tmp_path}/big && exec "$@"'
    start = [*space, "sh", "-c", mount, "sh"]
    lines = child(FILL + ROOM_AGAIN, tmp_path / "j.sqlite", *start).splitlines()
    assert len(lines) == 5
    assert all("free disk space" in line for line in lines[:2])
    assert lines[2:] == ["True", "True", "True"]


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    lines = child(limit + FILL, tmp_path / "j.sqlite").splitlines()
    assert len(lines) == 4
    assert all("free disk space" in line for line in lines[:2])
    assert lines[2:] == ["True", "True"]


def test_one_that_is_in_use_is_refused_and_free_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    code = "import sys, time; from eigenmesh.control.journal import Journal\n"
    code += "journal = Journal(sys.argv[1]); print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(JournalError, match=rf"in use by another.*process {holder.pid}\b"):
            Journal(path)
        assert Journal.reading(path).page() == []
        holder.send_signal(signal.SIGKILL)
    Journal(path).close()


def test_run_says_what_is_wrong_and_how_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(dump_yaml(stage.settings(stage.Ports(), path)))
    journal = Journal(path)
    run = [sys.executable, "-m", "eigenmesh", "run", "-c", str(file)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    journal.close()
    assert done.returncode == 1
    assert f"in use by another Eigenmesh (process {os.getpid()}); stop that one" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_docs_name_tests_that_there_are() -> None:
    text = (HERE.parent.parent / "docs" / "journal.md").read_text()
    named = set(re.findall(r"`(?:[\w/.]+::)?(test_\w+)`", text))
    files = ("test_journal", "test_journal_faults", "test_journal_schema", "test_replay")
    defined = "".join((HERE / f"{name}.py").read_text() for name in files)
    assert len(named) > 12
    assert named == {name for name in named if f"def {name}(" in defined}


def test_readers_see_what_is_written_meanwhile(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    reader = Journal.reading(tmp_path / "j.sqlite")
    for number in (1, 2):
        made: Decision = replace(decision(number), why=f"why {number}")
        journal.record(made)
        assert reader.decision(number) == made
    with pytest.raises(JournalWriteError, match="readonly"):
        reader.record(decision(3))
    reader.close()
    journal.close()
