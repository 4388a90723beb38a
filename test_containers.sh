#!/usr/bin/env bash
# Builds the three containers and the evaluation's, runs them on the sample cases under the platform's
# limits, and checks and scores what they write. Makes all it needs; safe to repeat; -h lists the
# options. This script makes the environment; tests/containers does the work.
set -euo pipefail

readonly LOCK=task1_segmentation/requirements-cpu.lock # the tasks' locks are equal
readonly VENV=.venv-containers

main() {
  # Cases and files that the user names are relative to where the user stands.
  local here python
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  (cd "$here" && shared/docker/environment.sh "$VENV" "$LOCK")
  python=$here/$VENV/bin/python
  # -P: never a folder `tests` of the user's instead of ours.
  PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} exec "$python" -P -m tests.containers "$@"
}

main "$@"
