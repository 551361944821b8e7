#!/usr/bin/env bash
# recover.sh IDENTITY STORE PROJECT VERSION PACKAGE
#
# Writes a file of a release to stdout, from the folder of a store and a key,
# without davit: with age, zstd and the tools of any GNU system. It reads every
# pack, so it is slow, and it asks for nothing but the pages named FORMAT.md.
set -euo pipefail
identity=$1 store=$2 project=$3 version=$4 package=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The release is a signed envelope; its payload is JSON in base64. (To check
# the signatures too, see manifest/FORMAT.md.)
release=
for document in "$store"/documents/releases/*; do
  json=$(age -d -i "$identity" "$document" | zstd -dc | sed 's/.*"payload":"\([^"]*\)".*/\1/' | base64 -d)
  case $json in *"\"project\":\"$project\",\"version\":\"$version\""*) release=$json ;; esac
done
test -n "$release" || { echo "there is no release $project $version" >&2; exit 1; }

# The package names its content: size, depth, root.
content=$(grep -o "{\"name\":\"$package\",\"version\":[^{]*\"content\":{[^}]*}" <<<"$release")
size=$(sed 's/.*"content":{"size":\([0-9]*\).*/\1/' <<<"$content")
depth=$(sed 's/.*"depth":\([0-9]*\).*/\1/' <<<"$content")
root=$(sed 's/.*"root":"\([0-9a-f]*\)".*/\1/' <<<"$content")
sum=$(sed 's/.*"sha256":"\([0-9a-f]*\)".*/\1/' <<<"$content")
echo "$package: $size bytes, $depth list(s) above its chunks" >&2

# number FILE OFFSET BYTES: a little-endian number.
number() { od -An -v -tu"$3" --endian=little -j "$2" -N "$3" "$1" | tr -d ' '; }

# entries FILE OFFSET: "name length" of each 36-byte entry from there on.
entries() {
  tail -c +$(($2 + 1)) "$1" | od -An -v -tx1 -w36 | awk '{
    name = ""; for (i = 1; i <= 32; i++) name = name $i
    print name, $36 $35 $34 $33 }' | while read -r name length; do echo "$name $((16#$length))"; done
}

# Every pack: decrypt, decompress, and read its table of chunks, which stands
# at the end of what age gives. Chunks lie in the order of the table.
for pack in "$store"/packs/*/*; do
  age -d -i "$identity" "$pack" >"$work/plain"
  zstd -dcq <"$work/plain" >"$work/$(basename "$pack")"
  end=$(wc -c <"$work/plain")
  table=$(number "$work/plain" $((end - 16)) 8)
  frames=$(number "$work/plain" $((table + 8)) 4)
  head -c $((end - 40)) "$work/plain" >"$work/table"
  entries "$work/table" $((table + 16 + 12 * frames)) |
    awk -v pack="$(basename "$pack")" '{ print $1, pack, at + 0, $2; at += $2 }' >>"$work/chunks"
done

# chunk NAME: its bytes, which must have the SHA-256 that they are named by.
chunk() {
  local pack at length
  read -r pack at length < <(awk -v name="$1" '$1 == name { print $2, $3, $4; exit }' "$work/chunks")
  tail -c +$((at + 1)) "$work/$pack" | head -c "$length" >"$work/piece" || true
  test "$(sha256sum <"$work/piece" | cut -c 1-64)" = "$1" || { echo "chunk $1 is damaged" >&2; exit 1; }
  cat "$work/piece"
}

# The root is the file, or a list of its chunks, or a list of a list.
if [ "$size" = 0 ]; then : >"$work/stream"; else chunk "$root" >"$work/stream"; fi
while [ "$depth" -gt 0 ]; do
  mv "$work/stream" "$work/list"
  entries "$work/list" 12 >"$work/names" # after the list's header
  while read -r name _; do chunk "$name"; done <"$work/names" >"$work/stream"
  depth=$((depth - 1))
done
test "$(sha256sum <"$work/stream" | cut -c 1-64)" = "$sum" || { echo "$package is not what was signed" >&2; exit 1; }
cat "$work/stream"
