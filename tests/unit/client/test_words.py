"""What all words share."""

from __future__ import annotations

import pickle

import pytest
from pydantic import Field, ValidationError

from simyard.words import Word, checked_before


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


def test_a_word_of_values_that_were_checked_before_is_like_one_that_is_validated() -> None:
    validated = Newer(size=3, note="n", parts=(1, 2))
    made = checked_before(Newer, {"size": 3, "note": "n", "parts": (1, 2)})
    assert (made, hash(made), repr(made)) == (validated, hash(validated), repr(validated))
    assert made.model_fields_set == validated.model_fields_set
    assert made.model_dump_json() == validated.model_dump_json()
    assert pickle.loads(pickle.dumps(made)) == validated
    assert made.model_copy(update={"size": 4}) == validated.model_copy(update={"size": 4})
    with pytest.raises(ValidationError, match="frozen"):
        made.size = 4


def test_words_are_the_same_when_their_kind_and_their_fields_are() -> None:
    one = Newer(size=3)
    assert one == one.model_copy()
    assert one == Newer(size=3)
    assert len({one, Newer(size=3), Newer(size=4)}) == 2
    assert one not in {Newer(size=4), Older(size=3)}
