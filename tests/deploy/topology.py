"""The topology of docker-compose.yml without containers: the same commands, files and ports.

What an engine does is done by rewriting: every service has a loopback address of its own, which
stands for its name, for 0.0.0.0 and for 127.0.0.1; its mounts are copied into a folder of its own,
where all of its absolute paths lead. Nothing that is wrong is mended: a name that is no service
does not resolve, a path that is not mounted is not there, a flag reaches the program as it is
written, health checks are run as they are.
"""

from __future__ import annotations

import graphlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from eigenmesh.demo.processes import ChildProcess, ProcessError, envoy_binary

ROOT = Path(__file__).parents[2]

_TEXT = {".yaml", ".yml"}
_PLACES = ("/etc/", "/var/", "/run/", "/tmp/")
"""Where a value in a file is a path, and not that of a request."""

_OF_ENVOY = {"envoy", "node"}


class ComposeError(Exception):
    """The file says something that cannot work."""


def load_compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def interpolate(text: str) -> str:
    """`${NAME:-default}` with no variable set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def volumes(service: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(source, path inside, options) of the short form."""
    found = []
    for mount in service.get("volumes", []):
        source, inside, *options = interpolate(mount).split(":")
        found.append((source, inside, options[0] if options else "rw"))
    return found


def image_command() -> tuple[list[str], list[str]]:
    """ENTRYPOINT and CMD of our own image."""
    text = (ROOT / "deploy/Dockerfile").read_text()
    entry, command = (
        json.loads(re.findall(rf"^{word} (\[.+\])$", text, re.M)[-1])
        for word in ("ENTRYPOINT", "CMD")
    )
    return entry, command


