#!/usr/bin/env bash
# Builds the image of the evaluation, runs it on the sample cases and checks its output; -h lists the options.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../test_containers.sh" --task "$(basename "$here")" "$@"
