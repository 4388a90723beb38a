#!/usr/bin/env bash
# Builds the image of this task and saves it for upload; -h lists the options.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../shared/docker/save.sh" --task "$(basename "$here")" "$@"
