#!/usr/bin/env bash
# Builds an image and saves it for upload, or saves only its models. Each do_save.sh calls it with its
# folder.
set -euo pipefail

# shellcheck source=shared/docker/python.sh
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"

usage() {
  cat <<'USAGE'
Usage: do_save.sh [--output DIR] [--no-build | --model-tarball] [options of do_build.sh]

  --output DIR      where the files are written (default: the task's folder)
  --no-build        save the existing image
  --model-tarball   save only the models, as a tarball that the platform unpacks at /opt/ml/model;
                    needs no container engine

Checks what the platform checks: user, processor, size, mode, one image in the archive. Then writes
<task>_<version>-<variant>_<commit>.tar.gz, its software bill of materials (.cdx.json, CycloneDX)
and the SHA-256 of both (.sha256), and prints how to upload it. With --model-tarball, writes
model.tar.gz and its .sha256. With --api-method invoke, -invoke follows the variant in the name.
Set ENGINE=podman to use Podman.
USAGE
}

die() {
  echo "do_save.sh: $*" >&2
  exit 1
}

save_models() { # save_models PYTHON TASK OUTPUT [--signers FILE]
  local python=$1 task=$2 output=$3 folders models
  shift 3
  [[ $task != evaluation ]] || die "expected an algorithm with --model-tarball, because the evaluation has no model; omit the option"
  folders=$("$python" -B -m shared.docker.model_tarball "$task") || die "nothing was saved"
  mapfile -t models <<<"$folders"
  "$python" -B -m shared.docker.check_model "$@" "${models[@]}" || die "nothing was saved"
  "$python" -B -m shared.docker.model_tarball "$task" "$output/model.tar.gz"
  (cd "$output" && sha256sum model.tar.gz >model.tar.gz.sha256)
  cat <<SAVED
saved   $output/model.tar.gz
bytes   $(stat --format %s "$output/model.tar.gz")
sha256  $(cut -d ' ' -f 1 "$output/model.tar.gz.sha256")

To upload it, if the image is already on the platform:
  1. Open your algorithm: https://grand-challenge.org/algorithms/
  2. Models > Add a Model; choose the file above.
SAVED
}

write_bom() { # write_bom ENGINE IMAGE ARCHIVE: prints the bill of materials
  local engine=$1 image=$2 archive=$3 version created
  version=$("$engine" image inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}}' "$image")
  created=$("$engine" image inspect --format '{{index .Config.Labels "org.opencontainers.image.created"}}' "$image")
  "$engine" run --rm --network none --entrypoint python "$image" -c "$(<shared/docker/inventory.py)" |
    .venv-sbom/bin/python shared/docker/sbom.py "$image" "$version" "$created" "$archive"
}

main() {
  local task='' variant=cpu mode='' output='' what=build signers=() options=()
  while (($#)); do
    case $1 in
      --task) task=$2; options+=("$1" "$2"); shift ;;
      --variant) variant=${2:-}; options+=("$1" "$variant"); shift ;;
      --api-method) mode=${2:-}; options+=("$1" "$mode"); shift ;;
      --base | --network) options+=("$1" "${2:-}"); shift ;;
      --signers) signers=(--signers "$(realpath "${2:-}")"); shift ;;
      --output) output=${2:-}; shift ;;
      --no-build) what=image ;;
      --model-tarball) what=models ;;
      -h | --help) usage; exit 0 ;;
      *) die "unknown option $1; see -h" ;;
    esac
    shift || die "expected a value after the last option, found none; see -h"
  done
  local engine=${ENGINE:-docker} root python scratch
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  output=${output:-$root/$task}
  mkdir -p "$output" || die "nothing was saved; choose another folder with --output"
  output=$(cd "$output" && pwd)
  cd "$root"
  python=$(find_python) || die "nothing was saved"
  if [[ $what == models ]]; then
    save_models "$python" "$task" "$output" "${signers[@]}"
    exit
  fi
  [[ $what == build || ${#signers[@]} == 0 ]] || die "expected --signers without --no-build, because signatures are checked when an image is built; omit one of them"
  shared/docker/environment.sh .venv-sbom shared/docker/requirements-sbom.lock

  scratch=$(mktemp -d)
  # shellcheck disable=SC2064  # expand the path now
  trap "rm -rf '$scratch'" EXIT
  if [[ $what == build ]]; then
    shared/docker/build.sh "${options[@]}" "${signers[@]}" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
  fi

  local tag=$variant version revision name
  [[ $mode != invoke ]] || tag+=-invoke
  local image=hecktor2025/$task:$tag
  "$engine" image inspect "$image" >"$scratch/image.json" || die "expected the image $image, found none; omit --no-build"
  "$python" -B shared/docker/check_image.py config "$image" "$mode" <"$scratch/image.json" || die "nothing was saved"

  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
  revision=$("$engine" image inspect \
    --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$image")
  # The name must show that the tree differs from the commit.
  [[ $revision != *-modified ]] || revision=${revision:0:8}-modified
  [[ $revision == *-modified || $revision == unknown ]] || revision=${revision:0:8}
  name=${task}_$version-${tag}_$revision

  # -n omits the time, so that the same image gives the same file. An incomplete file keeps the
  # name .partial.
  # shellcheck disable=SC2064  # expand the paths now
  trap "rm -rf '$scratch' '$output/$name.tar.gz.partial' '$output/$name.cdx.json.partial'" EXIT
  "$engine" save "$image" | gzip -n >"$output/$name.tar.gz.partial"
  "$python" -B shared/docker/check_image.py archive "$output/$name.tar.gz.partial" || die "nothing was saved"
  write_bom "$engine" "$image" "$output/$name.tar.gz.partial" >"$output/$name.cdx.json.partial"
  mv "$output/$name.tar.gz.partial" "$output/$name.tar.gz"
  mv "$output/$name.cdx.json.partial" "$output/$name.cdx.json"
  (cd "$output" && sha256sum "$name.tar.gz" "$name.cdx.json" >"$name.tar.gz.sha256")

  cat <<SAVED
saved   $output/$name.tar.gz
bytes   $(stat --format %s "$output/$name.tar.gz")
sha256  $(cut -d ' ' -f 1 "$output/$name.tar.gz.sha256" | sed 1q)
bom     $output/$name.cdx.json

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
