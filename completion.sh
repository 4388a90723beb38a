# shellcheck shell=bash
# Completes `python -m evaluation`, `prediction` and `training` in bash. To use it: source completion.sh

_hecktor_complete() {
  local module=${COMP_WORDS[2]:-}
  COMPREPLY=()
  [[ ${COMP_WORDS[1]:-} == -m && $module =~ ^(evaluation|prediction|training)$ ]] && ((COMP_CWORD > 2)) || return 0
  # Typer names the variable after the whole command, with spaces, so only `env` can set it.
  mapfile -t COMPREPLY < <(env COMP_WORDS="${COMP_WORDS[*]:2}" COMP_CWORD=$((COMP_CWORD - 2)) \
    "_PYTHON _M ${module^^}_COMPLETE=complete_bash" "${COMP_WORDS[0]}" -m "$module" 2>/dev/null)
}

complete -o default -F _hecktor_complete python python3
