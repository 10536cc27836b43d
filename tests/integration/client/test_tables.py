from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import os
import httpx, pyarrow as pa, pyarrow.parquet as pq
from simyard.handle import Task
from simyard.task import Task as TaskInfo
from storage.manifest import commit_manifest, read_manifest
from storage.memory import MemoryStore
from storage.tables import read_table, read_table_bytes, write_table
from tests.unit.client.wire import connection
from tests.unit.tasks.samples import NOW, draft
from tasks.lifecycle import new_record

def threads():
    return len(os.listdir("/proc/self/task"))

table = pa.table({f"c{i}": [1.0, 2.0] for i in range(20)})
store, place = MemoryStore(), {"simulator": "swmm", "project": "default", "task": "t0000000000ab"}
write_table(store, "summary", table, **place)
data = read_table_bytes(store, "summary", **place)
info = new_record(draft(), 1, NOW).record.task
task = Task(connection(lambda request: httpx.Response(200, content=data)), info)
commit_manifest(store, "t0000000000ab", 1, [])
before = threads()
assert task.table("summary").equals(table)
assert threads() == before, "Task.table"
assert read_table(store, "summary", **place).equals(table)
assert threads() == before, "read_table"
assert read_manifest(store, "t0000000000ab", 1) == []
assert threads() == before, "read_manifest"
"""


def test_reading_a_table_leaves_no_thread_that_could_abort_a_program_at_its_end() -> None:
    # A thread of Arrow's that lets go of Python's bytes while the interpreter ends calls std::terminate.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
