"""What does `gan data` do? Heavy imports wait until a command runs."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan.cli.common_options import JSON, PATH, SETS_DIR
from gan.cli.entry import DebugGroup

if TYPE_CHECKING:
    from gan.sets.set_manifest import SetManifest

ADDRESS = click.argument("address", metavar="NAME[@SHA]")
SHOWN = "The report and the bucket of a run will show training images of this set; --private keeps them out."


def _printable(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """Refuse a text that would not be shown as it is."""
    if text is not None and not text.isprintable():
        raise click.BadParameter("it has characters that cannot be printed.")
    return text


def _colour(_context: click.Context, _option: click.Parameter, text: str) -> tuple[int, int, int]:
    if not re.fullmatch("[0-9A-Fa-f]{6}", text):
        raise click.BadParameter(f"{text!r} is no colour. Give six hex digits.")
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


@click.group(cls=DebugGroup)
def data() -> None:
    """Import, download, list and check data sets of your own."""


@data.command("import")
@click.argument("source", type=PATH)
@click.option("--name", required=True, help="Name of the set: letters, digits, '.', '_' and '-'.")
@click.option(
    "--side", type=click.Choice(["28", "32", "64"]), default="28", show_default=True, help="Height and width in pixels."
)
@click.option("--channels", type=click.Choice(["1", "3"]), default="1", show_default=True, help="1: grey. 3: colour.")
@click.option(
    "--test-share",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.1,
    show_default=True,
    help="Share of each class that is for the test. Four idx files keep their own split.",
)
@click.option(
    "--background",
    metavar="RRGGBB",
    callback=_colour,
    default="000000",
    show_default=True,
    help="Colour that transparent pixels show.",
)
@click.option(
    "--license", "license_text", metavar="TEXT", callback=_printable, help="Licence of the images, for the card."
)
@click.option(
    "--attribution", metavar="TEXT", callback=_printable, help="Who must be named where the images are shown."
)
@click.option(
    "--source", "origin", metavar="TEXT", callback=_printable, help="Where the images come from, for the card."
)
@click.option("--private", is_flag=True, help="Show no image on the card or in a run, copy none into a bucket.")
@SETS_DIR
def import_(
    source: Path,
    name: str,
    side: str,
    channels: str,
    test_share: float,
    background: tuple[int, int, int],
    license_text: str | None,
    attribution: str | None,
    origin: str | None,
    private: bool,
    sets_dir: Path,
) -> None:
    """Import images as a data set. SOURCE is a folder of PNG and JPEG files, an .npz file, or a folder of idx files."""
    from gan.cli.progress import show_import
    from gan.sets.known_sets import check_not_reserved
    from gan.sets.set_import import import_set, open_source
    from gan.sets.set_manifest import Facts
    from gan.sets.sources.base import Form

    check_not_reserved(name)
    form = Form(int(side), int(channels), background)
    facts = Facts(license=license_text, attribution=attribution, source=origin, private=private)
    opened = open_source(source)
    with show_import() as progress:
        found = import_set(opened, sets_dir, name, form, test_share=test_share, facts=facts, progress=progress)
    click.echo(found.manifest.address)
    _tell(found.manifest, found.folder, found.is_new)
    if not found.manifest.facts.private:
        click.echo(SHOWN, err=True)


@data.command("list")
@SETS_DIR
@JSON
def list_(sets_dir: Path, as_json: bool) -> None:
    """List the data sets of a folder of sets."""
    from gan.sets.catalog import list_sets

    found = list_sets(sets_dir)
    if as_json:
        return click.echo(json.dumps([manifest.model_dump() for manifest in found]))
    for manifest in found:
        click.echo(f"{manifest.address}  {_counts(manifest)}")
    if not found:
        click.echo(f"no data sets in {sets_dir}", err=True)


@data.command()
@ADDRESS
@SETS_DIR
@JSON
def show(address: str, sets_dir: Path, as_json: bool) -> None:
    """Show the card of a data set: its counts, duplicates, origin and licence."""
    from gan.sets.card import PAGE, DataCard
    from gan.sets.catalog import find_set

    folder = find_set(sets_dir, address)
    card = DataCard.read(folder)
    if as_json:
        return click.echo(card.model_dump_json())
    click.echo(f"{card.set.address}\n{_counts(card.set)}\n{card}\ncard: {folder / PAGE}")


@data.command()
@ADDRESS
@SETS_DIR
def validate(address: str, sets_dir: Path) -> None:
    """Read every byte of a data set and compare it with its SHA-256."""
    from gan.sets.catalog import find_set
    from gan.sets.set_manifest import SetManifest
    from gan.sets.shards import check_identity

    folder = find_set(sets_dir, address)
    manifest = SetManifest.read(folder)
    check_identity(folder, manifest)
    click.echo(f"{manifest.address}: {_counts(manifest)}: every byte is as it was stored")


@data.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="URL",
    help="Download from here first: https://, http://, file:// or npm:PACKAGE@VERSION. May be given several times.",
)
@SETS_DIR
def download(name: str, mirrors: tuple[str, ...], sets_dir: Path) -> None:
    """Download a known data set: mnist, fashion-mnist, kmnist, emnist-letters or emnist-balanced."""
    from gan.cli.progress import show_download, show_import
    from gan.sets.known_sets import download_set, pinned_words

    found = download_set(sets_dir, name, mirrors, fetching=show_download, reading=show_import)
    click.echo(found.manifest.address)
    _tell(found.manifest, found.folder, found.is_new)
    if found.is_new:
        click.echo(pinned_words(found.manifest), err=True)


def _tell(manifest: "SetManifest", folder: Path, is_new: bool) -> None:
    """Say on stderr what a set has, and what was left out."""
    from gan.sets.card import PAGE

    click.echo(f"{'imported' if is_new else 'already there'}: {_counts(manifest)}", err=True)
    for reason, count in manifest.left_out.items():
        click.echo(f"left out: {count:,} {reason}", err=True)
    click.echo(f"card: {folder / PAGE}", err=True)


def _counts(manifest: "SetManifest") -> str:
    num_classes = len(manifest.classes)
    classes = f"{num_classes:,} class{'es' if num_classes > 1 else ''}" if num_classes else "no labels"
    train, test = manifest.num_images("train"), manifest.num_images("test")
    return f"{train:,} training and {test:,} test images, {manifest.shape_words}, {classes}"
