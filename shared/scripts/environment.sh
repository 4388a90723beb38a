#!/usr/bin/env bash
# Makes a virtual environment from a lock file, once: `environment.sh VENV LOCK`. Prints nothing where
# it is there already; safe to repeat.
set -euo pipefail

die() {
  echo "environment.sh: $*" >&2
  exit 1
}

find_python() { # the first Python of 3.11 or later
  local name
  for name in python3.11 python3.12 python3.13 python3; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  die "expected Python 3.11 or later on the PATH, found none; install it"
}

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
