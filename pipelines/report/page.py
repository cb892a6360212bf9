"""The parts of report.html: pictures as data URIs, tables and poems read from reports/, and its template."""

import csv
import io
import re
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from PIL import Image, UnidentifiedImageError

from pipelines.report.captions import pictures_of, tables_of
from pipelines.report.scores import shown_metric, shown_number
from src.core.documents import flat_keys
from src.core.errors import IntegrityError

TEMPLATES = Path(__file__).parent
MOST_SIDE = 16_383  # pixels of WebP
WIDE = 1000  # pixels from which on a picture has a row of its own
CHINESE = re.compile("[\u4e00-\u9fff]")
DIGEST = re.compile("[0-9a-f]{64}")
NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]?\d+)?( ± ([\d.]+(e[-+]?\d+)?)?)?")
OPTION = re.compile(r"--data\.compose\.(\S+ [^\s`]+)")
VERSE = re.compile(r"[^，。？！\n]+[，。？！]?")


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    title: str
    description: str
    uri: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether it needs a row of its own."""
        return self.width >= WIDE


@dataclass(frozen=True)
class Table:
    """Headings and rows, all of the same length."""

    headings: list[str]
    rows: list[list[str]]

    @property
    def numeric(self) -> list[bool]:
        """For each column whether it holds numbers only, empty cells aside."""
        columns = [[row[number] for row in self.rows] for number in range(len(self.headings))]
        return [any(column) and all(NUMBER.fullmatch(cell) for cell in column if cell) for column in columns]


@dataclass(frozen=True)
class Poem:
    """A poem, and the keys of `data.compose` with which it was written."""

    keys: list[str]
    verses: list[str]


@dataclass
class Document:
    """The parts of a file in tables/."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    poems: list[Poem] = field(default_factory=list)


def read_pictures(folder: Path, kind: str, facts: dict[str, Any]) -> list[Picture]:
    """The PNG and SVG files of a folder, in the order of their captions; those without a caption last.

    Args:
        folder: such as reports/<task>/plots.
        kind: of the task's data; it has captions of its own.
        facts: the values that the captions name.

    Raises:
        IntegrityError: a file is not a picture.
    """
    captions = pictures_of(kind)
    order = {stem: number for number, stem in enumerate(captions)}
    paths = [path for path in folder.iterdir() if path.suffix in (".png", ".svg")]
    paths.sort(key=lambda path: (order.get(path.stem, len(order)), path.name))
    return [_picture(path, captions, facts) for path in paths]


def _picture(path: Path, captions: dict[str, tuple[str, str]], facts: dict[str, Any]) -> Picture:
    plain = _plain_name(path)
    title, description = captions.get(path.stem, (plain, "{picture} of {name}."))
    description = description.format(picture=plain, **facts)
    if path.suffix == ".svg":
        content, kind = path.read_bytes(), "svg+xml"
        found = re.search(rb'viewBox="\S+ \S+ ([\d.]+) ([\d.]+)"', content)
        width, height = (round(float(side)) for side in found.groups()) if found else (640, 480)
    else:
        content, kind = _compressed(path), "webp"
        width, height = Image.open(path).size
    uri = f"data:image/{kind};base64,{b64encode(content).decode()}"
    return Picture(title, description, uri, width, height)


def _plain_name(path: Path) -> str:
    """The name of a file as a title."""
    return path.stem.replace("_", " ").capitalize()


def _compressed(path: Path) -> bytes:
    """The picture on white, as lossless WebP: half the bytes of matplotlib's PNG."""
    try:
        picture = Image.open(path).convert("RGBA")
    except (UnidentifiedImageError, OSError) as error:
        raise IntegrityError(
            f"{path} is not a picture ({error}); remove it, then run: dvc checkout"
        ) from None
    picture.thumbnail((MOST_SIDE, MOST_SIDE))  # smaller ones stay as they are
    paper = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    stream = io.BytesIO()
    paper.save(stream, "WEBP", lossless=True, quality=25, method=2)
    return stream.getvalue()


def read_documents(folder: Path, kind: str) -> list[Document]:
    """The Markdown and CSV files of a folder, sorted by name.

    Args:
        folder: such as reports/<task>/tables.
        kind: of the task's data; it has titles of its own.
    """
    titles = tables_of(kind)
    paths = (path for path in sorted(folder.iterdir()) if path.suffix in (".md", ".csv"))
    return [_document(path, titles.get(path.stem, _plain_name(path))) for path in paths]


def _document(path: Path, title: str) -> Document:
    document = Document(title)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        headings, *rows = csv.reader(io.StringIO(text))
        document.tables.append(Table(headings, rows))
        return document
    # No links, pictures or emphasis: names in the text come from the user's data and are not markup.
    markdown = MarkdownIt("zero").enable(["heading", "blockquote", "table"])
    for node in SyntaxTreeNode(markdown.parse(text)).children:
        if node.type == "table":
            lines = [row for part in node.children for row in part.children]
            headings, *rows = [[cell.children[0].content for cell in line.children] for line in lines]
            document.tables.append(Table(headings, rows))
        elif node.type == "blockquote":
            keys = OPTION.findall(document.paragraphs.pop()) if document.paragraphs else []
            verses = VERSE.findall(node.children[0].children[0].content)
            document.poems.append(Poem(keys, [verse.strip() for verse in verses if verse.strip()]))
        elif node.type == "heading":
            document.title = node.children[0].content
        else:
            document.paragraphs.append(node.children[0].content)
    return document


def settings_table(values: dict[str, Any]) -> Table:
    """Nested keys as on the command line; a class is the value of the key that it stands for."""
    flat = flat_keys(values) if values else {}
    return Table(
        ["key", "value"], [[key.removesuffix(".class_path"), _shown(value)] for key, value in flat.items()]
    )


def _shown(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def slug(name: str) -> str:
    """A name as part of a link within the page."""
    return re.sub(r"[^\w.-]+", "-", name)


def render(**values: Any) -> str:
    """Fill the template report.html; all values are escaped."""
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters |= {"slug": slug, "shown_metric": shown_metric, "shown_number": shown_number}
    jinja.tests |= {"chinese": CHINESE.search, "digest": DIGEST.fullmatch}
    return jinja.get_template("report.html").render(**values)
