#!/usr/bin/env bash
# Builds the three containers, runs them on the sample cases under the platform's limits, and checks
# and scores what they write. Makes all it needs; safe to repeat; -h lists the options.
# This script makes the environment; tests/containers does the work.
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
  echo "test_containers.sh: expected Python 3.11 or later on the PATH, found none; install it" >&2
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
    echo "test_containers.sh: '$python -m venv' failed; on Debian: apt-get install python3-venv" >&2
    exit 1
  }
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check \
    --require-hashes --only-binary=:all: --requirement "$LOCK" >&2
  echo "$stamp" >"$VENV/stamp"
}

main() {
  # Cases and files that the user names are relative to where the user stands.
  local here python
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  (cd "$here" && make_environment)
  python=$here/$VENV/bin/python
  # -P: never a folder `tests` of the user's instead of ours.
  PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} exec "$python" -P -m tests.containers "$@"
}

main "$@"
