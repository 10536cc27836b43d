"""What the operator sets: read once from `SIMYARD_*` variables; unknown ones are refused."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import platformdirs
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from simyard.errors import InvalidInput
from simyard.resources import GIB, Size

PREFIX = "SIMYARD_"
KEPT_INPUTS = "inputs"
# Read by the client, not by the server; they may stand in the same environment.
_CLIENT = {"SIMYARD_URL", "SIMYARD_KEY", "SIMYARD_CONFIG"}
# Marks that Simyard itself puts on the processes it starts.
_MARKS = {"SIMYARD_SERVER", "SIMYARD_BOX", "SIMYARD_FORK_SERVER"}


class Settings(BaseSettings):
    """The server's settings."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path("simyard"))
    """Folder for the database, the embedded storage, environments and scratch."""
    store: SecretStr | None = None
    """URL of a PostgreSQL database for the durable queue; by default a file in `data_dir`."""
    storage: str | None = None
    """URI of the storage; by default a folder below `data_dir`."""
    host: str = "127.0.0.1"
    """Address on which the HTTP endpoint listens; 0.0.0.0 for all of this machine's."""
    cluster_file: Path | None = None
    """Ray's autoscaler file, where this machine is the head of a cluster; by default tasks run on this machine."""
    workers: int = Field(default=1, ge=1)
    """As how many machines the server's own shows; they share its cores and its memory evenly."""
    lease_seconds: float = Field(default=30.0, ge=1)
    """How long an attempt may go without renewing its lease before it counts as lost."""
    warm_seconds: float = Field(default=60.0, ge=0)
    """How long an idle Simulator actor is kept for the next task."""
    keep_inputs: Size = 50 * GIB
    """Bytes of input files that each machine keeps for the next tasks, such as `200GiB`; 0 keeps none."""

    @property
    def storage_uri(self) -> str:
        """The URI of the storage."""
        return self.storage or (self.data_dir / "storage").resolve().as_uri()

    @property
    def database(self) -> Path:
        """The file of the durable store, where `store` names none."""
        return self.data_dir / "simyard.db"

    @property
    def task_store(self) -> Path | str:
        """Where the durable store is: a file, or a URL that may hold a password and is shown to nobody."""
        return self.database if self.store is None else self.store.get_secret_value()

    @property
    def kept_cluster_file(self) -> Path:
        """The copy of what `ray up` wrote into the cluster file."""
        return self.server_dir / "cluster.yaml"

    @property
    def dispatcher_beat(self) -> Path:
        """The file that the dispatcher touches after each of its turns."""
        return self.server_dir / "dispatcher.beat"

    @property
    def dispatcher_bell(self) -> Path:
        """The named pipe by which the dispatcher is told that the store has news."""
        return self.server_dir / "dispatcher.bell"

    @property
    def scratch(self) -> Path:
        """The folder in which attempts run."""
        return self.data_dir / "scratch"

    @property
    def kept_inputs(self) -> Path:
        """The folder of the input files that this machine keeps."""
        return self.data_dir / KEPT_INPUTS

    @property
    def environments(self) -> Path:
        """The folder of the cached environments of native simulators."""
        return self.data_dir / "environments"

    @property
    def server_dir(self) -> Path:
        """The folder with the running server's own files: its state, keys for signing and logs."""
        return self.data_dir / "server"


@cache
def load_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        InvalidInput: the environment has an unknown `SIMYARD_*` variable, or `SIMYARD_STORE` is no URL of PostgreSQL.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | _CLIENT | _MARKS
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise InvalidInput("is not a setting.", field=name, fix=f"Known: {', '.join(sorted(known - _MARKS))}.")
    settings = Settings()
    if settings.store is not None and not settings.store.get_secret_value().startswith("postgresql://"):
        raise InvalidInput(
            "is not the URL of a PostgreSQL database.",
            field=PREFIX + "STORE",
            fix="Give postgresql://user@host/database, or nothing for a file in the data folder.",
        )
    return settings
