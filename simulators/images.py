"""Builds the container images of the simulators from their Containerfiles."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulators import catalogue
from simulators.errors import ImageError, RuntimeUnavailable, UnsuitableRuntime
from simulators.runtimes.podman_host import engine_environment, podman_environment
from simulators.spec import IMAGE_PREFIX, ImageSpec, SimulatorSpec, VersionSpec
from simyard.simulator import RuntimeName

PUBLIC_BASE = "docker.io/library/debian:bookworm-slim"
OWN_BASE = f"{IMAGE_PREFIX}base:bookworm"
_PULL_SECONDS = 180.0
_BUILD_SECONDS = 3600.0
_TAIL = 3000
_RECIPE = "simyard.recipe"
"""The label that holds the digest of what an image was built from."""
# The base is Debian 12: its Python, and the C library that decides which wheels fit.
_PYTHON = "3.11"
_GLIBC = 36
_SHEBANG = "#!/usr/bin/env -S python3 -I\n"

Say = Callable[[str], None]
"""Takes one line on how a build goes."""


@dataclass(frozen=True)
class Engine:
    """A container engine's client: `podman` or `docker`, with the variables that it needs."""

    name: RuntimeName
    environment: Mapping[str, str]

    def run(self, arguments: Sequence[str], seconds: float, cwd: Path | None = None) -> str:
        """Run the client to its end and return what it printed.

        Raises:
            ImageError: it failed or took longer than `seconds`; the reason ends with its last lines.
        """
        return _run([self.name.value, *arguments], self.environment, seconds, cwd)

    def label(self, image: str) -> str | None:
        """Return the recipe of an image; empty for one that was not built here, None where there is no such image."""
        text = self._inspect(image, f'{{{{index .Config.Labels "{_RECIPE}"}}}}')
        return "" if text == "<no value>" else text

    def id(self, image: str) -> str | None:
        """Return the id of an image, None where there is no such image."""
        return self._inspect(image, "{{.Id}}")

    def _inspect(self, image: str, template: str) -> str | None:
        try:
            return self.run(["image", "inspect", "--format", template, image], 60).strip()
        except ImageError:
            return None


@dataclass(frozen=True)
class Image:
    """One image of the catalogue: whether it is `built`, and whether that is what its folder gives now (`current`)."""

    simulator: str
    version: str
    tag: str
    built: bool
    current: bool


def find_engine(name: str | RuntimeName | None = None) -> Engine:
    """Return the engine of that name, or the first of podman and docker that works.

    Raises:
        RuntimeUnavailable: it is not installed or does not answer; the fix says what to do.
    """
    names = [RuntimeName(name)] if name else [RuntimeName.PODMAN, RuntimeName.DOCKER]
    reasons = []
    for engine in names:
        try:
            return _find_engine(engine)
        except RuntimeUnavailable as error:
            reasons.append(str(error))
    raise RuntimeUnavailable("; ".join(reasons), fix="" if name else "Or give --engine podman or docker.")


def list_images(engine: Engine) -> list[Image]:
    """Return every image of the catalogue and how it stands with an engine."""
    images = []
    for spec in catalogue.all_simulators():
        for version in spec.versions:
            if version.image is not None:
                label = engine.label(version.image.tag)
                current = label is not None and label == recipe(version)
                images.append(Image(spec.name, version.version, version.image.tag, label is not None, current))
    return images


def build_image(
    spec: SimulatorSpec,
    version: VersionSpec,
    *,
    engine: Engine,
    base: str | None = None,
    rebuild: bool = False,
    say: Say = lambda _: None,
) -> str:
    """Build the image of a version and return its tag; an image that its folder would give again is kept.

    `base` is a Debian 12 image; by default the public one, or one that mmdebstrap makes from Debian's packages where no
    registry answers. `rebuild` builds everything anew, with Debian's packages of today.

    Raises:
        UnsuitableRuntime: the version has no image.
        ImageError: the base or the image could not be made.
    """
    image = version.image
    if image is None:
        known = ", ".join(runtime.value for runtime in version.runtimes)
        reason = f"{spec.name} {version.version} has no image."
        raise UnsuitableRuntime(reason, field="simulator", fix=f"It runs in: {known}.")
    digest = recipe(version)
    if not rebuild and engine.label(image.tag) == digest:
        say(f"{image.tag} is up to date")
        return image.tag
    base = base or ensure_base(engine, say)
    with tempfile.TemporaryDirectory(prefix="simyard-image-") as folder:
        context = Path(folder)
        fill_context(context, version, say)
        say(f"building {image.tag} from {base}")
        # Docker wants its own engine's network words; both know "host", which also works where bridges may not be made.
        arguments = ["build", "--network=host", "--build-arg", f"BASE={base}", "--label", f"{_RECIPE}={digest}"]
        if rebuild:
            arguments.append("--no-cache")
        old = engine.id(image.tag)
        engine.run([*arguments, "--tag", image.tag, "--file", "Containerfile", "."], _BUILD_SECONDS, context)
    if old is not None and engine.id(image.tag) != old:
        # It has no name any more and would stay for ever; while a container uses it, the engine keeps it.
        with contextlib.suppress(ImageError):
            engine.run(["rmi", old], 60)
    say(f"built {image.tag}")
    return image.tag


