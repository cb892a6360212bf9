"""The errors of jsonargparse in one line: the key, what was found and expected, the nearest key."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterable

# where the classes lie that may be named without their module
SHORT_NAMES = (
    "torch.optim",
    "torch.optim.lr_scheduler",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.profilers",
)
UNKNOWN = r"Option '(?P<option>[^']+)' is not accepted|does not accept option '(?P<key>[^']+)'"
CAUSES = {
    "unknown": rf"{UNKNOWN}|unrecognized arguments: (?P<argument>\S+)",
    "unexpected": r"<class '(?P<of>(?:\w+\.)+\w+)'>\].*?Unexpected keys: \{(?P<unexpected>[^}]+)\}",
    "denied": r"Importing '(?P<path>[^']+)' is not allowed",
    "package": r"given class_path '(?P<user>[^']+)': "
    r"(?P<lacks>Neither `[^`]+` nor `[^`]+` is available|Requirement '[^']+' not met)",
    "other class": r"Import path (?P<other>\S+) does not correspond to a subclass of (?P<base>\w+)",
    "missing": r"the following arguments are required: (?P<names>[\w., ]+)",
    "ambiguous": r"Multiple subclasses with name \w+\. Give .*? ambiguity: (?P<choices>\w[\w., ]*\w)",
    "no class": r"(given class_path '(?P<class>[^']+)': )?"
    r"(module '\S+' has no attribute|No module named) '\S+'"
    r"|Expected a dot import path string: (?P<name>\S+)",
    "value": r"Expected a (?!<class 'NoneType'>)(<class|typing\.Literal)"
    r"|Not of type \w+: (?P<restricted>.*?)(?= - Expected a |$)",
}
EXPECTED = r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[([^]]+)\])"
FOUND = r"(?:Given value|Got value): (.*?)(?=\. Got value: | - Expected a | Given value type: |$)"


def explained(error: Exception, keys: Iterable[str] = (), program: str = "") -> str:
    """The message of an error of jsonargparse in one line.

    jsonargparse reports each alternative of a type on lines of its own; the first that fails for a reason of
    its own is the cause.

    Args:
        error: raised by a parser.
        keys: the known keys, among which the nearest to an unknown one is looked for.
        program: the command whose option --help lists the keys.
    """
    text = " ".join(str(error).split())
    found = {name: match for name, pattern in CAUSES.items() if (match := re.search(pattern, text))}
    if not found:
        text = re.sub(r'Parser key "([^"]+)":', r"\1:", text)
        return text if len(text) < 300 else f"{text[:300]}..."
    # an alternative that refuses the keys of a mapping is the one that was meant
    cause = "unexpected" if "unexpected" in found else min(found, key=lambda name: found[name].start())
    match = found[cause]
    before, after = text[: match.start()], text[match.start() :]
    key = ".".join(re.findall(r'Parser key "([^"]+)":', before))
    named = {name: value for name, value in match.groupdict().items() if value}
    if cause == "unknown":
        return _unknown_key(key, named, before, after, keys, program)
    if cause == "unexpected":
        name = named["unexpected"].split(",")[0].strip(" '")
        return f"{key}: there is no such key: {name}{_nearest(name, _annotations_of(named['of']))}"
    if cause == "denied":
        place = "a class is one of torch.nn, torch.optim, lightning or src"
        return f"{key}: {named['path']} may not be named in a configuration; {place}"
    if cause == "package":
        return f"{key}: {named['user']} needs another package: {named['lacks']}".lstrip(": ")
    if cause == "other class":
        return f"{key}: {named['other']} is no {named['base']}".lstrip(": ")
    if cause == "missing":
        names = named["names"].strip(" .").split(", ")
        return f"{key}: missing: ".lstrip(": ") + ", ".join(f"{key}.{name}".lstrip(".") for name in names)
    if cause == "ambiguous":
        return f"{key}: several classes have this name; give one of {named['choices']}"
    if cause == "no class":
        name = (named.get("class") or named.get("name", "")).rstrip(".")
        return f"{key}: there is no class {name}" + _nearest(name, _short_names())
    if "restricted" in named:
        rule = r"(.+) does not conform to restriction (.+)"
        return f"{key}: " + re.sub(rule, r"found \1, expected \2", named["restricted"]).replace(" v", " ")
    value = re.search(FOUND, after)
    until = value.start() if value else len(after)
    types = [a or b for a, b in re.findall(EXPECTED, after[:until]) if a != "NoneType"]
    # a value "Got" is a part of the whole: what stands before it was expected there
    if value and value[0].startswith("Got"):
        types = types[-1:]
    literals = [choice.strip(" '") for one in types if "'" in one for choice in one.split(",")]
    shown = value[1] if value else "?"
    shown = shown if len(shown) < 80 else f"{shown[:80]}..."
    return f"{key}: found {shown}, expected {' or '.join(types)}" + _nearest(shown, literals)


def _unknown_key(
    key: str, named: dict[str, str], before: str, after: str, keys: Iterable[str], program: str
) -> str:
    """The message of a key that the parser or a class does not have."""
    if "option" not in named:
        name = re.split("=|\\+", named.get("key") or named["argument"].lstrip("-"))[0]
        help_of = f"; all keys: {program} --help" if program else ""
        return f"{name}: there is no such key{_nearest(name, keys)}{help_of}"
    # the innermost class stands behind the cause, or else before it
    inner = re.match(r"Option '[^']+' is not accepted\. Got value: Namespace\(class_path='([^']+)'", after)
    classes = [inner[1]] if inner else re.findall(r"given class_path '([^']+)'", before)
    name = f"{key}.{named['option']}".lstrip(".")
    if not classes:
        return f"{name}: there is no such key"
    section, _, last = name.rpartition(".")
    near = _nearest(last, _arguments_of(classes[-1]), f"{section}." if section else "")
    owner = key.partition(".")[0]
    help_of = f"; all keys: {program} --{owner}.help {classes[-1]}" if program and owner == key else ""
    return f"{name}: {classes[-1]} has no such argument{near}{help_of}"


def _nearest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """The end of a message: the most similar name, if there is one."""
    near = difflib.get_close_matches(name, list(names), 1, 0.7)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _short_names() -> list[str]:
    """The classes of torch and Lightning that need no module, as far as they are imported."""
    modules = [sys.modules[name] for name in SHORT_NAMES if name in sys.modules]
    return [name for module in modules for name, value in vars(module).items() if inspect.isclass(value)]


def _arguments_of(path: str) -> list[str]:
    """The arguments of a class that the parser has imported."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return list(inspect.signature(found).parameters) if inspect.isclass(found) else []


def _annotations_of(path: str) -> list[str]:
    """The keys of a TypedDict that the parser has imported."""
    module, _, name = path.rpartition(".")
    return list(getattr(getattr(sys.modules.get(module), name, None), "__annotations__", ()))
