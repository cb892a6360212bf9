"""The models as a service with JSON: python -m pipelines.serve --api."""

import base64
import binascii
import html
import inspect
import json
import logging
import math
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pandas as pd
import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware import Middleware
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from starlette.exceptions import HTTPException

from pipelines.serve.guard import Guard
from pipelines.serve.serve import bundle_folders, load_each
from src.bundle.bundle import Bundle
from src.bundle.load import Predictor, predictor_of
from src.bundle.predict import ready
from src.core.documents import parsed_json
from src.core.errors import ConfigurationError, DataError, ResourceError, reported_error
from src.core.pictures import require_few_pixels

logger = logging.getLogger(__name__)

SETTINGS = "LOCKSTEP_API"  # environment variable: the arguments of `application`, for further processes
LONGEST_NAME = 100  # bytes
MOST_ROWS, MOST_LINES, MOST_PICTURES, MOST_TEXTS, LONGEST_TEXT = 10_000, 100_000, 100, 100, 2000
MOST_RESULTS = 2000  # of texts: their number times the whole numbers among the options
MOST_CELLS = 4_000_000  # of a table
MOST_CONNECTIONS = 64
Inputs = list[Any] | pd.DataFrame | Path


class Service:
    """A model and what a request for it may hold.

    The name and the type of the argument behind model and preprocessing of the function that predicts say
    what that is: a table, pictures or texts.

    Args:
        bundle: with its model.

    Raises:
        ConfigurationError: its kind of data cannot predict what is in memory.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.predictor = Predictor(bundle)
        function = predictor_of(bundle)
        _, _, argument, *options = inspect.signature(function).parameters.values()
        hints = _parts(get_type_hints(function)[argument.name])
        self.key = argument.name
        self.takes = "pictures" if Image.Image in hints else "table" if pd.DataFrame in hints else "texts"
        any_name = any(option.kind is inspect.Parameter.VAR_KEYWORD for option in options)
        self.known = None if any_name else [self.key, *(option.name for option in options)]

    def from_json(self, body: Any, folder: Path) -> tuple[Inputs, dict[str, Any]]:
        """Inputs and options of a JSON document.

        Args:
            body: the document.
            folder: for pictures.

        Raises:
            DataError: it has another form, or too much of something.
        """
        if not isinstance(body, dict) or not isinstance(body.get(self.key), list):
            raise DataError(f'expected an object such as {{"{self.key}": [...]}}')
        items, options = body[self.key], {name: body[name] for name in body if name != self.key}
        if self.known is not None and (unknown := options.keys() - self.known):
            raise DataError(f"{min(unknown)}: there is no such key; there is: {', '.join(self.known)}")
        most = {"table": MOST_ROWS, "pictures": MOST_PICTURES, "texts": MOST_TEXTS}[self.takes]
        if not 0 < len(items) <= most:
            raise DataError(f"{self.key}: {len(items)}, expected 1 to {most:,}")
        if self.takes == "table":
            if not all(isinstance(row, dict) and all(map(_is_cell, row.values())) for row in items):
                raise DataError(f"{self.key}: expected objects whose values are numbers, texts or null")
            if len(items) * len({key for row in items for key in row}) > MOST_CELLS:
                raise DataError(f"{self.key}: more than {MOST_CELLS:,} cells, rows times different keys")
            return pd.DataFrame(items), options
        if not all(isinstance(item, str) for item in items):
            raise DataError(f"{self.key}: expected texts")
        if self.takes == "pictures":
            return _small(_decoded(items, folder)), options
        if any(isinstance(value, str) and len(value) > LONGEST_TEXT for value in options.values()):
            raise DataError(f"an option has at most {LONGEST_TEXT:,} characters")
        numbers = [max(_whole(value), 1) for name, value in options.items() if name != "seed"]
        if max(map(len, items)) > LONGEST_TEXT or math.prod(numbers, start=len(items)) > MOST_RESULTS:
            raise DataError(
                f"{self.key}: at most {LONGEST_TEXT:,} characters each, and {MOST_RESULTS:,} results: their "
                "number times the whole numbers among the options"
            )
        return items, options

    def from_files(self, files: list[tuple[str, bytes]], folder: Path) -> Inputs:
        """Inputs of files: one table in CSV, or pictures.

        Args:
            files: their names and contents.
            folder: to write them to.

        Raises:
            DataError: a file of another form, or too much of something.
        """
        if self.takes == "table":
            if len(files) != 1 or not files[0][0].lower().endswith((".csv", ".tsv")):
                raise DataError("expected one file: .csv or .tsv")
            if files[0][1].count(b"\n") > MOST_LINES:
                raise DataError(f"{files[0][0]}: more than {MOST_LINES:,} lines")
            return _written(files, folder)[0]
        if not 0 < len(files) <= MOST_PICTURES:
            raise DataError(f"{len(files)} pictures, expected 1 to {MOST_PICTURES}")
        return _small(_written(files, folder))

    def schema(self) -> dict[str, Any]:
        """The JSON documents that `from_json` takes, for OpenAPI."""
        item: dict[str, Any] = {"type": "string"}
        if self.takes == "table":
            item = {"type": "object", "example": self.example()}
        elif self.takes == "pictures":
            item["contentEncoding"] = "base64"
        items = {"type": "array", "items": item, "minItems": 1}
        return {
            "type": "object",
            "required": [self.key],
            "properties": {self.key: items},
            "additionalProperties": self.known is None or len(self.known) > 1,
        }

    def example(self) -> dict[str, Any]:
        """A typical row, where the preprocessing knows one."""
        row: dict[str, Any] = getattr(self.predictor.bundle.preprocessing, "example", {})
        return row


def application(bundles: Path | str | None = None, public: bool = False) -> FastAPI:
    """The service with the bundles of a folder, or with one.

    Args:
        bundles: the folder; left out, it and `public` are those of the environment variable `SETTINGS`.
        public: answer under every name.

    Raises:
        LockstepError: no bundle can be loaded.
    """
    if bundles is None:
        settings = json.loads(os.environ[SETTINGS])
        bundles, public = settings["bundles"], settings["public"]
    folders = bundle_folders(Path(str(bundles)))
    services, problems = load_each(folders, lambda folder: Service(ready(Bundle.open(folder))))
    app = FastAPI(
        title="Lockstep",
        docs_url=None,  # FastAPI's pages load scripts from other machines
        redoc_url=None,
        middleware=[Middleware(Guard, local=not public, as_json=True)],
    )
    schemas: dict[str, Any] = {}  # of the requests, by path
    turn = threading.Lock()  # one request at a time: the models share the number of threads

    def respond(service: Service, read: Callable[[Path], tuple[Inputs, dict[str, Any]]]) -> JSONResponse:
        with tempfile.TemporaryDirectory(prefix="lockstep-") as folder:
            try:
                inputs, options = read(Path(folder))
                with turn:
                    found = service.predictor.predict(inputs, **options)
            except Exception as error:
                return _refusal(error, folder)
        return JSONResponse({"predictions": records(found)})

    def add(name: str, service: Service) -> None:
        async def by_json(request: Request) -> JSONResponse:
            try:
                body = parsed_json((await request.body()).decode())
            except ValueError as error:
                raise HTTPException(422, f"the request is not JSON: {error}") from None
            return await run_in_threadpool(respond, service, lambda folder: service.from_json(body, folder))

        async def by_file(request: Request) -> JSONResponse:
            async with request.form(max_files=MOST_PICTURES, max_fields=0) as form:
                sent = [file for _, file in form.multi_items() if not isinstance(file, str)]
                files = [(file.filename or "", await file.read()) for file in sent]
            return await run_in_threadpool(
                respond, service, lambda folder: (service.from_files(files, folder), {})
            )

        path, text = f"/predict/{name}", f"Predict with {name}."
        app.post(path, summary=text)(by_json)
        schemas[path] = {"application/json": {"schema": service.schema()}}
        if service.takes != "texts":
            file = {"type": "string", "format": "binary"}
            form = {"type": "object", "properties": {"file": {"type": "array", "items": file}}}
            app.post(f"{path}/upload", summary=text)(by_file)
            schemas[f"{path}/upload"] = {"multipart/form-data": {"schema": form}}

    for name, service in services.items():
        add(name, service)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """The models that answer, and those that could not be loaded."""
        return {"status": "ok", "models": list(services), "not_loaded": problems}

    @app.get("/", response_class=HTMLResponse)
    def overview() -> str:
        """A page with the addresses of the models."""
        return _page(services, problems)

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)

    described = app.openapi()["paths"]
    for path, content in schemas.items():  # `openapi_extra` would leave out the nulls of an example
        described[path]["post"]["requestBody"] = {"required": True, "content": content}
    return app


def run(bundles: Path, port: int, address: str, public: bool, workers: int) -> None:
    """Serve until Ctrl-C.

    Args:
        bundles: as of `application`.
        port: to listen on.
        address: to listen on.
        public: answer under every name.
        workers: processes; each loads all models.

    Raises:
        ResourceError: another process uses the port.
    """
    try:
        socket.create_server((address, port), family=_family(address)).close()
    except OSError as error:
        raise ResourceError(
            f"the service cannot use {address}:{port}: {error}; choose another --port"
        ) from None
    options: dict[str, Any] = {"host": address, "port": port, "log_level": "warning"}
    options["limit_concurrency"] = MOST_CONNECTIONS
    print(f"the service: http://{address}:{port}/ (Ctrl-C ends it)", flush=True)
    if workers == 1:
        uvicorn.run(application(bundles, public), **options)
        return
    os.environ[SETTINGS] = json.dumps({"bundles": str(bundles), "public": public})
    uvicorn.run("pipelines.serve.api:application", factory=True, workers=workers, **options)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of predictions as JSON objects; 32-bit numbers have the digits that CSV files have."""
    short = table.select_dtypes("float32").columns
    table = table.assign(**{name: table[name].astype(str).astype(float) for name in short})
    content: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return content


