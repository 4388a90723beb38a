#!/usr/bin/env bash
# Builds the evaluation's image, runs it on the sample cases and checks what it writes; -h lists the options.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../test_containers.sh" --task "$(basename "$here")" "$@"
