"""The visitor's language on the page itself: its HTML, and the list to choose from."""

from html import escape
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kolbo_demo.service.public_url import PUBLIC, public_base_url, request_base_url
from kolbo_demo.ui.i18n import texts
from kolbo_demo.ui.i18n.link_preview import with_preview

_PLAIN, _WITHIN = "SameSite=Lax", "SameSite=None; Secure; Partitioned"
"""A Space stands in a page of another site, where browsers keep only cookies of the second kind,
over plain HTTP only those of the first."""
_CHOOSE = (
    f"document.cookie='{texts.COOKIE}='+this.value+';path=/;max-age=31536000;'"
    f"+(location.protocol=='https:'?'{_WITHIN}':'{_PLAIN}');"
    # `URL` alone is the document's address in such a handler.
    "const u=new window.URL(location);u.searchParams.set('lang',this.value);location=u"
)
_SLASH = (
    "if(!location.pathname.endsWith('/'))"
    "location.replace(location.pathname+'/'+location.search+location.hash)"
)
"""Without it the page's relative addresses lead past the prefix of a proxy."""
_ROOT = (
    "gradio_config=JSON.parse(JSON.stringify(gradio_config).split(gradio_config.root)"
    ".join(new URL('.',location).href.slice(0,-1)))"
)
"""Only the browser knows its address where a proxy changes Host and says nothing of it."""


_STORAGE = Path(__file__).with_name("storage.js").read_text(encoding="utf-8")
"""Has to run before Gradio's scripts."""


def choice() -> str:
    """A list of the languages, where there are several; choosing one opens the page in it."""
    if len(texts.languages()) == 1:
        return ""
    now = texts.language()
    options = "".join(
        f'<option value="{code}" lang="{code}"{" selected" if code == now else ""}>'
        f"{escape(found['name'])}</option>"
        for code, found in texts.languages().items()
    )
    label = escape(texts.say("top.language"), quote=True)
    return f'<select aria-label="{label}" onchange="{escape(_CHOOSE)}">{options}</select>'


class InLanguage:
    """Writes the visitor's language into the page's HTML before it leaves.

    Gradio's scripts take the browser's first language and know no other choice, so they are told
    that it is the one that `texts` chose; a screen reader is told by `lang` and `dir`. What an
    address asked for holds for the page's later requests, too, until the browser is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != scope.get("root_path", ""):
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        code = texts.language_of(request)
        start: Message = {}
        body = bytearray()

        async def translated(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            headers = MutableHeaders(scope=start)
            whole = bytes(body)
            if headers.get("content-type", "").startswith("text/html"):
                whole = _translated(whole, code, scope.get(PUBLIC), request_base_url(request))
                whole = with_preview(whole, code, public_base_url(request))
                headers["content-length"] = str(len(whole))
                headers["content-language"] = code
                chosen = request.cookies.get(texts.COOKIE)
                if "lang" in request.query_params and chosen != code:
                    kind = _WITHIN if _secure(request) else _PLAIN
                    headers.append("set-cookie", f"{texts.COOKIE}={code}; Path=/; {kind}")
                headers.add_vary_header("Accept-Language, Cookie")
            await send(start)
            await send({**message, "body": whole})

        await self._app(scope, receive, translated)


def _secure(request: HTTPConnection) -> bool:
    """Whether the visitor's browser speaks HTTPS, if only to a proxy before this page."""
    return request.url.scheme == "https"


def _translated(page: bytes, code: str, public: str | None, own: str) -> bytes:
    direction = "rtl" if code in texts.RIGHT_TO_LEFT else "ltr"
    name = texts.GRADIO_NAMES.get(code, code)
    head = (
        f"<script>Object.defineProperty(navigator,'language',{{value:'{name}'}});{_SLASH}</script>"
    )
    head += f"<script>{_STORAGE}</script>"
    if public:
        head += f'<link rel="canonical" href="{escape(public)}/">'
    for old, new in (
        (f'const root = "{own}"', 'const root = "."'),  # of a script for pages in frames
        ('lang="en"', f'lang="{code}" dir="{direction}"'),
        ("<head>", "<head>" + head),
        ("</head>", f"<script>{_ROOT}</script></head>"),
    ):
        page = page.replace(old.encode(), new.encode(), 1)
    return page
