"""The simulators' images in the storage: what one machine has built the others fetch.

An image lies there as its engine saves it, compressed, under the digest of its recipe and the kind of processor. A note
with its hash is written last, so that half an image is never taken.
"""

from __future__ import annotations

import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from pydantic import ValidationError

from simulators.errors import ImageError
from simulators.images import Engine, recipe
from simulators.spec import SimulatorSpec, VersionSpec
from simyard.errors import SimyardError
from simyard.words import Word
from storage.errors import ObjectNotFound, OutputDamaged
from storage.hashing import Hashed, verified
from storage.objects import ObjectStore, is_on_this_machine, open_store
from storage.paths import Paths
from storage.retries import Retries
from storage.settings import load_settings

log = logging.getLogger(__name__)

_SECONDS = 1800.0
"""How long an engine may take to save or load an image."""
_PIECE = 1024**2
_PREFIX = "image-"
_LEFT_SECONDS = 24 * 3600.0


class Note(Word):
    """What is known of an image in the storage."""

    tag: str
    sha256: str
    """Of the compressed archive."""
    size: int
    """Its bytes."""


class ImageShelf:
    """The images in one storage."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def has(self, spec: SimulatorSpec, version: VersionSpec) -> bool:
        """Say whether a version's image lies there, as its folder gives it now.

        Raises:
            StorageUnavailable: the storage does not answer.
        """
        return self._store.head(Paths.image_note(*_place(spec, version))) is not None

    def fetch(self, engine: Engine, spec: SimulatorSpec, version: VersionSpec) -> bool:
        """Bring a version's image from the storage into the engine; says whether it has it now.

        Where it cannot be brought, the log says why.
        """
        place = _place(spec, version)
        try:
            return Retries(tries=3).run(lambda: self._fetch(engine, version, place))
        except (SimyardError, OSError, ValidationError) as error:
            log.warning("the image of %s %s cannot be fetched: %s", spec.name, version.version, error)
            return False

    def _fetch(self, engine: Engine, version: VersionSpec, place: tuple[str, str, str, str]) -> bool:
        try:
            note = Note.model_validate_json(self._store.get(Paths.image_note(*place)))
        except ObjectNotFound:
            return False
        damaged = OutputDamaged(f"The storage holds other bytes for {note.tag} than its hash {note.sha256} says.")
        with _folder() as folder:
            packed, plain = folder / "image.tar.zst", folder / "image.tar"
            with packed.open("wb") as file:
                for piece in verified(self._store.stream(Paths.image(*place)), note.sha256, note.size, damaged):
                    file.write(piece)
            with plain.open("wb") as file, pa.CompressedInputStream(str(packed), "zstd") as stream:
                while piece := stream.read(_PIECE):
                    file.write(piece)
            packed.unlink()
            old = engine.id(note.tag)
            engine.run(["load", "--input", str(plain)], _SECONDS)
        if old is not None and engine.id(note.tag) != old:
            # It has no name any more; while a container uses it, the engine keeps it.
            with suppress(ImageError):
                engine.run(["rmi", old], 60)
        return engine.label(note.tag) == recipe(version)

    def keep(self, engine: Engine, spec: SimulatorSpec, version: VersionSpec, *, again: bool = False) -> bool:
        """Put an image that the engine has into the storage, where it is not there or `again`; says whether it did.

        Raises:
            ImageError: the engine cannot save it, or has another one than the folder gives.
            StorageUnavailable: the storage cannot take it at present.
            OSError: the disk is full.
        """
        assert version.image is not None, "only versions with an image have one to keep"
        tag, place = version.image.tag, _place(spec, version)
        if not again and self.has(spec, version):
            return False
        if engine.label(tag) != recipe(version):
            raise ImageError(f"{tag} is not as its folder gives it.", fix=f"simyard images build {spec.name}")
        with _folder() as folder:
            packed, plain = folder / "image.tar.zst", folder / "image.tar"
            engine.run(["save", "--output", str(plain), tag], _SECONDS)
            with plain.open("rb") as file, pa.CompressedOutputStream(str(packed), "zstd") as stream:
                while piece := file.read(_PIECE):
                    stream.write(piece)
            plain.unlink()
            note = Retries().run(lambda: self._put(tag, packed, place))
        self._store.put(Paths.image_note(*place), note.model_dump_json().encode())
        return True

    def _put(self, tag: str, packed: Path, place: tuple[str, str, str, str]) -> Note:
        with packed.open("rb") as file:
            hashed = Hashed(iter(lambda: file.read(_PIECE), b""))
            self._store.put(Paths.image(*place), hashed, size=packed.stat().st_size)
        return Note(tag=tag, sha256=hashed.sha256, size=hashed.size)


def image_shelf() -> ImageShelf | None:
    """Return the images in this machine's storage; None where that is a folder on the machine itself.

    Raises:
        InvalidStorage: the settings name no storage.
    """
    uri = load_settings().storage_uri
    return None if is_on_this_machine(uri) else ImageShelf(open_store(uri))


def _place(spec: SimulatorSpec, version: VersionSpec) -> tuple[str, str, str, str]:
    return spec.name, version.version, platform.machine(), recipe(version)


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a folder on the disk that has the images' builds, which has more room than /tmp may have."""
    home = load_settings().environments
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{_PREFIX}*"):
        # Its process was killed.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=home) as folder:
        yield Path(folder)
