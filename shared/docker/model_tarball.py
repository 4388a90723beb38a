"""Write an algorithm's models as a tarball that the platform unpacks at /opt/ml/model.

`model_tarball.py NAME FILE` writes it; `model_tarball.py NAME` lists the model folders. As in the
image, the algorithm's own folder is at the top and the bundled ones are below it. The same models
give the same bytes. Uses only the standard library.
"""

import gzip
import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from shared.editions import CURRENT
from shared.files import whole


def write_tarball(path: Path, folders: Mapping[str, Path]) -> None:
    """Write model folders as a tarball.

    Parameters
    ----------
    folders : the model folders by their place in the tarball; "." is the top. Subfolders of a
        model folder are left out.
    """
    with (
        whole(path) as draft,
        draft.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for place, folder in sorted(folders.items()):
            prefix = "" if place == "." else f"{place}/"
            if prefix:
                entry = tarfile.TarInfo(place)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            for source in sorted(source for source in folder.iterdir() if source.is_file()):
                content = source.read_bytes()
                entry = tarfile.TarInfo(prefix + source.name)
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))


def main(arguments: list[str]) -> int:
    """List the model folders of an algorithm of this checkout, or write their tarball.

    Parameters
    ----------
    arguments : the algorithm's name and, to write the tarball, its path.
    """
    name, *path = arguments
    folders = {each.name: each.model_folders(Path()) for each in CURRENT.algorithms}
    if name not in folders:
        names = ", ".join(folders)
        print(f"expected one of {names} in shared/editions.py, found {name!r}", file=sys.stderr)
        return 1
    if path:
        write_tarball(Path(path[0]), folders[name])
    else:
        print(*folders[name].values(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
