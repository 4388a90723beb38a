#!/usr/bin/env bash
# Builds the image of this task; -h lists the options.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../shared/docker/build.sh" --task "$(basename "$here")" "$@"
