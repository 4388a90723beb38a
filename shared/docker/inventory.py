"""Print as JSON what an image contains; runs in a container, for `sbom.py`.

It lists the Python packages of the environment, the Debian packages of the system and the models.
"""

import importlib.metadata
import json
from pathlib import Path

PACKAGES = Path("/var/lib/dpkg/status")
RELEASE = Path("/etc/os-release")
MODELS = Path("/opt/app/model")


def read_pairs(text: str, separator: str) -> dict[str, str]:
    """Return the keys and values of a text with one pair a line."""
    pairs = (line.partition(separator) for line in text.splitlines() if not line.startswith(" "))
    return {key: value.strip().strip('"') for key, _, value in pairs}


def list_python() -> list[dict[str, str]]:
    """Return name, version and licence of each Python package."""
    packages = []
    for each in importlib.metadata.distributions():
        fields = each.metadata.json
        licence = str(fields.get("license_expression") or fields.get("license") or "")
        # Some packages have the whole text of the licence here.
        licence = licence if len(licence) < 80 and "\n" not in licence else ""
        packages.append({"name": each.name, "version": each.version, "licence": licence})
    return packages


def list_debian() -> list[dict[str, str]]:
    """Return name, version and architecture of each Debian package."""
    text = PACKAGES.read_text(encoding="utf-8") if PACKAGES.is_file() else ""
    stanzas = [read_pairs(stanza, ":") for stanza in text.split("\n\n") if stanza.strip()]
    keys = ("Package", "Version", "Architecture")
    return [{key.lower(): stanza[key] for key in keys} for stanza in stanzas]


def list_models() -> list[dict[str, str]]:
    """Return task, file, SHA-256, licence and training data of each model file."""
    models = []
    for path in sorted(MODELS.rglob("model.json")):
        card = json.loads(path.read_bytes())
        for member in card["members"]:
            models.append(
                {
                    "task": card["task"],
                    "file": str((path.parent / member["file"]).relative_to(MODELS)),
                    "sha256": member["sha256"],
                    "licence": card["licence"],
                    "data": card["training"]["data"],
                }
            )
    return models


if __name__ == "__main__":
    release = read_pairs(RELEASE.read_text(encoding="utf-8"), "=") if RELEASE.is_file() else {}
    system = {"name": release.get("ID", "linux"), "version": release.get("VERSION_ID", "unknown")}
    print(
        json.dumps(
            {
                "system": system,
                "python": list_python(),
                "debian": list_debian(),
                "models": list_models(),
            }
        )
    )
