#!/usr/bin/env bash
# Builds the containers of the three tasks and of the evaluation, runs them on the sample cases under
# the platform's limits, and checks and scores their outputs. -h lists the options. This script only
# creates the Python environment; tests/containers does the work.
set -euo pipefail

readonly LOCK=task1_segmentation/requirements-cpu.lock # the tasks' locks are equal
readonly VENV=.venv-containers

main() {
  # No `cd` here, because the paths in the options are relative to the current folder.
  local here python
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  (cd "$here" && shared/docker/environment.sh "$VENV" "$LOCK")
  python=$here/$VENV/bin/python
  # -P keeps Python from importing a folder `tests` of the current folder instead of ours.
  PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} exec "$python" -P -m tests.containers "$@"
}

main "$@"
