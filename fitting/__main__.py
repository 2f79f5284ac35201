"""`python -m fitting motion --tracks DIR` and `head`: see `docs/engine.md`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fitting.dataset import load
from kolbo_demo.engine.head_gestures import MODEL_PATH
from kolbo_demo.engine.motion_model import WEIGHTS_PATH

app = typer.Typer(add_completion=False)


@app.callback()
def _main() -> None:
    """Fit the engine's learned models."""


_Tracks = Annotated[Path, typer.Option(help="Folder with index.json, NAME.npz and NAME.flac.")]


@app.command()
def motion(
    tracks: _Tracks,
    out: Annotated[Path, typer.Option(help="Output: the weights.")] = WEIGHTS_PATH,
    held_out: Annotated[
        Path | None,
        typer.Option("--unheard", help="Output: curves predicted for held-out speakers."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Networks per fold.")] = 2,
    epochs: Annotated[int, typer.Option(help="Passes over the training clips.")] = 10,
) -> None:
    """Fit the audio-to-motion networks, cross-validated by speaker, and print an evaluation."""
    from fitting.motion import fit  # needs torch: requirements-fit.txt

    for line in fit(tracks, out, held_out, seeds, epochs):
        typer.echo(line)


@app.command()
def head(
    tracks: _Tracks,
    out: Annotated[Path, typer.Option(help="Output: the model.")] = MODEL_PATH,
) -> None:
    """Fit the model of head gestures, and print an evaluation cross-validated by speaker."""
    from fitting.head import fit

    for line in fit(tracks, out):
        typer.echo(line)


@app.command()
def figures(
    tracks: _Tracks,
    held_out: Annotated[
        Path, typer.Argument(metavar="UNHEARD", help="Output of `motion --unheard`.")
    ],
) -> None:
    """Evaluate predicted curves, and the engine's curves made of them."""
    from fitting.evaluation import correlation_lines, realism_lines

    with np.load(held_out) as stored:
        curves = {name: stored[name] for name in stored.files}
    clips = load(tracks, 0)
    for line in correlation_lines(clips, curves):
        typer.echo(line)
    for line in realism_lines(clips, curves, tracks):
        typer.echo(line)


if __name__ == "__main__":
    app(prog_name="python -m fitting")
