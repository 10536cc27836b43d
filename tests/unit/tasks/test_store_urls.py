from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from simyard.errors import InvalidInput
from tasks.errors import Refused
from tasks.store import MemoryStore, SqliteStore, open_store


@pytest.mark.parametrize("form", ["{}", "sqlite://{}", "file://{}"])
def test_a_path_or_its_url_opens_a_file(tmp_path: Path, form: str) -> None:
    store = open_store(form.format(tmp_path / "x.db"))
    store.close()
    assert isinstance(store, SqliteStore)
    assert (tmp_path / "x.db").is_file()


def test_a_url_is_unquoted(tmp_path: Path) -> None:
    open_store((tmp_path / "a b#é.db").as_uri()).close()
    assert (tmp_path / "a b#é.db").is_file()


def test_memory_is_a_store_of_its_own_each_time() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    assert open_store("memory:") is not open_store("memory:")


@pytest.mark.parametrize("url", ["postgres://user:secret@host/db", "sqlite://host/x.db", "sqlite:", "s3://bucket"])
def test_any_other_url_is_refused_without_showing_what_it_holds(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_the_store_needs_neither_ray_nor_arrow() -> None:
    code = "import sys, tasks.store; sys.exit(bool({'ray', 'pyarrow', 'obstore'} & set(sys.modules)))"
    env = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=60).returncode == 0


@pytest.mark.parametrize("duplicate", [True, False])
def test_a_refusal_says_the_same_in_another_process(duplicate: bool) -> None:
    copy = pickle.loads(pickle.dumps(Refused("why", duplicate=duplicate)))
    assert (copy.reason, copy.duplicate) == ("why", duplicate)
