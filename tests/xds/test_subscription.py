"""The subscription rules, each from the section of xds_protocol.rst that is named."""

from __future__ import annotations

import pytest

from eigenmesh.xds.subscription import Subscription

Step = tuple[list[str], bool, set[str]]


# "How the client specifies what resources to return": the SotW example, line by line.
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                ([], True, set()),
                (["*", "A"], True, {"A"}),
                (["A"], False, {"A"}),
                ([], False, set()),
            ],
            id="the example",
        ),
        pytest.param([([], True, set()), ([], True, set())], id="legacy stays legacy"),
        pytest.param([(["A"], False, {"A"}), ([], False, set())], id="never a wildcard"),
        pytest.param([(["A"], False, {"A"}), (["*"], True, set())], id="a wildcard later"),
    ],
)
def test_sotw_names_are_all_that_is_wanted(steps: list[Step]) -> None:
    subscription = Subscription(by_default=True)
    for names, wildcard, left in steps:
        subscription.state(names)
        assert (subscription.wildcard, set(subscription.names)) == (wildcard, left)


# The same section: the incremental example, line by line, and variations.
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                ([], [], True, set()),
                (["A"], [], True, {"A"}),
                ([], ["*"], False, {"A"}),
                ([], ["A"], False, set()),
                ([], [], False, set()),
            ],
            id="the example",
        ),
        pytest.param([(["*"], [], True, set()), ([], ["*"], False, set())], id="explicit"),
        pytest.param([(["A"], ["B"], False, {"A"})], id="unknown names are ignored"),
        pytest.param([([], ["A"], False, set())], id="unsubscribing first is no wildcard"),
        pytest.param(
            [(["A"], [], False, {"A"}), ([], [], False, {"A"})], id="an ACK changes nothing"
        ),
    ],
)
def test_delta_names_add_and_remove(
    steps: list[tuple[list[str], list[str], bool, set[str]]],
) -> None:
    subscription = Subscription(by_default=True)
    for more, less, wildcard, left in steps:
        subscription.delta(more, less)
        assert (subscription.wildcard, set(subscription.names)) == (wildcard, left)


def test_an_empty_request_is_a_wildcard_for_listeners_and_clusters_only() -> None:
    for change in ("state", "delta"):
        subscription = Subscription(by_default=False)
        arguments: tuple[list[str], ...] = ([],) if change == "state" else ([], [])
        getattr(subscription, change)(*arguments)
        assert not subscription.wildcard


def test_what_is_named_again_is_owed_again_in_delta_and_not_in_sotw() -> None:
    """ "Subscribing to Resources": the client may have forgotten it. A SotW request names
    everything every time, so only what is new in it is asked for."""
    delta, sotw = Subscription(by_default=True), Subscription(by_default=True)
    delta.delta(["A"], [])
    assert delta.delta(["A"], []).named == {"A"}
    sotw.state(["A"])
    assert sotw.state(["A"]).named == set()
    assert sotw.state(["A", "B"]).named == {"B"}


def test_giving_up_a_name_under_a_wildcard_is_answered() -> None:
    """ "Unsubscribing from Resources": the client cannot know whether it remains covered."""
    subscription = Subscription(by_default=True)
    subscription.delta(["*", "A"], [])
    change = subscription.delta([], ["A", "phantom"])
    assert change.named == {"A"}
    assert not change.narrowed


def test_repeating_an_explicit_wildcard_asks_for_everything_again() -> None:
    subscription = Subscription(by_default=True)
    subscription.delta([], [])
    # Spelling out the legacy wildcard only continues it.
    assert not subscription.delta(["*"], []).everything
    assert subscription.delta(["*"], []).everything


def test_leaving_narrows() -> None:
    subscription = Subscription(by_default=True)
    subscription.state(["A", "B"])
    assert subscription.state(["A"]).narrowed
    assert not subscription.state(["A", "C"]).narrowed
    assert subscription.state(["*"]).widened
    assert subscription.state(["A"]).narrowed, "the wildcard is gone"
