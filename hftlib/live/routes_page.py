"""The dashboard: one static page at `/`, its files below `/page/`.

What is served is a fixed table of names; no path is ever made from a URL. Plotly is the file
inside the installed package, so the page needs no network beyond this service. A browser keeps
the files and asks whether they changed: the answer is then 304, without the 5 MB.
"""

from pathlib import Path
from typing import NamedTuple

import plotly
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from hftlib.live.faults import ServiceFault

PAGE = Path(__file__).with_name("page")
POLICY = "; ".join(
    (
        "default-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # Plotly writes style attributes
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",  # no other page lays itself over the kill switch
    )
)


class PageFile(NamedTuple):
    """A file of the page and its media type."""

    path: Path
    media_type: str


_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_NAMES = (
    "style.css",
    "panels.css",
    "icon.svg",
    "main.js",
    "feed.js",
    "format.js",
    "dom.js",
    "charts.js",
    "symbols.js",
    "book.js",
    "panels.js",
    "glance.js",
    "model.js",
    "banners.js",
    "command.js",
    "settings.js",
)
FILES = {name: PageFile(PAGE / name, _TYPES[Path(name).suffix]) for name in _NAMES}
FILES["plotly.min.js"] = PageFile(
    Path(plotly.__file__).with_name("package_data") / "plotly.min.js", "text/javascript"
)
INDEX = PageFile(PAGE / "index.html", "text/html")

router = APIRouter(include_in_schema=False)


@router.get("/")
async def show_page(request: Request) -> Response:
    """The dashboard."""
    return _answer(request, INDEX)


@router.get("/page/{name}")
async def show_file(request: Request, name: str) -> Response:
    """A file of the dashboard."""
    if name not in FILES:
        raise ServiceFault(404, "no_route", "the page has no such file", "open / instead")
    return _answer(request, FILES[name])


def _answer(request: Request, file: PageFile) -> Response:
    """The file, or 304 if the client has these bytes."""
    stat = file.path.stat()
    headers = {
        "ETag": f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"',
        "Cache-Control": "no-cache",  # keep it, and ask each time
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
    }
    known = request.headers.get("if-none-match", "")
    if headers["ETag"] in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return FileResponse(file.path, media_type=file.media_type, headers=headers, stat_result=stat)
