#!/usr/bin/env bash
# Builds an image and saves it for upload. Each do_save.sh calls it with its folder.
set -euo pipefail

readonly LIMIT=$((10 * 10 ** 9)) # bytes; the platform rejects larger images

usage() {
  cat <<'USAGE'
Usage: do_save.sh [--output DIR] [--no-build] [options of do_build.sh]

  --output DIR   where the files are written (default: the task's folder)
  --no-build     save the existing image

Writes <task>_<version>-<variant>_<commit>.tar.gz and its .sha256, then prints how to upload it.
Set ENGINE=podman to use Podman.
USAGE
}

die() {
  echo "do_save.sh: $*" >&2
  exit 1
}

main() {
  local task='' variant=cpu output='' build=yes options=()
  while (($#)); do
    case $1 in
      --task) task=$2; options+=("$1" "$2"); shift ;;
      --variant) variant=${2:-}; options+=("$1" "$variant"); shift ;;
      --api-method | --base | --network) options+=("$1" "${2:-}"); shift ;;
      --output) output=${2:-}; shift ;;
      --no-build) build=no ;;
      -h | --help) usage; exit 0 ;;
      *) die "unknown option $1; see -h" ;;
    esac
    shift || die "expected a value after the last option, found none; see -h"
  done
  local engine=${ENGINE:-docker} root log
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  output=$(cd "${output:-$root/$task}" && pwd)

  if [[ $build == yes ]]; then
    log=$(mktemp)
    # shellcheck disable=SC2064  # expand the path now
    trap "rm -f '$log'" EXIT
    "$root/shared/docker/build.sh" "${options[@]}" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  fi

  local image=hecktor2025/$task:$variant size
  size=$("$engine" image inspect --format '{{.Size}}' "$image") || die "expected the image $image, found none; omit --no-build"
  ((size <= LIMIT)) || die "$image has $size bytes, the platform accepts at most $LIMIT; nothing was saved"

  local version revision name
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")
  revision=$("$engine" image inspect \
    --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$image")
  # The name must show that the tree differs from the commit.
  [[ $revision != *-modified ]] || revision=${revision:0:8}-modified
  [[ $revision == *-modified || $revision == unknown ]] || revision=${revision:0:8}
  name=${task}_$version-${variant}_$revision.tar.gz

  # -n omits the time, so that the same image gives the same file. An incomplete file keeps the
  # name .partial.
  "$engine" save "$image" | gzip -n >"$output/$name.partial"
  mv "$output/$name.partial" "$output/$name"
  (cd "$output" && sha256sum "$name" >"$name.sha256")

  cat <<SAVED
saved   $output/$name
bytes   $(stat --format %s "$output/$name")
sha256  $(cut -d ' ' -f 1 "$output/$name.sha256")

To upload it:
SAVED
  if [[ $task == evaluation ]]; then
    cat <<'STEPS'
  1. Open your challenge on the platform, and its phase: Admin > Phases > Evaluation Methods.
  2. Add a new method and choose the file above.
  3. Add the ground truth as a tarball of patients.csv and masks/.
STEPS
  else
    cat <<'STEPS'
  1. Open your algorithm on the platform: https://grand-challenge.org/algorithms/
  2. Containers > Upload a Container; choose the file above.
  3. When it is active, Try-out Algorithm with one case; then submit it to the phase.
STEPS
  fi
}

main "$@"
