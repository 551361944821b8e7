# Sourced by the examples: davit in PATH, an empty temporary folder to work in
# that goes away at the end, and (with the word "sites") two sites that know
# each other. The example in hello does the same step by step.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH="${DAVIT_BIN:-$here/../../bin}:$PATH"
for name in ${!DAVIT_@}; do unset "$name"; done
command -v davit >/dev/null && command -v age >/dev/null || { echo "build first: make build" >&2; exit 1; }
place=$(mktemp -d "${TMPDIR:-/tmp}/davit-example.XXXXXX")
trap 'rm -rf "$place"' EXIT
cd "$place"
if [ "${1:-}" = sites ]; then
  davit -q init dev --dir dev >/dev/null
  davit -q init prod --dir prod >/dev/null
  davit -q -c dev peer add prod/prod.card.json --send releases --accept results --yes
  davit -q -c prod peer add dev/dev.card.json --accept releases --send results --yes
fi

# From here on each command is shown before it runs.
davit() {
  printf '\n$ davit %s\n' "$*" >&2
  command davit "$@"
}

# must CODE COMMAND…: the command must end with this exit code.
must() {
  local want=$1 code=0
  shift
  "$@" || code=$?
  if [ "$code" != "$want" ]; then
    echo "this should have ended with code $want and ended with $code: $*" >&2
    exit 1
  fi
}
