"""What a process on another machine prints, shown by this one: through files of the shared folder."""

import codecs
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHOWING = 0.1  # seconds between two looks at the files


class Output(io.TextIOWrapper):
    """What a process prints, appended to a file that another process shows."""

    def __init__(self, path: Path, terminal: bool) -> None:
        super().__init__(path.open("ab"), encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        """Whether it will be shown on a terminal."""
        return self.terminal


def files_beside(token: Path) -> tuple[Path, Path]:
    """The files of standard output and standard error."""
    return token.with_name(f"{token.name}.out"), token.with_name(f"{token.name}.err")


@contextmanager
def shown(token: Path) -> Iterator[None]:
    """Print what another process writes to the files beside `token`, until the end of the block."""
    ended = threading.Event()

    def show() -> None:
        decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in files]
        last = False
        while not last:
            last = ended.wait(SHOWING)
            for file, decoder, stream in zip(files, decoders, (sys.stdout, sys.stderr), strict=True):
                if text := decoder.decode(file.read()):
                    stream.write(text)
                    stream.flush()

    files = []
    for path in files_beside(token):
        path.touch()
        files.append(path.open("rb", buffering=0))
    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for file in files:
            file.close()