class Composed:
    """The services of one profile. `with` ends them; `up` starts them in order.

    files: in place of what is mounted from these paths. patience: seconds until a service must be
    healthy.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        folder: Path,
        *,
        profile: str = "demo",
        files: Mapping[str, str] | None = None,
        patience: float = 40.0,
    ) -> None:
        self.services: dict[str, Any] = {
            name: service
            for name, service in document["services"].items()
            if profile in service.get("profiles", [profile])
        }
        self._volumes = document.get("volumes", {})
        self._folder = folder
        self._files = files or {}
        self.patience = patience
        self._running: dict[str, ChildProcess] = {}
        # Another subnet in every run, so that two of them do not meet.
        net = (
            f"127.{random.SystemRandom().randrange(1, 255)}.{random.SystemRandom().randrange(255)}"
        )
        self.addresses = {
            name: f"{net}.{9 if service.get('network_mode') == 'host' else 10 + number}"
            for number, (name, service) in enumerate(self.services.items())
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running.values()):
            process.terminate()
        for process in self._running.values():
            process.stop()

    def order(self) -> list[str]:
        """Services after those that they depend on. Raises ComposeError for unknown ones."""
        graph: dict[str, list[str]] = {}
        for name, service in self.services.items():
            wanted = service.get("depends_on", {})
            graph[name] = list(wanted)
            for other, how in wanted.items():
                if other not in self.services:
                    raise ComposeError(f"{name} depends on {other}, which is not there")
                if how["condition"] == "service_healthy" and not self._check(other):
                    raise ComposeError(f"{name} waits for {other}, which has no health check")
        return list(graphlib.TopologicalSorter(graph).static_order())

    def up(self, without: Sequence[str] = ()) -> None:
        """Starts the services, each when what it waits for is healthy. Raises ComposeError or
        ProcessError when one cannot be."""
        for name in self.order():
            if name not in without:
                self.start(name)

    def start(self, name: str) -> None:
        """Starts one and waits until its health check passes."""
        root = self._mounted(name)
        process = ChildProcess(
            name,
            self.command(name),
            log=self._folder / f"{name}.log",
            env={k: str(v) for k, v in self.services[name].get("environment", {}).items()},
            cwd=root,
        )
        self._running[name] = process
        process.start()
        if not self._check(name):
            return
        end = time.monotonic() + self.patience
        while not self.healthy(name):
            if time.monotonic() > end:
                raise ComposeError(f"{name} did not get healthy:\n{process.log_tail()}")
            time.sleep(0.2)

    def healthy(self, name: str) -> bool:
        """Whether its health check passes now. Raises ProcessError if it has ended."""
        self._running[name].is_ready()
        check = self._program(name, self._check(name)[1:])
        done = subprocess.run(check, capture_output=True, timeout=10, check=False)
        return done.returncode == 0

    def command(self, name: str) -> list[str]:
        """What its container would run, as it is run here: by root without root's powers, if the
        service drops them."""
        service = self.services[name]
        image = service["image"].partition(":")[0]
        known: dict[str, tuple[list[str], list[str]]] = {
            "envoyproxy/envoy": (["envoy"], []),
            "prom/prometheus": (["prometheus"], []),
        }
        entry, command = image_command() if image == "eigenmesh" else known[image]
        if "entrypoint" in service:
            entry, command = service["entrypoint"], []  # the image's CMD goes with it
        words = self._program(name, [*entry, *service.get("command", command)])
        if os.geteuid() == 0 and service["cap_drop"] == ["ALL"]:
            return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *words]
        return words

    def log(self, name: str) -> str:
        return self._running[name].log_path.read_text(errors="replace")

    def process(self, name: str) -> ChildProcess:
        return self._running[name]

    def written(self, name: str) -> set[str]:
        """Files that it has open for writing, its log apart."""
        found = set()
        folder = Path(f"/proc/{self._running[name].pid}/fd")
        for entry in folder.iterdir():
            flags = re.findall(
                r"^flags:\s+(\d+)$", (folder.parent / "fdinfo" / entry.name).read_text(), re.M
            )
            target = entry.readlink()
            if int(flags[0], 8) & 3 and target.is_absolute() and target.is_file():
                found.add(str(target))
        return found - {str(self._running[name].log_path)}

    def inside(self, path: str) -> bool:
        """Whether the file is in one of the services' own folders."""
        return path.startswith(str(self._folder))

    def volume(self, name: str) -> Path:
        return self._folder / "volumes" / name

    def _check(self, name: str) -> list[str]:
        check = self.services[name].get("healthcheck", {})
        if check.get("disable") or not check:
            return []
        test: list[str] = check["test"]
        if test[0] != "CMD":
            raise ComposeError(f"{name}: write the health check as CMD with a list")
        return test

    def _mounted(self, name: str) -> Path:
        """The service's folder with its mounts in it."""
        root = self._folder / name
        for source, inside, _ in volumes(self.services[name]):
            place = root / inside.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if not source.startswith((".", "/")):
                if source not in self._volumes:
                    raise ComposeError(f"{name}: volume {source} is not declared")
                self.volume(source).mkdir(parents=True, exist_ok=True)
                place.symlink_to(self.volume(source))
            elif not (ROOT / source).exists():
                raise ComposeError(f"{name}: {source} does not exist")
            elif (ROOT / source).is_dir():
                for file in sorted((ROOT / source).rglob("*")):
                    if file.is_file():
                        self._copy(name, file, place / file.relative_to(ROOT / source))
            else:
                self._copy(name, ROOT / source, place)
        root.mkdir(parents=True, exist_ok=True)
        return root

    def _copy(self, name: str, source: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        text = self._files.get(str(source.relative_to(ROOT)), source.read_text())
        if source.suffix in _TEXT:
            text = yaml.safe_dump(self._rewritten(name, yaml.safe_load(text)), sort_keys=False)
        place.write_text(text)

    def _rewritten(self, name: str, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            here = "envoy" in self.services
            return {
                # What Eigenmesh's settings say there is read by Envoy.
                k: self._rewritten("envoy" if k in _OF_ENVOY and here else name, v, k)
                for k, v in value.items()
            }
        if isinstance(value, list):
            return [self._rewritten(name, item, key) for item in value]
        if not isinstance(value, str):
            return value
        if key == "address":
            value = self.addresses.get(value, value)
        value = self._own(name, value)
        return self._path(name, value) if value.startswith(_PLACES) else value

    def _own(self, name: str, text: str) -> str:
        """Text with addresses in place of names; `NAME:PORT` only, since names are also words."""
        for service, address in self.addresses.items():
            text = re.sub(rf"(?<![\w.-]){service}:(?=\d)", f"{address}:", text)
        return re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)\b", self.addresses[name], text)

    def _path(self, name: str, path: str) -> str:
        return f"{self._folder / name}{path}"

    def _word(self, name: str, word: str) -> str:
        """A word of a command as the service sees it."""
        path = re.fullmatch(r"(--[\w.-]+=)?(/[\w./-]+)", word)
        if path:
            return (path[1] or "") + self._path(name, path[2])
        return self.addresses.get(word, self._own(name, word))

    def _program(self, name: str, words: list[str]) -> list[str]:
        program, rest = words[0], [self._word(name, word) for word in words[1:]]
        if program == "python":
            return [sys.executable, *rest]
        if program == "eigenmesh":
            return [sys.executable, "-m", "eigenmesh", *rest]
        if program == "envoy":
            version = self.services[name]["image"].partition(":v")[2]
            return [str(envoy_binary(version)), *rest]
        found = shutil.which(program)
        if found is None:
            raise ProcessError(f"{name}: {program} is needed on the PATH")
        return [found, *rest]
