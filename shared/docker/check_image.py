"""Check an image and its archive as the platform does, before anything is uploaded.

`check_image.py config IMAGE` reads the output of `docker image inspect` from stdin;
`check_image.py archive FILE` reads an archive of `docker save`. Uses only the standard library.
"""

import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PLATFORM = "linux/amd64"
LIMIT_BYTES = 10 * 10**9
MODES = ("exec", "invoke")
MODE_LABEL = "org.grand-challenge.api-method"


def find_faults(image: dict[str, Any], mode: str | None = None) -> Iterator[str]:
    """Yield the reasons why the platform would reject an image.

    Parameters
    ----------
    image : an entry of the output of `docker image inspect`.
    mode : the mode that the image should have, "exec" or "invoke"; None accepts both. The platform
        runs an image without a label in exec mode.
    """
    config = image.get("Config") or {}
    user = str(config.get("User") or "").split(":")[0]
    if user in ("", "root") or (user.isdigit() and int(user) == 0):
        name = user or "none"
        yield f"expected a USER other than root, found {name}; add USER to the Dockerfile"
    platform = f"{image.get('Os')}/{image.get('Architecture')}"
    if platform != PLATFORM:
        yield f"expected an image for {PLATFORM}, found {platform}; build it for {PLATFORM}"
    size = int(image.get("Size", 0))
    if size > LIMIT_BYTES:
        yield f"expected at most {LIMIT_BYTES} bytes, found {size}; upload the weights separately"
    label = (config.get("Labels") or {}).get(MODE_LABEL, "exec")
    if label not in MODES or mode not in (None, label):
        wanted = mode or " or ".join(MODES)
        yield f"expected {wanted} in the label {MODE_LABEL}, found {label!r}; build it again"


def find_archive_fault(path: Path) -> str | None:
    """Return why the platform would reject an archive, or None."""
    try:
        with tarfile.open(path) as archive:
            file = archive.extractfile("manifest.json")
            images = json.load(file) if file is not None else []
    except (tarfile.TarError, KeyError, ValueError, EOFError, OSError) as error:
        return f"expected an archive of an image in {path.name}, found none: {error}; save it again"
    if len(images) != 1:
        return f"expected one image in the archive, found {len(images)}; save one tag"
    return None


def main(arguments: list[str]) -> int:
    """Print the faults on stderr and return 1 if there are any."""
    what, name, *mode = arguments
    if what == "config":
        (image,) = json.load(sys.stdin)
        faults = [f"{name}: {fault}" for fault in find_faults(image, *filter(None, mode))]
    else:
        faults = list(filter(None, [find_archive_fault(Path(name))]))
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
