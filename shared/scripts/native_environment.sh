#!/usr/bin/env bash
# Makes .venv-containers, the environment of the images' lock file, where it is missing or old, and
# prints its Python: what runs the algorithms where there is no engine. Safe to repeat.
set -euo pipefail

readonly LOCK=task1_segmentation/requirements-cpu.lock # the tasks' locks are equal
readonly VENV=.venv-containers

find_python() { # the first Python of 3.11 or later
  local name
  for name in python3.11 python3.12 python3.13 python3; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "expected Python 3.11 or later on the PATH, found none; install it" >&2
  exit 1
}

make_environment() {
  local stamp python
  stamp=$(sha256sum "$LOCK" | cut -d ' ' -f 1)
  [[ ! -f $VENV/stamp || $(<"$VENV/stamp") != "$stamp" ]] || return 0
  python=$(find_python)
  echo "making $VENV from $LOCK, once" >&2
  rm -rf "$VENV"
  "$python" -m venv "$VENV" || {
    echo "'$python -m venv' failed; on Debian: apt-get install python3-venv" >&2
    exit 1
  }
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check \
    --require-hashes --only-binary=:all: --requirement "$LOCK" >&2
  echo "$stamp" >"$VENV/stamp"
}

main() {
  cd "$(dirname "${BASH_SOURCE[0]}")/../.."
  make_environment
  echo "$PWD/$VENV/bin/python"
}

main "$@"
