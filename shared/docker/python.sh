#!/usr/bin/env bash
# Source this file: `find_python` prints the name of a Python >= 3.11 on the PATH, or fails.

find_python() {
  local name
  for name in python3.11 python3.12 python3.13 python3; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "expected Python 3.11 or later on the PATH, found none; install it" >&2
  return 1
}
