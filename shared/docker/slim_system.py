"""Copy from a base image only what a container needs at run time: `slim_system.py ROOT TARGET`.

Runs in a build stage of the Dockerfiles, as root, and uses only the standard library. The copy
becomes the first layer of the image, so no layer contains the rest. The copy leaves out:

- programs that install software: apt, dpkg, pip, and Perl, which their scripts need;
- programs that change users or mounts: passwd, login, mount;
- all set-uid bits, set-gid bits and file capabilities;
- the packages of the system's Python, because the program has its own environment;
- manuals and translations. Licences stay.

The list of Debian packages is kept without the packages that are left out, so that a scanner
reports what the image contains.
"""

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

PACKAGES = (
    *("apt", "libapt-pkg*", "gpgv", "debian-archive-keyring", "dpkg", "init-system-helpers"),
    *("perl*", "libperl*", "debconf*", "adduser"),
    *("passwd", "login", "mount", "util-linux*", "e2fsprogs", "libpam-*", "libsemanage*"),
    *("python3-pip*", "python3-setuptools*", "python3-wheel", "python3-pkg-resources"),
    *("python3-distutils", "python3-lib2to3", "python3*-venv"),
)
"""Debian packages that are left out."""
UNUSED = (
    *("usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/python-wheels"),
    *(
        "usr/share/perl*",
        "usr/lib/*/perl*",
        "etc/perl",
        "etc/apt",
        "etc/dpkg",
        "etc/pam.d",
        "etc/*-",
    ),
    *("usr/share/doc/*/[!c]*", "usr/share/doc/*/changelog*"),
    *(
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
    ),  # these belong to the machine that builds the image
    *("*/site-packages", "*/dist-packages", "*/ensurepip", "*/idlelib", "*/lib2to3"),
    *("usr/local/bin/pip*", "usr/local/bin/wheel", "usr/local/bin/idle*", "usr/local/bin/2to3*"),
)
"""Files and folders that are left out, whichever package they belong to."""
CONTENT = ("bin", "etc", "lib", "lib64", "sbin", "usr")
EMPTY = ("dev", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "var/tmp")
STATUS = Path("var/lib/dpkg/status")


def assemble(root: Path, target: Path) -> None:
    """Copy the system in `root` to a new folder, without the parts that are left out."""
    left_out = _files_of(root, set(_packages(root)))
    for name in EMPTY:
        (target / name).mkdir(parents=True, mode=0o755)
    for name in ("tmp", "var/tmp"):
        (target / name).chmod(0o1777)
    for path in _walk(root):
        if path not in left_out:
            _copy(root, target, path)
    for folder, _, _ in os.walk(target, topdown=False):
        _copy_times(root / Path(folder).relative_to(target), Path(folder))
    status = root / STATUS
    if status.is_file():
        kept = [text for name, text in _stanzas(root) if not _is_left_out(name)]
        (target / STATUS).parent.mkdir(parents=True)
        (target / STATUS).write_text("\n\n".join(kept) + "\n", encoding="utf-8")


def _stanzas(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each installed Debian package and its entry in the list of packages."""
    if (root / STATUS).is_file():
        for text in (root / STATUS).read_text(encoding="utf-8").strip().split("\n\n"):
            yield text.split("\n", 1)[0].removeprefix("Package: "), text


def _packages(root: Path) -> Iterator[str]:
    return (name for name, _ in _stanzas(root))


def _is_left_out(package: str) -> bool:
    return any(fnmatch(package, pattern) for pattern in PACKAGES)


def _files_of(root: Path, packages: set[str]) -> set[Path]:
    """Return the files that belong only to packages that are left out, relative to the root."""
    files: dict[bool, set[Path]] = {True: set(), False: set()}
    for record in (root / STATUS).parent.glob("info/*.list"):
        package = record.name.removesuffix(".list").split(":")[0]
        if package in packages:
            for line in record.read_text(encoding="utf-8").splitlines():
                path = root / line.lstrip("/")
                # /bin may be a link to /usr/bin, while the record still says /bin.
                place = path.parent.resolve() / path.name
                if not place.is_dir():
                    files[_is_left_out(package)].add(place.relative_to(root.resolve()))
    return files[True] - files[False]


def _walk(root: Path) -> Iterator[Path]:
    """Yield files and links to copy, relative to the root."""
    folders = [Path(name) for name in CONTENT if not (root / name).is_symlink()]
    yield from (Path(name) for name in CONTENT if (root / name).is_symlink())
    while folders:
        folder = folders.pop()
        for entry in os.scandir(root / folder) if (root / folder).is_dir() else ():
            path = folder / entry.name
            if any(fnmatch(str(path), pattern) for pattern in UNUSED):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                yield path


def _copy(root: Path, target: Path, path: Path) -> None:
    """Copy a file or link and the missing folders above it; keep only mode and times of a file."""
    for folder in reversed(path.parents):
        if not (target / folder).is_dir():
            (target / folder).mkdir()
            _copy_mode(root / folder, target / folder)
    shutil.copyfile(root / path, target / path, follow_symlinks=False)
    if not (root / path).is_symlink():
        _copy_mode(root / path, target / path)
        _copy_times(root / path, target / path)


def _copy_mode(source: Path, copy: Path) -> None:
    copy.chmod(stat.S_IMODE(source.stat().st_mode) & ~(stat.S_ISUID | stat.S_ISGID))


def _copy_times(source: Path, copy: Path) -> None:
    if source.is_dir() or source.is_file():
        times = source.stat()
        os.utime(copy, ns=(times.st_mtime_ns, times.st_mtime_ns))


if __name__ == "__main__":
    assemble(Path(sys.argv[1]), Path(sys.argv[2]))
