#!/usr/bin/env bash
# Lints and tests the code in the environment .venv, which this script creates first if necessary.
# You can run the script again at any time; -h lists examples.
set -euo pipefail

readonly VENV=.venv

usage() {
  cat <<'USAGE'
Usage: ./run_tests.sh [pytest option...]

Makes .venv, or makes it again if pyproject.toml has changed. Then checks code style, types, import
rules and scripts, and runs the tests that are not marked slow.

  ./run_tests.sh                          everything but the slow tests
  ./run_tests.sh -m slow                  only the slow tests
  ./run_tests.sh -m ''                    all tests
  ./run_tests.sh tests/containers -k mask  some tests; pytest gets all options

The last line is 'N passed, N failed'; each check counts like a test.
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
  local torch viewer scratch
  torch=$(sed -n 's/^ *"\(torch==.*\)",$/\1/p' pyproject.toml)
  viewer=$(sed -n 's/^viewer = \["\(.*\)"\]$/\1/p' pyproject.toml)
  # pip leaves build folders behind, so it installs from a copy. Only the dependencies are needed, so
  # the package itself is uninstalled again.
  scratch=$(mktemp -d)
  cp pyproject.toml "$scratch"
  # torch comes first, so that the packages that depend on it keep its build (CPU or CUDA).
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "$torch"
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "${scratch}[train,evaluation,prediction,test]"
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-deps "$viewer"
  "$VENV/bin/python" -m pip uninstall -qq --yes hecktor-containers
  rm -r "$scratch"
  # With this file, scripts and notebooks in any folder can import the packages of this checkout.
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

run_pytest() { # the counts are read from pytest's JUnit XML, because no plugin changes its format
  local report code=0 counts
  report=$(mktemp)
  # shellcheck disable=SC2064  # expand the path now
  trap "rm -f '$report'" EXIT
  # Each of the two processes uses one PyTorch thread. If there were more threads than cores, they
  # would wait for each other.
  OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadfile -m 'not slow' --junit-xml "$report" "$@" || code=$?
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
  # A crash, a wrong option or a run without tests also counts as a failure.
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
