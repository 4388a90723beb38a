#!/usr/bin/env bash
# Builds the image of one task or of the evaluation. Each do_build.sh calls it with its folder.
set -euo pipefail

# shellcheck source=shared/docker/python.sh
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"

usage() {
  cat <<'USAGE'
Usage: do_build.sh [--variant cpu|gpu] [--api-method exec|invoke] [--base IMAGE] [--network NAME]
                   [--signers FILE]

  --variant cpu|gpu   ONNX Runtime with OpenVINO (cpu, the default) or with CUDA 12 (gpu); the
                      evaluation has only cpu
  --api-method exec|invoke
                      how the platform runs the image: exec (default) starts it once per case,
                      invoke keeps it running and calls it for each case
  --base IMAGE        base image (default: python:3.11-slim-bookworm); give a digest to pin it
  --network NAME      network of the build (default: host)
  --signers FILE      public keys in the format "allowed signers" of ssh-keygen; one of them must
                      have signed each model card (default: cards need no signature)

The image is named hecktor2025/<task>:<variant>, or hecktor2025/<task>:<variant>-invoke. Set
ENGINE=podman to build with Podman.
USAGE
}

die() {
  echo "do_build.sh: $*" >&2
  exit 1
}

main() {
  # The host's network is the default, because not every machine has a bridge network (rootless
  # engines, CI runners, proxies on localhost). The build fetches only packages with a known hash.
  local task='' variant=cpu api_method=exec base='' network=host signers=()
  while (($#)); do
    case $1 in
      --task) task=$2; shift ;;
      --variant) variant=${2:-}; shift ;;
      --api-method) api_method=${2:-}; shift ;;
      --base) base=${2:-}; shift ;;
      --network) network=${2:-}; shift ;;
      --signers) signers=(--signers "$(realpath "${2:-}")"); shift ;;
      -h | --help) usage; exit 0 ;;
      *) die "unknown option $1; see -h" ;;
    esac
    shift || die "expected a value after the last option, found none; see -h"
  done
  [[ $variant == cpu || $variant == gpu ]] || die "expected --variant cpu or gpu, found '$variant'"
  [[ $variant == cpu || $task != evaluation ]] || die "expected --variant cpu, because the evaluation uses no GPU; omit the option"
  [[ $api_method == exec || $api_method == invoke ]] || die "expected --api-method exec or invoke, found '$api_method'"
  local engine=${ENGINE:-docker}
  command -v "$engine" >/dev/null || die "expected the container engine '$engine' on the PATH, found none; install it, or set ENGINE=podman"

  cd "$(dirname "${BASH_SOURCE[0]}")/../.."
  local python folders models=() code=("$task/inference.py")
  python=$(find_python) || die "no image was built"
  if [[ $task == evaluation ]]; then
    code=(evaluation)
  else
    folders=$("$python" -B -m shared.docker.model_tarball "$task") || die "no image was built"
    mapfile -t models <<<"$folders"
  fi
  "$python" -B -m shared.docker.check_model "${signers[@]}" "${models[@]}" || die "no image was built"

  # Without this, the image's user could not read the files of a checkout made with umask 077.
  find shared "${code[@]}" "${models[@]}" ! -perm -o=r -exec chmod go+rX {} +

  local version revision epoch created
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
  revision=$(git rev-parse HEAD 2>/dev/null) || revision=unknown
  epoch=$(git log -1 --format=%ct 2>/dev/null) || epoch=0
  created=$(date --utc --date="@$epoch" +%Y-%m-%dT%H:%M:%SZ)
  if [[ $revision != unknown && -n $(git status --porcelain --untracked-files=no) ]]; then
    revision+=-modified
  fi

  local image=hecktor2025/$task:$variant
  [[ $api_method == exec ]] || image+=-$api_method
  local arguments=(
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "CREATED=$created"
    --build-arg "API_METHOD=$api_method"
  )
  [[ $task == evaluation ]] || arguments+=(--build-arg "VARIANT=$variant")
  [[ -z $base ]] || arguments+=(--build-arg "BASE_IMAGE=$base")
  [[ $base != *@* ]] || arguments+=(--build-arg "BASE_DIGEST=${base#*@}")
  # BuildKit takes the dates of files and image from SOURCE_DATE_EPOCH, so that each build of a
  # commit gives the same image.
  SOURCE_DATE_EPOCH=$epoch "$engine" build --platform linux/amd64 --network "$network" \
    "${arguments[@]}" --file "$task/Dockerfile" --tag "$image" .

  local id size
  id=$("$engine" image inspect --format '{{.Id}}' "$image")
  size=$("$engine" image inspect --format '{{.Size}}' "$image")
  size=$(((size + 5 * 10 ** 6) / 10 ** 7)) # in hundredths of a GB, rounded
  printf 'image     %s
id        %s
size      %d.%02d GB
revision  %s
mode      %s
' \
    "$image" "$id" $((size / 100)) $((size % 100)) "$revision" "$api_method"
}

main "$@"
