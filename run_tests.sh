#!/usr/bin/env bash
# Lints and tests the code. Makes its environment, .venv; safe to repeat; -h explains.
set -euo pipefail

readonly VENV=.venv

usage() {
  cat <<'USAGE'
Usage: ./run_tests.sh [pytest option...]

Makes .venv (again, after a change of pyproject.toml), then checks code style, types, the import
rules and the scripts, then runs the tests that are not marked slow.

  ./run_tests.sh                          everything but the slow tests
  ./run_tests.sh -m slow                  only the slow tests
  ./run_tests.sh -m ''                    all tests
  ./run_tests.sh tests/containers -k mask  some tests; every pytest option will do

Ends with 'N passed, N failed', each lint counting as one.
USAGE
}

make_environment() {
  local stamp
  stamp=$(sha256sum pyproject.toml | cut -d ' ' -f 1)
  [[ ! -f $VENV/stamp || $(<"$VENV/stamp") != "$stamp" ]] || return 0
  echo "installing the dependencies into $VENV, once; torch is large"
  if [[ ! -x $VENV/bin/python ]]; then
    local python
    python=$(find_python)
    "$python" -m venv "$VENV" || {
      echo "run_tests.sh: making $VENV failed; on Debian: apt-get install python3-venv" >&2
      exit 1
    }
  fi
  local torch scratch
  torch=$(sed -n 's/^ *"\(torch==.*\)",$/\1/p' pyproject.toml)
  # From a copy, for pip leaves build folders; uninstalled, for only the dependencies are wanted.
  scratch=$(mktemp -d)
  cp pyproject.toml "$scratch"
  # torch first: what depends on it takes the build that is there (CPU or CUDA) and fetches no other.
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "$torch"
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "${scratch}[train,evaluation,prediction,test]"
  "$VENV/bin/python" -m pip uninstall -qq --yes hecktor-containers
  rm -r "$scratch"
  # Scripts and notebooks in any folder can import the packages of this checkout.
  pwd >"$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/hecktor.pth"
  echo "$stamp" >"$VENV/stamp"
}

passed=0 failed=0

lint() { # lint NAME COMMAND...
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "passed  $name"
    passed=$((passed + 1))
  else
    printf 'FAILED  %s\n%s\n' "$name" "$output"
    failed=$((failed + 1))
  fi
}

run_pytest() { # counts of pytest are read from its JUnit XML, which no plugin changes
  local report code=0 counts
  report=$(mktemp)
  # shellcheck disable=SC2064  # the path as it is now
  trap "rm -f '$report'" EXIT
  python -m pytest -q -n 2 -m 'not slow' --junit-xml "$report" "$@" || code=$?
  counts=$(python - "$report" <<'COUNT' || true
import sys, xml.etree.ElementTree as ET
suites = list(ET.parse(sys.argv[1]).iter("testsuite"))
total, bad, skipped = (sum(int(s.get(k, 0)) for s in suites for k in keys) for keys in
                       (["tests"], ["failures", "errors"], ["skipped"]))
print(total - bad - skipped, bad)
COUNT
  )
  if [[ -n $counts ]]; then
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
  fi
  # A crash, a wrong option or no tests at all count as a failure too.
  if ((code != 0)) && [[ ${counts#* } == 0 || -z $counts ]]; then
    failed=$((failed + 1))
  fi
}

main() {
  if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    usage
    exit 0
  fi
  cd "$(dirname "${BASH_SOURCE[0]}")"
  # shellcheck source=shared/docker/python.sh
  source shared/docker/python.sh
  make_environment
  PATH=$PWD/$VENV/bin:$PATH
  local scripts=(*.sh .ci/run shared/docker/*.sh evaluation/*.sh task*/*.sh)
  lint 'code style (ruff check)' ruff check .
  lint 'formatting (ruff format)' ruff format --check .
  lint 'types (mypy)' mypy
  lint 'import rules (import-linter)' lint-imports --no-logo
  lint 'shell scripts (shellcheck)' shellcheck "${scripts[@]}"
  run_pytest "$@"
  echo "$passed passed, $failed failed"
  ((failed == 0))
}

main "$@"
