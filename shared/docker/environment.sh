#!/usr/bin/env bash
# Makes a virtual environment from a lock file: `environment.sh VENV LOCK`. Does nothing if the
# environment already exists for this lock.
set -euo pipefail

die() {
  echo "environment.sh: $*" >&2
  exit 1
}

# shellcheck source=shared/docker/python.sh
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"

main() {
  local venv=$1 lock=$2 stamp python
  stamp=$(sha256sum "$lock" | cut -d ' ' -f 1)
  [[ ! -f $venv/stamp || $(<"$venv/stamp") != "$stamp" ]] || return 0
  python=$(find_python)
  echo "making $venv from $lock, once" >&2
  rm -rf "$venv"
  "$python" -m venv "$venv" || die "'$python -m venv' failed; on Debian: apt-get install python3-venv"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
    --require-hashes --only-binary=:all: --requirement "$lock" >&2
  echo "$stamp" >"$venv/stamp"
}

main "$@"
