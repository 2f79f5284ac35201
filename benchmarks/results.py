"""Results of the page's gallery: renders each item of `assets/gallery/gallery.toml`.

The videos are smaller than the engine's: `WIDTH` pixels wide and compressed more.
"""

import tempfile
from pathlib import Path

import av
from av.video.frame import PictureType
from PIL import Image

from kolbo_demo.engine.render import render
from kolbo_demo.gallery import items
from kolbo_demo.options import Options

WIDTH = 384
CRF = 24
"""x264's rate factor: results stay under 350 kB."""
POSTER_QUALITY = 82


def measure() -> dict[str, float]:
    """Write results and posters; returns the sizes of the results in kB by id."""
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        for item in items():
            render(item.source, item.voice, video, Options(prompt=item.prompt, mark=True))
            _compress(video, item.result).save(item.poster, quality=POSTER_QUALITY, method=6)
            sizes[item.id] = round(item.result.stat().st_size / 1000)
    return sizes


def _compress(video: Path, output: Path) -> Image.Image:
    """Write a smaller copy with the same sound. Returns its first picture."""
    poster: Image.Image | None = None
    with (
        av.open(str(video)) as source,
        av.open(str(video)) as voice,
        av.open(str(output), "w", options={"movflags": "+faststart"}) as copy,
    ):
        copy.metadata.update(source.metadata)
        pictures, sound = source.streams.video[0], voice.streams.audio[0]
        stream = copy.add_stream("libx264", rate=pictures.average_rate)
        stream.width, stream.height = WIDTH, round(WIDTH * pictures.height / pictures.width / 2) * 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(CRF), "preset": "veryslow", "threads": "1"}
        context, given = stream.codec_context, pictures.codec_context
        context.color_primaries, context.color_trc = given.color_primaries, given.color_trc
        context.colorspace, context.color_range = given.colorspace, given.color_range
        copied = copy.add_stream_from_template(sound)
        for packet in voice.demux(sound):
            if packet.size:
                packet.stream = copied
                copy.mux(packet)
        for frame in source.decode(pictures):
            small = frame.reformat(stream.width, stream.height, interpolation="LANCZOS")
            small.pict_type = PictureType.NONE
            poster = poster or small.to_image()
            copy.mux(stream.encode(small))
        copy.mux(stream.encode(None))
    assert poster is not None, "a result has frames"
    return poster
