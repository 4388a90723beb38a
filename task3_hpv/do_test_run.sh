#!/usr/bin/env bash
# Builds the image of this task, runs it on the sample cases and checks its outputs; -h lists the
# options.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../test_containers.sh" --task "$(basename "$here")" "$@"
