"""The server that this user talks to, and the key for it: given, from the environment, or kept by `simyard login`."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from simyard.errors import InvalidInput, Unavailable

START = "Start a server with `simyard up`, or log in to one with `simyard login URL`."
"""What to do when there is no server to talk to."""


class Profile(BaseModel):
    """The address of a server and the key for it; the key does not show when printed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str
    key: SecretStr | None = None

    @property
    def secret(self) -> str | None:
        """The key itself."""
        return self.key.get_secret_value() if self.key else None


def profile_path() -> Path:
    """Return the profile's file: `SIMYARD_CONFIG`, or `profile.json` in the user's configuration folder."""
    chosen = os.environ.get("SIMYARD_CONFIG")
    return Path(chosen) if chosen else platformdirs.user_config_path("simyard") / "profile.json"


def normal_url(url: str) -> str:
    """Return a server's address with its scheme and without a slash at the end.

    An address without a scheme gets `http` on this machine and `https` elsewhere.

    Raises:
        InvalidInput: the text is not the address of a server.
    """
    text = url.strip()
    if "://" not in text:
        text = f"http://{text}" if is_loopback(f"http://{text}") else f"https://{text}"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or parts.scheme not in {"http", "https"} or any(c.isspace() or not c.isprintable() for c in text):
        raise InvalidInput(
            f"{url!r} is not the address of a server.", field="url", fix="Write for example http://127.0.0.1:8000."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInput(
            "An address has no user, password, query or fragment.", field="url", fix="Give the key with --key."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def is_loopback(url: str) -> bool:
    """Say whether an address is on this machine."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in {"localhost", "::1"} or host.startswith("127.")


def save_profile(profile: Profile) -> Path:
    """Store a profile for later commands, readable by this user only, and return its file.

    Raises:
        Unavailable: the file cannot be written.
    """
    path = profile_path()
    text = json.dumps({"url": profile.url, "key": profile.secret}, indent=2) + "\n"
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The profile {path} cannot be written: {error.strerror}.", fix="Set SIMYARD_CONFIG to another file."
        ) from error
    return path


def stored_profile() -> Profile | None:
    """Return what `simyard login` stored, or None.

    Raises:
        InvalidInput: the file is not a profile.
    """
    path = profile_path()
    try:
        return Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InvalidInput(
            f"The profile {path} cannot be read.", fix="Remove it and log in again with `simyard login URL`."
        ) from error


def load_profile(url: str | None = None, key: str | None = None) -> Profile:
    """Return the server to talk to; a stored key is only ever given to the server that it was stored for.

    Raises:
        InvalidInput: an address or the profile's file is not valid.
        Unavailable: no server is named anywhere.
    """
    url = url or os.environ.get("SIMYARD_URL") or None
    key = key or os.environ.get("SIMYARD_KEY") or None
    stored = None if url and key else stored_profile()
    if url is None:
        if stored is None:
            raise Unavailable("No server is known.", fix=START)
        url = stored.url
    url = normal_url(url)
    if key is None and stored is not None and normal_url(stored.url) == url:
        key = stored.secret
    return Profile(url=url, key=SecretStr(key) if key else None)
