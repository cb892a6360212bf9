"""Which requests the page answers."""

import contextlib
import ipaddress
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]

UPLOAD = "/upload"
MEGABYTE = 2**20
LARGEST_UPLOAD = 30 * MEGABYTE
LARGEST_REQUEST = MEGABYTE
MOST_UPLOADS = 1024 * MEGABYTE  # of all files that are kept at a time


def is_loopback(name: str) -> bool:
    """Whether a name or an address is this machine for itself."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that refuses requests for other hosts, and requests that are too large.

    A page of another site can let its own name point to 127.0.0.1 (DNS rebinding); the browser then sends
    that name as the host.

    Args:
        app: the application.
        local: answer requests for localhost and loopback addresses only.
        as_json: refuse with a JSON object, not with a text.
        uploads: the folder in which the application keeps uploads; None if it keeps none.
    """

    def __init__(self, app: Any, local: bool, as_json: bool = False, uploads: Path | None = None) -> None:
        self.app = app
        self.local = local
        self.as_json = as_json
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Answer a request, or refuse it."""
        problem = self.problem(scope) if scope["type"] in ("http", "websocket") else None
        if problem is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, text = problem
            kind = b"application/json" if self.as_json else b"text/plain; charset=utf-8"
            headers = [(b"content-type", kind), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send(
                {
                    "type": "http.response.body",
                    "body": (json.dumps({"error": text}) if self.as_json else text).encode(),
                }
            )

    def problem(self, scope: Scope) -> tuple[int, str] | None:
        """The status and a sentence for a request that is refused; None for others."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.local and not is_loopback(_name_of(headers.get(b"host", ""))):
            return 421, "This page is for this machine: open it as localhost, or start it with --public."
        if "chunked" in headers.get(b"transfer-encoding", "").lower():
            return 411, "A request needs a Content-Length."
        length = headers.get(b"content-length", "0")
        most = LARGEST_UPLOAD if scope["path"].endswith(UPLOAD) else LARGEST_REQUEST
        if not length.isdecimal() or int(length[:20]) > most:
            return 413, f"At most {most // MEGABYTE} MB."
        kept = self.uploads if scope["path"].endswith(UPLOAD) else None
        if kept is not None and _size_of(kept) + int(length) > MOST_UPLOADS:
            return 507, f"The uploads take {MOST_UPLOADS // MEGABYTE} MB; they are deleted after an hour."
        return None


def _size_of(folder: Path) -> int:
    """The bytes of all files in a folder, some of which are deleted meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _name_of(host: str) -> str:
    """The host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
