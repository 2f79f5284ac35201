"""Results of the page's gallery: renders each item of `assets/gallery/gallery.toml`.

The videos are smaller than the engine's: `WIDTH` pixels wide and compressed more. The picture for
links shows some of their posters.
"""

import tempfile
from pathlib import Path

import av
import gradio
from av.video.frame import PictureType
from PIL import Image

import kolbo_demo.ui
from benchmarks.browser import chromium
from kolbo_demo.engine.render import render
from kolbo_demo.gallery import SHARE_PICTURE, items
from kolbo_demo.options import Options

WIDTH = 384
CRF = 24
"""x264's rate factor: results stay under 350 kB."""
POSTER_QUALITY = 82
_SHOWN = {"photograph", "painting", "figure", "cartoon", "drawing"}
_FONTS = Path(gradio.__file__).parent / "templates/frontend/static/fonts/IBMPlexSans"
_SHARE = f"""<style>
@font-face {{ font-family: Plex; src: url({_FONTS.as_uri()}/IBMPlexSans-Regular.woff2); }}
@font-face {{ font-family: Bold; src: url({_FONTS.as_uri()}/IBMPlexSans-Bold.woff2); }}
body {{ margin: 0; padding: 76px 56px; background: #faf9f7; color: #1d1c1b; font-family: Plex; }}
h1 {{ display: flex; gap: 24px; align-items: center; margin: 0; }}
h1 {{ font: 76px Bold; letter-spacing: -2px; }}
h1 img {{ width: 84px; }}
p {{ margin: 16px 0 44px; font-size: 34px; color: #5c5954; }}
div {{ display: grid; grid-template-columns: repeat(5, 1fr); gap: 20px; }}
div img {{ width: 100%; height: 272px; object-fit: cover; border-radius: 18px; }}
</style>"""


def measure() -> dict[str, float]:
    """Write results and posters; returns the sizes of the results in kB by id."""
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        for item in items():
            render(item.source, item.voice, video, Options(prompt=item.prompt, mark=True))
            _compress(video, item.result).save(item.poster, quality=POSTER_QUALITY, method=6)
            sizes[item.id] = round(item.result.stat().st_size / 1000)
        _draw_share_picture(Path(folder) / "share.html")
    return sizes


def _draw_share_picture(html: Path) -> None:
    icon = Path(kolbo_demo.ui.__file__).with_name("icon.png")
    posters = "".join(
        f'<img src="{item.poster.as_uri()}">' for item in items() if item.kind in _SHOWN
    )
    html.write_text(
        f'{_SHARE}<h1><img src="{icon.as_uri()}">Kolbo Lipsync</h1>'
        f"<p>Make a portrait or a clip say what a recording says.</p><div>{posters}</div>"
    )
    with chromium(()) as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 630})
        page.goto(html.as_uri())
        page.evaluate("document.fonts.ready.then(() => 0)")
        page.screenshot(path=SHARE_PICTURE, type="jpeg", quality=88)


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
