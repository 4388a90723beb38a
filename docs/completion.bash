# Tab completion for `python -m training` and `python -m evaluation` in bash:
#
#   source docs/completion.bash
#
# A key press takes some seconds, because it loads the program. Typer's --install-completion does not
# work here: it completes programs by their first word, which is `python`. All other commands of
# `python` keep the default completion.

_hecktor_complete() {
  local module=${COMP_WORDS[2]-}
  COMPREPLY=()
  [[ ${COMP_WORDS[1]-} == -m && $module == @(training|evaluation) && $COMP_CWORD -ge 3 ]] || return 0
  # Typer's variable is named after the program, with its spaces, so only env can set it.
  mapfile -t COMPREPLY < <(
    env "COMP_WORDS=$module ${COMP_WORDS[*]:3}" "COMP_CWORD=$((COMP_CWORD - 2))" \
      "_PYTHON _M ${module^^}_COMPLETE=complete_bash" "${COMP_WORDS[0]}" -m "$module" 2>/dev/null
  )
}

complete -o default -F _hecktor_complete python python3
