"""A fake `docker` or `podman` on the PATH: records its calls, and runs "images" without containers.

`FAKE_ENGINE` names a folder: `calls.jsonl` records the calls, `settings.json` says how to answer.
The "image" of a container is the checkout's `inference.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_ENGINE"])


def main(arguments: list[str]) -> int:
    """Answer one command as the engine does."""
    settings = json.loads((FOLDER / "settings.json").read_text())
    with (FOLDER / "calls.jsonl").open("a") as file:
        file.write(json.dumps([Path(sys.argv[0]).name, *arguments]) + "\n")
    command, *rest = arguments
    if command in settings.get("broken", ()):
        print(f"{command}: the daemon does not answer", file=sys.stderr)
        return 1
    if command == "--version":
        print("Fake version 1.0")
    elif command == "image" and rest[-1] in settings.get("absent", ()):
        return 1
    elif command == "image":
        values = {"{{.Id}}": "sha256:0123456789abcdef", "{{.Size}}": str(settings["size"])}
        template = rest[rest.index("--format") + 1]
        for key, value in values.items():
            template = template.replace(key, value)
        print("deadbeefcafe0123" if "revision" in template else template)
    elif command == "create":
        (FOLDER / "container.json").write_text(json.dumps(rest))
        print("WARNING: the engine's own complaint", file=sys.stderr)
        print("c0ffee")
    elif command == "start":
        return start(settings["root"])
    elif command == "inspect":
        print("false", settings.get("started", "2026-01-01T00:00:00Z"))
    elif command == "save":
        print("layers")
    return 0


def start(root: str) -> int:
    """Run the program of the created container, with its mounts as paths."""
    options = json.loads((FOLDER / "container.json").read_text())
    mounts = {}
    for mount in (options[i + 1] for i, o in enumerate(options) if o == "--mount"):
        parts = dict(part.partition("=")[::2] for part in mount.split(","))
        mounts[parts["target"]] = parts["source"]
    folder = Path(root) / options[-1].split("/")[1].split(":")[0]
    paths = ["--input", mounts["/mnt/case"], "--output", mounts["/output"]]
    if folder.name == "evaluation":
        program = [
            "-m",
            "evaluation.container",
            "--truth",
            mounts["/opt/ml/input/data/ground_truth"],
        ]
    else:
        model = mounts.get("/opt/ml/model", str(folder / "model"))
        program = [str(folder / "inference.py"), "--model", model]
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run([sys.executable, *program, *paths], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
