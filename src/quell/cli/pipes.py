"""Pipes: the dash between commands of MRtrix, `mrconvert a.nii - | quell denoise - b.mif`.

Idea    Through such a pipe goes no image but the name of a temporary one. Who reads it deletes it.
Trap    The name comes from outside: only a file named as MRtrix names its temporary ones is
        deleted, and nothing else that a pipe may name.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..files import Files
from ..series import InputError
from .options import DASH

PREFIX = "mrtrix-tmp-"
LONGEST = 4096  # bytes of a path


@contextmanager
def piped(files: Files) -> Iterator[Files]:
    """The files of a run, those that a dash stands for by their names."""
    with piped_in(files.scan) as scan, piped_out(files.out) as out:
        yield replace(files, scan=scan, out=out, is_piped=files.out == DASH)


@contextmanager
def piped_in(scan: Path) -> Iterator[Path]:
    """The file that a dash stands for, gone afterwards; any other path as it is.

    Raises InputError where no file's name comes.
    """
    if scan != DASH:
        yield scan
        return
    if sys.stdin.isatty():
        raise InputError("- reads the name of a file from a pipe, and nothing is piped in", 2)
    line = sys.stdin.buffer.readline(LONGEST + 1)
    name = line.strip(b"\r\n")
    if not name:
        raise InputError("no file came through the pipe; see what the command before it says")
    if len(line) > LONGEST or b"\0" in name:
        raise InputError("what was piped in is no file's name; - is for commands of MRtrix")
    path = Path(os.fsdecode(name))
    try:
        yield path
    finally:
        if path.name.startswith(PREFIX):
            with suppress(OSError):
                path.unlink()


@contextmanager
def piped_out(out: Path) -> Iterator[Path]:
    """A temporary image where a dash is given, its name told once all is done.

    Raises InputError where nobody is there to be told.
    """
    if out != DASH:
        yield out
        return
    if sys.stdout.isatty():
        raise InputError("- writes into a pipe, and there is none; give a file's name", 2)
    folder = os.environ.get("MRTRIX_TMPFILE_DIR") or tempfile.gettempdir()
    try:
        handle, name = tempfile.mkstemp(".mif", PREFIX, folder)
    except OSError as error:
        raise InputError(f"{folder} can't be written ({error.strerror}); set TMPDIR") from None
    os.close(handle)
    path = Path(name)
    try:
        yield path
        os.chmod(path, 0o600)  # a scan in a folder of all: its owner's only
        print(path, flush=True)
    except BaseException:
        path.unlink(missing_ok=True)
        shutil.rmtree(Files(path, path).work, ignore_errors=True)  # nobody can go on from there
        raise
