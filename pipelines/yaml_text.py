"""Edit the text of a YAML file: insert or remove an entry, and keep everything else byte for byte.

YAML libraries that keep comments rewrite the indentation of lists, line ends, `null` and lists over several
lines.
"""

from collections.abc import Iterator

import yaml

from pipelines.parameters import LOADER

Top = dict[str, tuple[int, yaml.Node]]


def with_line(text: str, section: str, name: str, value: str) -> str:
    """Insert a line `name: value` at the end of a section of params.yaml; one that is absent follows `tasks`.

    New lines end as the others do. A section in braces stays as it is.
    """
    lines, newline, top = composed(text)
    if section not in top:
        tasks = top["tasks"][1]
        if isinstance(tasks, yaml.MappingNode) and tasks.value and not tasks.flow_style:
            place = tasks.value[-1][1].end_mark.line + 1
            lines[place:place] = [newline, f"{section}:{newline}", f"  {name}: {value}{newline}"]
        return "".join(lines)
    found = top[section][1]
    if not (isinstance(found, yaml.MappingNode) and found.value):  # `tasks: {}`, or nothing behind the colon
        line = lines[found.start_mark.line]
        before, behind = line[: found.start_mark.column].rstrip(), line[found.end_mark.column :]
        lines[found.start_mark.line] = before + behind
        after, column = found.end_mark.line + 1, 2
    elif found.flow_style:
        return text
    else:
        key, last = found.value[-1]
        after, column = last.end_mark.line + 1, key.start_mark.column
    lines.insert(after, f"{' ' * column}{name}: {value}{newline}")
    return "".join(lines)


def without(text: str, *path: str) -> str:
    """Remove an entry, with the comments directly above it; the last entry of a mapping leaves `{}`.

    Comments above the first entry of a mapping stay, since they may be about all entries.

    Args:
        text: of a YAML mapping.
        path: the key, after the keys of the mappings around it.

    Returns:
        The text as it was if there is no such entry, or if it stands in braces beside others.
    """
    root = yaml.compose(text, LOADER)
    holder: tuple[yaml.Node, yaml.Node] | None = None
    for name in path[:-1]:
        holder = dict(_entries(holder[1] if holder else root)).get(name)
        if holder is None:
            return text
    mapping = holder[1] if holder else root
    entries = dict(_entries(mapping))
    if path[-1] not in entries or getattr(mapping, "flow_style", False):
        return text
    lines, newline, _ = composed(text)
    key, value = entries[path[-1]]
    first, last = _extent(lines, key, value, comments=[*entries].index(path[-1]) > 0)
    lines[first : last + 1] = []
    before = lines[first - 1] if first else ""
    if not before.strip():  # one of two empty lines, or that at the end
        if first < len(lines) and not lines[first].strip():
            del lines[first]
        elif first and first == len(lines):
            del lines[first - 1]
    if len(entries) == 1:
        if holder is None:
            lines.append(f"{{}}{newline}")
        else:
            mark = holder[0].end_mark
            colon = lines[mark.line].index(":", mark.column) + 1
            lines[mark.line] = f"{lines[mark.line][:colon]} {{}}{lines[mark.line][colon:]}"
    return "".join(lines)


def composed(text: str) -> tuple[list[str], str, Top]:
    """The lines of a YAML mapping, their end, and for each key its line and value."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = (text if text.endswith("\n") else text + newline).splitlines(keepends=True)
    root = yaml.compose(text, LOADER)
    return lines, newline, {name: (key.start_mark.line, value) for name, (key, value) in _entries(root)}


def _entries(mapping: yaml.Node | None) -> Iterator[tuple[str, tuple[yaml.Node, yaml.Node]]]:
    """The keys of a mapping, with the nodes of key and value."""
    if isinstance(mapping, yaml.MappingNode):
        yield from ((key.value, (key, value)) for key, value in mapping.value)


def _extent(lines: list[str], key: yaml.Node, value: yaml.Node, comments: bool) -> tuple[int, int]:
    """The first and the last line of an entry, with the comments that belong to it."""
    column, first = key.start_mark.column, key.start_mark.line
    last = max(first, _last_line(value))
    while not lines[last].strip():  # behind a text over several lines
        last -= 1

    def indentation_of_comment(line: str) -> int | None:
        return len(line) - len(line.lstrip()) if line.lstrip().startswith("#") else None

    while comments and indentation_of_comment(lines[first - 1]) == column:
        first -= 1
    while last + 1 < len(lines) and (indentation_of_comment(lines[last + 1]) or 0) > column:
        last += 1
    return first, last


def _last_line(node: yaml.Node) -> int:
    """The last line of a value. To YAML, a mapping without braces ends behind the comments after it."""
    if isinstance(node, yaml.MappingNode | yaml.SequenceNode) and node.value and not node.flow_style:
        inner = (
            node.value
            if isinstance(node, yaml.SequenceNode)
            else [one for pair in node.value for one in pair]
        )
        return max(map(_last_line, inner))  # an alias has the place of its anchor, which is before
    return node.end_mark.line - (node.end_mark.column == 0)
