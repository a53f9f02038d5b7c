"""`telemetry` in the settings: one line for every mistake, and never a secret in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eigenmesh.control.settings import Settings, SettingsError, parse_document
from eigenmesh.demo import stage


def parse(tmp_path: Path, **prometheus: Any) -> Settings:
    document = stage.settings(stage.Ports(), tmp_path / "j.sqlite")
    document["telemetry"] = {"prometheus": {"url": "http://127.0.0.1:9090", **prometheus}}
    return parse_document(document, "x.yaml")


def complaint(tmp_path: Path, **prometheus: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(tmp_path, **prometheus)
    [line] = caught.value.lines
    assert line.startswith("x.yaml: telemetry.prometheus")
    return line.removeprefix("x.yaml: telemetry.prometheus")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{job=x}[$window]", "column 7: unexpected identifier 'x'"),
        ('{$matchers,job="x"[$window]', "column 19: unexpected character inside braces"),
        ("{$matchers}[$window", "column 12: unexpected end of input inside brackets"),
        ("rate({$matchers}[$window])", "gives no samples over a range"),
        ("{$matchers}", "has no $window"),
        ("{$matchers}[6s]", "has no $window"),
    ],
)
def test_a_query_is_parsed_and_the_place_is_named(
    tmp_path: Path, query: str, expected: str
) -> None:
    assert complaint(tmp_path, query=query).startswith(f".query: {query!r}: {expected}")


@pytest.mark.parametrize(
    "query",
    [
        '{$matchers,shop="x"}[$window]',
        '(label_replace({$matchers}, "envoy_cluster_name", "$1", "c", "(.*)")[$window:1s])',
    ],
)
def test_queries_of_ones_own(tmp_path: Path, query: str) -> None:
    prometheus = parse(tmp_path, query=query).model.telemetry.prometheus
    assert prometheus is not None
    assert prometheus.query == query


def test_a_selector_is_parsed(tmp_path: Path) -> None:
    expected = ".selector: 'job=envoy': column 9: unexpected identifier 'envoy'"
    assert complaint(tmp_path, selector="job=envoy").startswith(expected)
    parse(tmp_path, selector='job="envoy", env=~"prod|stage"')
    parse(tmp_path, selector='{job="envoy"}')


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"bearer": "hunter2"}, ".bearer: write {file: PATH} or {env: NAME}"),
        ({"bearer": ["hunter2"]}, ".bearer: write {file: PATH} or {env: NAME}"),
        ({"bearer": {"token": "hunter2"}}, ".bearer.token: unknown key 'token'"),
        ({"basic": "me:hunter2"}, ".basic: write {username: NAME, password: {file: PATH}}"),
        ({"basic": {"username": "me", "password": "hunter2"}}, ".basic.password: write {file"),
        ({"url": "http://me:hunter2@prometheus:9090"}, ": url: write http://host:port"),
        ({"headers": {"authorization": "Bearer hunter2"}}, ": headers.authorization: use bearer"),
        ({"headers": {"X-Key": "hunter2\n"}}, ": headers.X-Key: write one line"),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(
    tmp_path: Path, more: dict[str, Any], expected: str
) -> None:
    line = complaint(tmp_path, **more)
    assert line.startswith(expected)
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"url": ["https://a", "b:9090"]}, ": url: write http://host:port"),
        ({"url": []}, ".url: list should have at least 1 item"),
        ({"bearer": {"env": "NO_SUCH_VARIABLE"}}, ".bearer.env: NO_SUCH_VARIABLE: is empty or"),
        ({"bearer": {"file": "/none"}}, ".bearer.file: /none: cannot be read: No such file"),
        ({"bearer": {"file": "/none", "env": "X"}}, ".bearer: give exactly one of file and env"),
        ({"tls": {"ca": "/none"}}, ": tls: every url must begin with https://"),
        ({"tls": {"ca": "/none"}, "url": "https://p"}, ".tls.ca: /none: cannot be used: No such"),
        ({"tls": {"certificate": "/c"}, "url": "https://p"}, ".tls: give both of certificate"),
        ({"timeout": "0s"}, ".timeout: '0s': input should be greater than 0"),
    ],
)
def test_mistakes(tmp_path: Path, more: dict[str, Any], expected: str) -> None:
    line = complaint(tmp_path, **more)
    assert line.startswith(expected) or line.lower().startswith(expected)


def test_both_kinds_of_credentials_are_one_too_many(tmp_path: Path) -> None:
    own = {"env": "PATH"}
    more = {"bearer": own, "basic": {"username": "me", "password": own}}
    assert complaint(tmp_path, **more) == ": give one of bearer and basic"


def test_credentials_in_plain_text_over_a_network_are_warned_about(tmp_path: Path) -> None:
    own = {"env": "PATH"}
    exposed = parse(tmp_path, bearer=own, url=["https://p", "http://q:9090"])
    [warning] = exposed.warnings
    assert warning == "telemetry.prometheus.url: http://q:9090: credentials go there in plain text"
    assert parse(tmp_path, bearer=own, url=["https://p", "http://localhost:9090"]).warnings == ()
    assert parse(tmp_path, url="http://q:9090").warnings == ()