def _refusal(error: Exception, folder: str) -> JSONResponse:
    """The answer to a request that cannot be answered: one line, without the folder of its files."""
    known = reported_error(error)
    if known is None:
        logger.exception("a request failed")
        return JSONResponse({"error": f"the model cannot answer this ({type(error).__name__})"}, 500)
    text = " ".join(str(known).replace(f"{folder}/", "").split())
    return JSONResponse({"error": text}, 422 if isinstance(known, ConfigurationError | DataError) else 500)


def _parts(hint: Any) -> set[Any]:
    """A type and all types within it."""
    return {hint}.union(*map(_parts, get_args(hint)))


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _decoded(texts: list[str], folder: Path) -> list[Path]:
    """Pictures in base64, as files that are named by their numbers."""
    try:
        contents = [base64.b64decode(text, validate=True) for text in texts]
    except binascii.Error as error:
        raise DataError(f"a picture is not base64: {error}") from None
    return _written([(str(number), content) for number, content in enumerate(contents, 1)], folder)


def _whole(value: Any) -> int:
    """The whole number that an option is read as, of a text such as `0x10` as YAML has it; 0 for others."""
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            return 0
    return value if type(value) is int else 0


def _written(files: list[tuple[str, bytes]], folder: Path) -> list[Path]:
    """Write files under their own names, each in a folder of its own."""
    paths = []
    for number, (name, content) in enumerate(files):
        last = Path(name.replace("\\", "/")).name.encode()[-LONGEST_NAME:].decode(errors="ignore")
        path = folder / str(number) / (last if last.strip(".") else "file")
        path.parent.mkdir()
        path.write_bytes(content)
        paths.append(path)
    return paths


def _small(paths: list[Path]) -> list[Path]:
    """The same files, none of which is a picture of too many pixels."""
    for path in paths:
        require_few_pixels(path)
    return paths


def _page(services: Mapping[str, Service], problems: Mapping[str, str]) -> str:
    parts = []
    for name, service in services.items():
        document: dict[str, Any] = {service.key: ["..."]}
        if service.takes == "table":
            document = {service.key: [service.example()]}
        text = json.dumps(document, ensure_ascii=False)
        call = f"curl localhost:PORT/predict/{name} --json '{text}'"
        if service.takes != "texts":
            call += f"\ncurl localhost:PORT/predict/{name}/upload -F file=@FILE"
        parts.append(f"<h2>{html.escape(name)}</h2><pre>{html.escape(call)}</pre>")
    parts += [f"<p>{html.escape(name)}: {html.escape(text)}</p>" for name, text in problems.items()]
    style = "<style>body{font-family:system-ui;margin:2em}pre{white-space:pre-wrap}</style>"
    links = '<p><a href="openapi.json">openapi.json</a>, <a href="health">health</a></p>'
    return f"<!doctype html><title>Lockstep</title>{style}<h1>Models</h1>{links}{''.join(parts)}"