def recipe(version: VersionSpec) -> str:
    """Return a digest of everything that a version's image is built from, except its base."""
    image = version.image
    if image is None:
        return ""
    parts = [image.containerfile.read_bytes(), *(wheel.encode() for wheel in image.wheels)]
    for name, source in sorted(version.programs.items()):
        parts += [name.encode(), source.read_bytes()]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


def fill_context(context: Path, version: VersionSpec, say: Say = lambda _: None) -> None:
    """Put into a folder what a version's Containerfile may copy: itself, `programs/` and `wheels/`.

    Raises:
        ImageError: a wheel could not be downloaded.
    """
    image = version.image
    assert image is not None, "only versions with an image have a context"
    shutil.copyfile(image.containerfile, context / "Containerfile")
    programs = context / "programs"
    programs.mkdir()
    # Whatever our umask is, the image's user must be able to read them.
    programs.chmod(0o755)
    for name, source in version.programs.items():
        (programs / name).write_text(_SHEBANG + source.read_text())
        (programs / name).chmod(0o755)
    (context / "wheels").mkdir()
    if image.wheels:
        say(f"downloading {', '.join(image.wheels)}")
        _download_wheels(image, context / "wheels")


def ensure_base(engine: Engine, say: Say = lambda _: None) -> str:
    """Return a Debian 12 image that the engine has: the public one, else one made here from Debian's packages.

    Raises:
        ImageError: no registry answers, and mmdebstrap is not here or failed.
    """
    for image in (PUBLIC_BASE, OWN_BASE):
        if engine.label(image) is not None:
            return image
    say(f"pulling {PUBLIC_BASE}")
    try:
        engine.run(["pull", "--quiet", PUBLIC_BASE], _PULL_SECONDS)
    except ImageError as error:
        say("no registry answers; making the base from Debian's packages")
        _bootstrap(engine, error)
        return OWN_BASE
    return PUBLIC_BASE


def _bootstrap(engine: Engine, cause: ImageError) -> None:
    if shutil.which("mmdebstrap", path=engine.environment["PATH"]) is None:
        raise ImageError(
            f"{PUBLIC_BASE} cannot be pulled, and mmdebstrap, which makes a base, is not installed: {cause.reason}",
            fix="Install it (apt-get install mmdebstrap), or give a Debian 12 image that you have with --base.",
        ) from cause
    with tempfile.TemporaryDirectory(prefix="simyard-base-") as folder:
        archive = Path(folder) / "base.tar"
        _run(
            ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(archive)],
            {**engine.environment, "DEBIAN_FRONTEND": "noninteractive"},
            _BUILD_SECONDS,
        )
        engine.run(["import", str(archive), OWN_BASE], 600)


def _download_wheels(image: ImageSpec, folder: Path) -> None:
    """Download wheels for the image's Python with the operator's own pip settings, which the build does not have."""
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 4, -1)]
    platforms += [f"manylinux{old}_{machine}" for old in ("2014", "2010", "1")]
    # The server's own environment may have no pip.
    with tempfile.TemporaryDirectory(prefix="simyard-pip-") as environment:
        settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        variables = engine_environment() | settings
        _run([sys.executable, "-m", "venv", environment], variables, 300)
        pip = [f"{environment}/bin/python", "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
        chosen = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
        target = ["--implementation=cp", f"--python-version={_PYTHON}", *(f"--platform={p}" for p in platforms)]
        abis = ["--abi=cp311", "--abi=abi3", "--abi=none"]
        _run([*pip, *chosen, *target, *abis, "--", *image.wheels], variables, 1800)


def _find_engine(name: RuntimeName) -> Engine:
    if name is RuntimeName.PODMAN:
        environment = podman_environment()
    elif name is RuntimeName.DOCKER:
        environment = engine_environment()
    else:
        raise RuntimeUnavailable(f"{name} is no container engine.", fix="Give podman or docker.")
    if shutil.which(name.value, path=environment["PATH"]) is None:
        raise RuntimeUnavailable(f"{name} is not installed.", fix=f"Install it: apt-get install {_PACKAGES[name]}.")
    engine = Engine(name, environment)
    try:
        engine.run(["version"], 60)
    except ImageError as error:
        raise RuntimeUnavailable(f"{name} does not answer: {error.reason}", fix="Start it, or mend it.") from error
    return engine


_PACKAGES = {RuntimeName.PODMAN: "podman", RuntimeName.DOCKER: "docker.io"}


def _run(argv: Sequence[str], environment: Mapping[str, str], seconds: float, cwd: Path | None = None) -> str:
    program = Path(argv[0]).name
    try:
        done = subprocess.run(
            argv,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{program} took longer than {seconds:g} s.") from error
    except OSError as error:
        raise ImageError(f"{program} cannot be started: {error}.") from error
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ImageError(f"{program} ended with exit status {done.returncode}: {text.strip()[-_TAIL:]}")
    return text
