"""Write the software bill of materials of an image, in CycloneDX 1.6.

`sbom.py NAME VERSION CREATED ARCHIVE` reads the output of `inventory.py` from stdin and writes to
stdout. NAME and VERSION are those of the image, CREATED is its date, and ARCHIVE is the file that
`docker save` wrote, compressed by gzip. The same image and archive give the same bytes. Needs
cyclonedx-python-lib.
"""

import hashlib
import json
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def describe(inventory: dict[str, Any]) -> Iterator[Component]:
    """Yield the components of an image: system, packages, models."""
    system = inventory["system"]
    yield Component(
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="system",
        name=system["name"],
        version=system["version"],
    )
    for package in inventory["python"]:
        url = PackageURL("pypi", None, package["name"], package["version"])
        yield Component(
            bom_ref=url.to_string(),
            name=package["name"],
            version=package["version"],
            purl=url,
            licenses=_licences(package["licence"]),
        )
    for package in inventory["debian"]:
        qualifiers = {
            "arch": package["architecture"],
            "distro": f"{system['name']}-{system['version']}",
        }
        name, version = package["package"], package["version"]
        url = PackageURL("deb", system["name"], name, version, qualifiers)
        yield Component(bom_ref=url.to_string(), name=name, version=version, purl=url)
    for model in inventory["models"]:
        yield Component(
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=f"model/{model['file']}",
            name=model["file"],
            version=model["sha256"][:12],
            description=f"{model['task']} model, trained on: {model['data']}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=model["sha256"])],
            licenses=_licences(model["licence"]),
        )


def make_bom(
    inventory: dict[str, Any], *, name: str, version: str, created: datetime, archive: Path
) -> Bom:
    """Return the bill of materials of an image and its archive."""
    with archive.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    image = Component(
        type=ComponentType.CONTAINER,
        bom_ref="image",
        name=name,
        version=version,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
    )
    bom = Bom(components=describe(inventory), serial_number=uuid.uuid5(uuid.NAMESPACE_OID, sha256))
    bom.metadata.component = image
    bom.metadata.timestamp = created
    bom.register_dependency(image, bom.components)
    return bom


def _licences(text: str) -> list[License]:
    return [LicenseFactory().make_from_string(text)] if text else []


if __name__ == "__main__":
    image_name, image_version, image_created, archive_path = sys.argv[1:]
    document = make_bom(
        json.load(sys.stdin),
        name=image_name,
        version=image_version,
        created=datetime.fromisoformat(image_created),
        archive=Path(archive_path),
    )
    print(JsonV1Dot6(document).output_as_string(indent=2))
