"""Reject model folders that do not match their cards, before their weights enter an image.

Uses only the standard library, because a machine that builds images needs no Python environment.
When a model is loaded, `shared.models.card` also checks the fields of the card.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.errors import ModelError
from shared.models.sealed import CARD_NAME, SIGNATURE_NAME, check_sealed, read_card_text

NAMESPACE = "hecktor-model"
"""Part of each signature, so that a signature for another purpose is not accepted."""


def check_folder(folder: Path, signers: Path | None = None) -> None:
    """Check a model folder.

    Parameters
    ----------
    signers : public keys in ssh-keygen's format "allowed signers"; None does not check
        signatures.

    Raises
    ------
    ModelError
        If the card is missing or invalid, if the folder holds other files than the card names, or
        if none of the signers has signed the card.
    """
    content = read_card_text(folder)
    try:
        members = {str(m["file"]): str(m["sha256"]) for m in json.loads(content)["members"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelError(
            f"{folder / CARD_NAME} is not a valid model card; export the model again"
        ) from None
    check_sealed(folder, members)
    if signers is not None:
        _check_signature(folder, content, signers)


def _check_signature(folder: Path, content: bytes, signers: Path) -> None:
    card, signature = folder / CARD_NAME, folder / SIGNATURE_NAME
    if not signers.is_file():
        raise ModelError(f"expected a file of public keys at {signers}, found none; create it")
    if not signature.is_file():
        raise ModelError(
            f"expected a signature of the card at {signature}, found none; sign it: "
            f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY {card}"
        )
    file = ("-s", str(signature), "-f", str(signers))
    principals = _ssh_keygen("find-principals", *file).splitlines()
    if not any(
        _ssh_keygen("verify", *file, "-n", NAMESPACE, "-I", principal, content=content)
        for principal in principals
    ):
        raise ModelError(
            f"expected a valid signature of {card} by a key in {signers}, found none in "
            f"{signature}; sign the card again, or do not use this model"
        )


def _ssh_keygen(action: str, *options: str, content: bytes = b"") -> str:
    """Return what ssh-keygen prints, or an empty text if it reports an error."""
    command = ["ssh-keygen", "-Y", action, *options]
    try:
        process = subprocess.run(command, input=content, capture_output=True)
    except FileNotFoundError:
        raise ModelError(
            "expected ssh-keygen on the PATH to check a signature, found none; install OpenSSH"
        ) from None
    return process.stdout.decode("utf-8", "replace") if process.returncode == 0 else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check model folders; print the faults on stderr and return 1 if there are any."""
    parser = argparse.ArgumentParser(description="Check model folders against their cards.")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--signers", type=Path, help="public keys, one of which signed each card")
    options = parser.parse_args(arguments)
    faults = 0
    for folder in options.folders:
        try:
            check_folder(folder, options.signers)
        except ModelError as error:
            print(error, file=sys.stderr)
            faults += 1
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
