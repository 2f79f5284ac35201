"""`python -m fitting motion --tracks DIR`: see `docs/engine.md`, "Motion"."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fitting.tracks import load
from kolbo_demo.engine.motion_model import WEIGHTS

app = typer.Typer(add_completion=False)


@app.callback()
def _main() -> None:
    """Fit what the engine learns from people."""


_Tracks = Annotated[Path, typer.Option(help="Folder with index.json, NAME.npz and NAME.flac.")]


@app.command()
def motion(
    tracks: _Tracks,
    out: Annotated[Path, typer.Option(help="Where the weights go.")] = WEIGHTS,
    unheard: Annotated[
        Path | None, typer.Option(help="Where curves predicted for unheard speakers go.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Networks fitted for each fold.")] = 2,
    epochs: Annotated[int, typer.Option(help="Passes over the training clips.")] = 10,
) -> None:
    """Fit mouth curves to landmarks of people talking, fold by fold, and print the figures."""
    from fitting.motion import fit  # needs torch: requirements-fit.txt

    for line in fit(tracks, out, unheard, seeds, epochs):
        typer.echo(line)


@app.command()
def figures(
    tracks: _Tracks,
    unheard: Annotated[Path, typer.Argument(help="What `motion` wrote with --unheard.")],
) -> None:
    """Print the figures, and how alive the engine's own curves are, without fitting."""
    from fitting.figures import alive
    from fitting.figures import figures as likeness

    with np.load(unheard) as stored:
        curves = {name: stored[name] for name in stored.files}
    clips = load(tracks, 0)
    for line in likeness(clips, curves):
        typer.echo(line)
    for line in alive(clips, curves, tracks):
        typer.echo(line)


if __name__ == "__main__":
    app(prog_name="python -m fitting")
