#!/usr/bin/env bash
# The whole way of a release across a gap, on real packages. See README.md.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export PATH="$root/bin:$PATH"
export GOTOOLCHAIN=${GOTOOLCHAIN:-go1.27.3} GOFLAGS=
keep=${DAVIT_DEMO_KEEP:-}
for name in ${!DAVIT_@}; do unset "$name"; done

# ---------------------------------------------------------------- the telling
bold= dim= plain=
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
chapter=0
title() { chapter=$((chapter + 1)); printf '\n%s%d. %s%s\n' "$bold" "$chapter" "$*" "$plain"; }
say() { printf '%s\n' "$@"; }
# run COMMAND: show it, run it, show what it says. It must succeed.
run() { expect 0 "$@"; }
# expect CODE COMMAND: the same for one that must end with CODE.
expect() {
  local want=$1 code=0 shown=
  shift
  for word; do
    case $word in
    *[!A-Za-z0-9_./@=:,+%-]*) shown="$shown '$word'" ;;
    *) shown="$shown $word" ;;
    esac
  done
  if [ "$1" = bash ]; then shown=" $3"; fi
  printf '\n  %s$%s%s\n' "$dim" "${shown//$modules\//}" "$plain"
  "$@" 2>&1 | sed 's|^\(.\)|    \1|' || code=$?
  if [ "$code" != "$want" ]; then
    echo "The demo is broken: this should have ended with code $want and ended with $code." >&2
    exit 1
  fi
  if [ "$want" != 0 ]; then printf '    %s(exit code %d)%s\n' "$dim" "$code" "$plain"; fi
}
# bytes FOLDER: what its files hold.
bytes() { find "$1" -type f -exec cat {} + | wc -c | tr -d ' '; }
# value NAME: a string from JSON on stdin.
value() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# ------------------------------------------------------------ what is carried
command -v davit >/dev/null && command -v age >/dev/null || { echo "Build first: make build" >&2; exit 1; }
if ! command -v zstd >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq zstd; } >/dev/null 2>&1 || true
fi
modules=$(go env GOMODCACHE)
fetch() { (cd "$root" && go mod download -json "$1") | value Dir; }
echo "Fetching what will be released (Go modules, from the cache or the module proxy) …"
gosrc=$(cd "$(cd "$root" && go env GOROOT)/src" && pwd -P)
goversion=$(cd "$root" && go env GOVERSION)
compress1=$(fetch github.com/klauspost/compress@v1.20.2) compress2=$(fetch github.com/klauspost/compress@v1.20.3) compress3=$(fetch github.com/klauspost/compress@v1.20.4)
text1=$(fetch golang.org/x/text@v0.42.0) text2=$(fetch golang.org/x/text@v0.43.0) text3=$(fetch golang.org/x/text@v0.44.0)
sqlite1=$(fetch modernc.org/sqlite@v1.60.1) sqlite2=$(fetch modernc.org/sqlite@v1.61.1) sqlite3=$(fetch modernc.org/sqlite@v1.62.0)

place=$(mktemp -d "${TMPDIR:-/tmp}/davit-demo.XXXXXX")
trap 'rm -rf "$place"' EXIT
if [ -n "$keep" ]; then trap 'echo "Everything is still in $place"' EXIT; fi
cd "$place"
mkdir stick

cat >process.yaml <<'YAML'
steps:
  - name: count
    run: echo "$(find . -name '*.go' | wc -l) Go files arrived for $DAVIT_ENVIRONMENT"
    timeout: 1m
  - name: sign in
    run: echo "signing in to $REGISTRY with $TOKEN"
  - name: publish
    run: [/bin/sh, -c, 'mkdir -p ../publish && cp text/LICENSE ../publish && echo published to "$REGISTRY"']
parameters:
  - name: REGISTRY
    description: where the modules are published
    required: true
  - name: TOKEN
    description: signs in to the registry
    required: true
    sensitive: true
YAML
# sbom COMPRESS TEXT SQLITE: a bill of materials for these versions.
sbom() {
  cat >sbom.cdx.json <<JSON
{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
  {"type": "library", "name": "github.com/klauspost/compress", "version": "v$1"},
  {"type": "library", "name": "golang.org/x/text", "version": "v$2"},
  {"type": "library", "name": "modernc.org/sqlite", "version": "v$3"}]}
JSON
}

# -------------------------------------------------------------------- the story
title "Two sites that never touch"
say "Releases are made at dev and run at prod. No wire joins them; a folder called" \
  "stick plays the part of a USB stick. Each site has keys, a store and a card."
davit -q init dev --dir dev >/dev/null
run davit -q init prod --dir prod
say "" "Each side gets the other's card and the twelve words that belong to it, read over" \
  "the phone. The words are the whole of the trust: a changed card has other words."
prodwords=$(davit -c prod --json card | value words)
devwords=$(davit -c dev --json card | value words)
run davit -c dev peer add prod/prod.card.json --send releases --accept results --fingerprint "$prodwords"
run davit -c prod peer add dev/dev.card.json --accept releases --send results --fingerprint "$devwords"

title "The first release"
say "Four packages: the source tree of $goversion and three Go modules, with" \
  "a software bill of materials and the steps that deploy them. Here it is a person at" \
  "the keyboard; a build server would run the same command."
sbom 1.20.2 0.42.0 1.60.1
run davit -c dev release create toolbox 1.0.0 "go@${goversion#go}=$gosrc" "compress@1.20.2=$compress1" "text@0.42.0=$text1" \
  "sqlite@1.60.1=$sqlite1" --process process.yaml --attach sbom=sbom.cdx.json --notes 'Our first toolbox.'
