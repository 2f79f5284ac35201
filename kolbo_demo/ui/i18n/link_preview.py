"""Title, sentence and picture that other sites show for a link to the page."""

import re
from html import escape

from kolbo_demo.gallery import ROUTE, SHARE_PICTURE
from kolbo_demo.ui.i18n.texts import say, speaking

TITLE = "Kolbo Lipsync"
_SIZE = (1200, 630)
_GRADIO = re.compile(rb'<meta\s+(?:property="og:|name="(?:twitter:|description"))[^>]*>\s*')


def with_preview(page: bytes, code: str, base_url: str) -> bytes:
    """The page's HTML with tags in language `code` instead of Gradio's own. The picture is the same
    for every address, a generation's too: results are private. `base_url` is the page's public URL
    without a trailing slash."""
    with speaking(code):
        promise = say("top.promise")
    tags = {
        "og:type": "website",
        "og:title": TITLE,
        "og:description": promise,
        "og:url": f"{base_url}/",
        "og:image": f"{base_url}/{ROUTE}/{SHARE_PICTURE.name}",
        "og:image:width": str(_SIZE[0]),
        "og:image:height": str(_SIZE[1]),
        "og:image:alt": TITLE,
    }
    head = "".join(
        f'<meta property="{name}" content="{escape(text)}">' for name, text in tags.items()
    )
    head += '<meta name="twitter:card" content="summary_large_image">'
    head += f'<meta name="description" content="{escape(promise)}">'
    return _GRADIO.sub(b"", page).replace(b"<head>", b"<head>" + head.encode(), 1)
