#!/usr/bin/env bash
# Makes the lock files of the images from their requirements*.in, or checks that they are current.
# Locked versions stay: only a change of an .in file, or --upgrade, changes a lock.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: shared/docker/lock.sh [--check | --upgrade]

  --check     change nothing; exit 1 if a lock does not match its .in file
  --upgrade   take the newest versions that the .in files allow

Needs uv and a package index. If --check cannot reach the index, it says so and exits 0.
USAGE
}

compile() { # compile FOLDER NAME OPTION...: FOLDER/NAME.in -> .lock
  local folder=$1 name=$2
  shift 2
  (cd "$folder" && uv pip compile --quiet --generate-hashes --no-emit-index-url \
    --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --custom-compile-command 'shared/docker/lock.sh' "$@" \
    "$name.in" --output-file "$name.lock")
}

main() {
  local check=no options=()
  while (($#)); do
    case $1 in
      --check) check=yes ;;
      --upgrade) options+=(--upgrade) ;;
      -h | --help) usage; exit 0 ;;
      *) echo "lock.sh: unknown option $1; see -h" >&2; exit 2 ;;
    esac
    shift
  done
  cd "$(dirname "${BASH_SOURCE[0]}")/../.."
  if ! command -v uv >/dev/null; then
    [[ -x .venv/bin/uv ]] || { echo "lock.sh: uv not found; run ./run_tests.sh once, or install uv" >&2; exit 1; }
    PATH=$PWD/.venv/bin:$PATH
  fi
  [[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}

  local scratch image folder name failed=0
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064  # expand the path now
  trap "rm -rf '$scratch'" EXIT
  local images=(evaluation/requirements shared/docker/requirements-sbom)
  for name in task*/requirements-*.in; do
    images+=("${name%.in}")
  done
  for image in "${images[@]}"; do
    folder=${image%/*} name=${image##*/}
    mkdir -p "$scratch/$folder"
    cp "$folder"/requirements*.in "$scratch/$folder/"
    cp "$image.lock" "$scratch/$folder/" 2>/dev/null || true
    if ! compile "$scratch/$folder" "$name" "${options[@]}" 2>"$scratch/error"; then
      if [[ $check == yes ]] && grep -qiE 'failed to fetch|connect|dns|timed out' "$scratch/error"; then
        echo "locks not checked: the package index cannot be reached"
        exit 0
      fi
      cat "$scratch/error" >&2
      exit 1
    fi
    if [[ $check == no ]]; then
      cp "$scratch/$image.lock" "$image.lock"
    elif ! diff -u "$image.lock" "$scratch/$image.lock"; then
      echo "$image.lock does not match its .in file; run shared/docker/lock.sh" >&2
      failed=1
    fi
  done
  exit "$failed"
}

main "$@"