run davit -c dev release show toolbox 1.0.0
run davit -c dev release verify toolbox 1.0.0

title "Onto the stick"
say "A dry run tells to the byte what would be written. Files can be held as small as" \
  "the medium needs them."
run davit -c dev promote toolbox 1.0.0 --to prod --folder stick --volume-size 40MiB --dry-run
before=$(bytes stick)
run davit -c dev promote toolbox 1.0.0 --to prod --folder stick --volume-size 40MiB
first=$(($(bytes stick) - before))
say "" "Whoever finds the stick learns from whom to whom it goes, when it was made and how" \
  "large it is, and nothing of what is in it:"
run head -n 2 stick/davit-dev-to-prod-000001.v01of*

title "Over the gap, without trust"
say "One volume was left in a drawer:"
mkdir drawer
mv stick/*.v02of* drawer
expect 4 davit -c prod import stick
mv drawer/* stick
say "" "One bit in the middle of a volume was changed on the way:"
mkdir changed
cp stick/* changed
victim=$(ls changed/*.v02of*)
offset=20000000
old=$(od -An -tu1 -j $offset -N 1 "$victim" | tr -d ' ')
printf "\\$(printf %03o $((old ^ 1)))" | dd of="$victim" bs=1 seek=$offset conv=notrunc status=none
expect 3 davit -c prod import changed
rm -r changed
say "" "And the stick as it was written:"
run davit -c prod import stick

title "A person decides, and deploys"
say "Nothing is visible at prod before somebody has looked and accepted."
run davit -c prod inbox show toolbox 1.0.0
run davit -c prod inbox accept toolbox 1.0.0
say "" "What dev could not know is set here. The secret is read from stdin, sealed at once," \
  "and shown nowhere."
run davit -c prod set toolbox REGISTRY=registry.prod.example --env production
secret=correct-horse-battery-staple
printf '\n  %s$ davit -c prod set toolbox TOKEN --env production --stdin <token%s\n' "$dim" "$plain"
printf %s "$secret" | davit -c prod set toolbox TOKEN --env production --stdin 2>&1 | sed 's|^|    |'
run davit -c prod values toolbox --env production
run davit -c prod deploy toolbox 1.0.0 --env production

title "The result comes home"
mkdir back
run davit -c prod export --results --to dev back
run davit -c dev settle back
run davit -c dev status

title "The second release sends what is new"
sbom 1.20.3 0.43.0 1.61.1
run davit -c dev release create toolbox 1.1.0 "go@${goversion#go}=$gosrc" "compress@1.20.3=$compress2" "text@0.43.0=$text2" \
  "sqlite@1.61.1=$sqlite2" --process process.yaml --attach sbom=sbom.cdx.json
run davit -c dev release diff toolbox 1.0.0 1.1.0
before=$(bytes stick)
run davit -c dev promote toolbox 1.1.0 --to prod --folder stick
second=$(($(bytes stick) - before))
say "" "Prod's signed receipt says that it holds 1.0.0, so 1.1.0 builds on it:" "" \
  "    first release    $first bytes on the stick" \
  "    second release   $second bytes, $((1000 * second / first / 10)).$((1000 * second / first % 10)) % of the first"
run davit -c prod import stick --accept
run davit -c prod deploy toolbox 1.1.0 --env production

title "A release that fails says so at home"
say "Nobody has brought prod's receipt for 1.1.0 back yet. --assume-delivered builds on" \
  "what was sent all the same."
cat >broken.yaml <<'YAML'
steps:
  - name: migrate
    run: echo migrating; sleep 60
    timeout: 2s
YAML
run davit -c dev release create toolbox 1.2.0 "go@${goversion#go}=$gosrc" "compress@1.20.4=$compress3" "text@0.44.0=$text3" \
  "sqlite@1.62.0=$sqlite3" --process broken.yaml
run davit -c dev promote toolbox 1.2.0 --to prod --folder stick --assume-delivered
run davit -c prod import stick --accept
expect 9 davit -c prod deploy toolbox 1.2.0 --env production
run davit -c prod export --results --to dev back
run davit -c dev settle back
run davit -c dev status

title "Nothing is taken on faith"
run davit -c prod check --read-data
run davit -c prod audit verify
say "" "The index is a memory, not the truth. Lost, it is made again from the store:"
run rm prod/index.sqlite
run davit -c prod repair index
run davit -c prod release list
if grep -rqF "$secret" .; then
  echo "The demo is broken: the secret was found in the clear." >&2
  exit 1
fi
if ! grep -rqF registry.prod.example .; then # so that the search is known to find things
  echo "The demo is broken: grep does not find what is there in the clear." >&2
  exit 1
fi
say "" "And the secret from chapter 5 is in the clear in no file of either site or the stick:" \
  "grep finds it nowhere."

title "Without davit"
if command -v zstd >/dev/null; then
  pack=$(ls -S dev/store/packs/*/* | head -n 1)
  say "A pack is an age file of zstd frames. Two standard programs open it, now and in" \
    "twenty years (examples/recovery-by-hand gets a whole file back):"
  run bash -c "age -d -i dev/keys/identity.txt $pack | zstd -d | grep -ac 'The Go Authors'"
  say "" "A release is signed JSON that anybody can read:"
  document=$(ls dev/store/documents/releases/* | head -n 1)
  run bash -c "age -d -i dev/keys/identity.txt $document | zstd -d |
      sed 's/.*\"payload\":\"\([^\"]*\)\".*/\1/' | base64 -d | head -c 160; echo …"
else
  say "This machine has no zstd, so the recovery by hand is left out: apt-get install zstd"
fi

printf '\n%sDone.%s The commands above are what a person types; davit help lists the rest.\n' "$bold" "$plain"
