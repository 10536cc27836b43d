"""`simyard images`: the container images of the simulators on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from simulators import catalogue, images
from simulators.image_shelf import ImageShelf, image_shelf
from simyard.cli.options import Json
from simyard.cli.show import say_json, say_table
from simyard.errors import InvalidInput
from simyard.simulator import RuntimeName

commands = typer.Typer(help="Container images of the simulators on this machine.", no_args_is_help=True)

Engine = Annotated[
    str | None, typer.Option(metavar="podman|docker", help="The container engine; by default the first that works.")
]


@commands.command("build")
def build(
    name: Annotated[str, typer.Argument(metavar="SIMULATOR", help="Its name in the catalogue.")],
    version: Annotated[str | None, typer.Option(help="Its version; the newest by default.")] = None,
    engine: Engine = None,
    base: Annotated[
        str | None,
        typer.Option(help="A Debian 12 image to build on; by default the public one, or one made with mmdebstrap."),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build anew, also where nothing has changed.")] = False,
    json_: Json = False,
) -> None:
    """Build a simulator's image, where it is not up to date.

    Where the storage is a bucket the image is put there, too, and other machines fetch it instead of building it.
    """

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    spec = catalogue.find(name)
    version_spec, _ = catalogue.resolve(spec, version, None)
    found = images.find_engine(_engine(engine))
    tag = images.build_image(spec, version_spec, engine=found, base=base, rebuild=rebuild, say=tell)
    if (shelf := image_shelf()) is not None:
        tell("putting it into the storage, unless it is there")
        shelf.keep(found, spec, version_spec, again=rebuild)
    if json_:
        say_json({"simulator": spec.name, "version": version_spec.version, "tag": tag})
    else:
        typer.echo(tag)


@commands.command("list")
def list_(engine: Engine = None, json_: Json = False) -> None:
    """Show which images of the catalogue are built here and up to date, and which of them the storage has.

    What it has the other machines fetch; a folder on this machine is for this one alone and has none.
    """
    found = images.list_images(images.find_engine(_engine(engine)))
    shelf = image_shelf()
    stored = {image.tag: None if shelf is None else _stored(shelf, image) for image in found}
    if json_:
        say_json({"images": [vars(image) | {"stored": stored[image.tag]} for image in found]})
        return
    rows = [
        (
            image.simulator,
            image.version,
            "built" if image.current else "outdated" if image.built else "-",
            "yes" if stored[image.tag] else "-",
            image.tag,
        )
        for image in found
    ]
    say_table(("SIMULATOR", "VERSION", "STATE", "STORED", "IMAGE"), rows, fixed=(0, 1, 2, 3))


def _stored(shelf: ImageShelf, image: images.Image) -> bool:
    spec = catalogue.find(image.simulator)
    return shelf.has(spec, catalogue.resolve(spec, image.version, None)[0])


def _engine(name: str | None) -> RuntimeName | None:
    if name is None:
        return None
    if name not in {RuntimeName.PODMAN, RuntimeName.DOCKER}:
        raise InvalidInput(f"{name!r} is no container engine.", field="--engine", fix="Give podman or docker.")
    return RuntimeName(name)
