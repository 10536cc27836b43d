"""What can go wrong with stored files.

The tree::

    SimyardError
    ├── Conflict
    │   ├── AlreadyExists         a create-only write found the object there
    │   └── UploadIncomplete      an upload cannot be completed: parts are missing
    ├── InvalidInput
    │   ├── InvalidKey            a key that no store takes
    │   ├── InvalidStorage        a storage URI that names no storage
    │   ├── InputDamaged          the bytes do not have the hash that names them
    │   └── UnsafePath            a path that leaves its folder
    ├── NotFound
    │   ├── ObjectNotFound        no object has this key
    │   └── InputMissing          an input file was never uploaded
    ├── Unavailable
    │   └── StorageUnavailable    the storage did not do what was asked; trying again may help
    ├── DiskFull                  the disk that files are written to is full
    ├── OutputDamaged             stored outputs are not what the manifest says
    └── Stopped                   the work was told to stop
"""

from __future__ import annotations

from simyard.errors import Conflict, InvalidInput, NotFound, SimyardError, Unavailable


class AlreadyExists(Conflict):
    """An object with this key is already there."""


class UploadIncomplete(Conflict):
    """The upload cannot be completed: parts are missing."""


class InvalidKey(InvalidInput):
    """This key cannot name an object."""


class InvalidStorage(InvalidInput):
    """This URI names no storage."""


class InputDamaged(InvalidInput):
    """The bytes of an input file do not have the hash that names them."""


class UnsafePath(InvalidInput):
    """The path leaves its folder."""


class ObjectNotFound(NotFound):
    """No object has this key."""


class InputMissing(NotFound):
    """An input file is not in the storage."""


class StorageUnavailable(Unavailable):
    """The storage did not do what was asked."""


class DiskFull(SimyardError):  # noqa: N818 - errors are named after what happened
    """The disk that files are written to is full."""

    kind = "disk-full"


class OutputDamaged(SimyardError):  # noqa: N818
    """Stored outputs are not what the manifest says."""

    kind = "output-damaged"


class Stopped(SimyardError):  # noqa: N818
    """The work was told to stop."""

    kind = "stopped"
