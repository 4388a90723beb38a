"""A fake `docker` or `podman` that records its calls and runs "images" without containers.

`FAKE_ENGINE` names a folder: `calls.jsonl` records the calls, `settings.json` says how to answer.
The "image" of a container is the checkout's `inference.py`.
"""

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["FAKE_ENGINE"])
MODE_LABEL = "org.grand-challenge.api-method"


def main(arguments: list[str]) -> int:
    """Answer one command like the engine."""
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
    elif command == "image" and "--format" not in rest:
        print(json.dumps([describe(settings, rest[-1])]))
    elif command == "image":
        values = {"{{.Id}}": "sha256:0123456789abcdef", "{{.Size}}": str(settings["size"])}
        template = rest[rest.index("--format") + 1]
        labels = describe(settings, rest[-1])["Config"]["Labels"]
        values[f'{{{{index .Config.Labels "{MODE_LABEL}"}}}}'] = labels[MODE_LABEL]
        for key, value in values.items():
            template = template.replace(key, value)
        others = {"revision": "deadbeefcafe0123", "version": "1.2.3", "created": "2026-01-01"}
        print(next((value for key, value in others.items() if key in template), template))
    elif command == "create":
        (FOLDER / "container.json").write_text(json.dumps(rest))
        print("WARNING: the engine's own complaint", file=sys.stderr)
        print("c0ffee")
    elif command == "start":
        return start(settings["root"])
    elif command == "inspect":
        print("false", settings.get("started", "2026-01-01T00:00:00Z"))
    elif command == "export":
        export(settings.get("files", {"usr/bin/python3": 0o755}))
    elif command == "save":
        save(settings.get("images", 1))
    elif command == "run" and rest[-2] == "-c":
        return subprocess.run([sys.executable, "-c", rest[-1]]).returncode
    return 0


def describe(settings: dict[str, Any], image: str) -> dict[str, Any]:
    """Return the answer of `image inspect`."""
    mode = "invoke" if image.endswith("-invoke") else "exec"
    return {
        "Os": "linux",
        "Architecture": "amd64",
        "Size": settings["size"],
        "Config": {
            "User": settings.get("user", "10001:10001"),
            "Labels": settings.get("labels", {MODE_LABEL: mode}),
        },
        **settings.get("image", {}),
    }


def export(files: dict[str, int]) -> None:
    """Write an archive of empty files with these modes to stdout."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for name, mode in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = mode
            archive.addfile(entry)


def save(images: int) -> None:
    """Write an archive with a number of images to stdout."""
    manifest = json.dumps([{"Config": f"{i}.json"} for i in range(images)]).encode()
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(manifest)
        archive.addfile(entry, io.BytesIO(manifest))


def start(root: str) -> int:
    """Run the program of the created container on the folders that it mounts.

    If /output is a tmpfs, nothing runs. The fake then prints the error of a good program.
    """
    options = json.loads((FOLDER / "container.json").read_text())
    if any(option.startswith("/output:") for option in options):
        full, fixed = "no space left", "mount it so that it can be written to"
        print(fixed if "/output:ro" in options else full, file=sys.stderr)
        return 1
    mounts = {}
    for mount in (options[i + 1] for i, o in enumerate(options) if o == "--mount"):
        parts = dict(part.partition("=")[::2] for part in mount.split(","))
        mounts[parts["target"]] = parts["source"]
    image = next(o for o in options if o.startswith("hecktor2025/"))
    folder = Path(root) / image.split("/")[1].split(":")[0]
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
    command = [sys.executable, *program, *paths]
    if "/mnt/invoke_driver.py" in mounts:
        environment["HECKTOR_API_METHOD"] = "invoke"
        _, _, limit_s, *_ = options[options.index(image) + 1 :]
        with socket.create_server(("127.0.0.1", 0)) as server:  # tests share the ports
            port = str(server.getsockname()[1])
        driver = [sys.executable, mounts["/mnt/invoke_driver.py"], port, limit_s]
        command = [*driver, *command, "--port", port]
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
