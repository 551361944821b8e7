#!/usr/bin/env bash
. "$(dirname "$0")/../start.sh"
if ! command -v zstd >/dev/null; then
  echo "zstd is not installed, so this example stops here: apt-get install zstd"
  exit 0
fi

davit -q init vault --dir vault >/dev/null
# A file of many chunks, and one of one chunk.
seq 1 400000 >numbers.txt
echo 'a short text' >note.txt
davit -c vault release create papers 1.0 numbers.txt note.txt

# From here on without davit, its index and its config.
rm vault/index.sqlite* vault/davit.yaml
"$here/recover.sh" vault/keys/identity.txt vault/store papers 1.0 numbers.txt >numbers.back
cmp numbers.txt numbers.back
"$here/recover.sh" vault/keys/identity.txt vault/store papers 1.0 note.txt >note.back
cmp note.txt note.back
echo "Both files are back, byte for byte."

# A pack as a whole: all chunks, one after another.
for pack in vault/store/packs/*/*; do
  age -d -i vault/keys/identity.txt "$pack" | zstd -dc | wc -c
done
