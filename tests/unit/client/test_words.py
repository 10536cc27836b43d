"""What all words share."""

from __future__ import annotations

import pickle

from pydantic import Field

from simyard.words import Word


class Older(Word):
    size: int


class Newer(Word):
    size: int
    note: str = ""
    parts: tuple[int, ...] = Field(default=(), max_length=3)


def test_what_an_earlier_release_has_pickled_has_the_defaults_of_the_fields_that_came_later() -> None:
    # The class of a pickled object is found by its name, which the two releases share.
    sent = pickle.dumps(Older(size=3)).replace(b"Older", b"Newer")
    found = pickle.loads(sent)
    assert found == Newer(size=3)
    assert (found.note, found.parts, found.model_fields_set) == ("", (), {"size"})


def test_what_a_later_release_has_pickled_is_read_by_an_earlier_one() -> None:
    sent = pickle.dumps(Newer(size=3, note="n")).replace(b"Newer", b"Older")
    assert pickle.loads(sent).size == 3
