"""Every corpus file is a valid Envoy file; what it is compared against later starts from that."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eigenmesh.demo.processes import envoy_binary

from .corpus import FILES, NAMES, CorpusError, Probe, fill


def validate(text: str, path: Path) -> str:
    """What `envoy --mode validate` complains about; empty when the file is valid."""
    path.write_text(text)
    done = subprocess.run(
        [str(envoy_binary()), "--mode", "validate", "-c", str(path), "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_envoy_accepts_every_file(certificates: Path, tmp_path: Path) -> None:
    # About 0.1 s each, nearly all of it Envoy's start: two at a time suit a small machine.
    def complaint(name: str) -> str:
        scratch = tmp_path / name
        scratch.mkdir()
        return validate(fill(name, certificates, scratch).text, scratch / "envoy.yaml")

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(NAMES, pool.map(complaint, NAMES), strict=True))
    assert not {name: text for name, text in found.items() if text}


def test_a_broken_file_would_be_noticed(certificates: Path, tmp_path: Path) -> None:
    text = fill("mirror", certificates, tmp_path).text
    assert validate(text.replace("cluster: trial", "cluster: gone"), tmp_path / "envoy.yaml")


def test_the_corpus_is_as_wide_as_it_says() -> None:
    assert len(NAMES) >= 16
    assert {p.stem for p in FILES.glob("*.yaml")} == {*NAMES, *(f"{n}.probes" for n in NAMES)}
    for name in NAMES:
        text = (FILES / f"{name}.yaml").read_text()
        assert 40 <= text.count("\n") <= 200, name
        assert re.search("weighted_?clusters", text, re.IGNORECASE), name


def test_a_misspelt_probe_is_refused() -> None:
    with pytest.raises(CorpusError, match="unknown key 'statsu'"):
        Probe.parse({"name": "x", "port": "http", "upstreams": [], "statsu": 200})
    with pytest.raises(CorpusError, match="which upstreams"):
        Probe.parse({"name": "x", "port": "http"})
