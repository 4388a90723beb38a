"""Checks that an image has no installers, no privileged programs, and only files of root."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable
from typing import Final

from tests.containers.checks import Check

INSTALLERS: Final = re.compile(
    r"(^|/)s?bin/(pip|apt|aptitude|dpkg|easy_install|perl|cpan)[0-9.]*(-[a-z]+)*$"
    r"|/(pip|ensurepip|setuptools)/__init__\.py$|/(pip|setuptools)-[^/]*\.whl$|/perl[^/]*/.*\.pm$"
)
CAPABILITIES: Final = "SCHILY.xattr.security.capability"
"""Key under which an archive stores the capabilities of a program."""


def check_files(entries: Iterable[tarfile.TarInfo]) -> list[Check]:
    """Check the files of an image.

    Parameters
    ----------
    entries : the entries of an archive of the container's file system.
    """
    privileged, installers, writable, count = [], [], [], 0
    for entry in entries:
        count += 1
        if entry.isfile() and (entry.mode & 0o6000 or CAPABILITIES in entry.pax_headers):
            privileged.append(entry.name)
        if INSTALLERS.search(entry.name):
            installers.append(entry.name)
        if entry.isfile() and (entry.mode & 0o002 or entry.uid != 0):
            writable.append(entry.name)
    return [
        Check("files", None if count else "expected files in the image, found none"),
        Check(
            "no privileged program",
            _problem("without set-uid, set-gid or capabilities", privileged),
        ),
        Check("no installer", _problem("other than pip, apt, dpkg and Perl", installers)),
        Check("files of root", _problem("that only root can change", writable)),
    ]


def _problem(wish: str, names: list[str]) -> str | None:
    more = f" and {len(names) - 5} others" if len(names) > 5 else ""
    return f"expected only files {wish}, found {', '.join(names[:5])}{more}" if names else None
