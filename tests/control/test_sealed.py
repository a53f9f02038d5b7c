"""What comes out of a blob is what went in, at the same place; anything else is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.control.journal.sealed import seal, unseal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(place=st.text(), value=VALUES)
def test_what_went_in_comes_out(place: str, value: object) -> None:
    assert unseal(place, seal(place, value)) == value


@given(place=st.text(), other=st.text(), value=VALUES)
def test_a_blob_of_another_place_is_refused(place: str, other: str, value: object) -> None:
    if place != other:
        with pytest.raises(ValueError, match="checksum"):
            unseal(other, seal(place, value))


@given(value=VALUES, data=st.data())
def test_a_changed_blob_is_refused(value: object, data: st.DataObject) -> None:
    blob = bytearray(seal("x", value))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="checksum"):
        unseal("x", bytes(blob))


@pytest.mark.parametrize("blob", [None, "", b"", "text", 7, b"short"])
def test_what_is_no_blob(blob: object) -> None:
    with pytest.raises(ValueError, match="checksum"):
        unseal("x", blob)
