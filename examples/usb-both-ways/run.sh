#!/usr/bin/env bash
. "$(dirname "$0")/../start.sh" sites

# The route says where bundles for prod go and how large a file may be.
mkdir stick
cat >>dev/davit.yaml <<'YAML'
routes:
  prod:
    folder: ../stick
    volume_size: 1MiB
YAML

# One and a half megabytes that do not compress, in a program that succeeds …
mkdir app
head -c 1500000 /dev/urandom >app/data.bin
echo 'test -s app/data.bin && echo "all there"' >app/check.sh
cat >process.yaml <<'YAML'
steps:
  - name: check
    run: [/bin/sh, app/check.sh]
    timeout: 1m
YAML
davit -c dev release create app 1.0 app --process process.yaml
davit -c dev promote app 1.0 --to prod
ls -l stick

# Carried to prod, deployed, and the result put on the same stick.
davit -c prod import stick --accept
davit -c prod deploy app 1.0 --env production
davit -c prod export --results --to dev stick

# Carried back.
davit -c dev settle stick
davit -c dev status

# … and one that fails. Of the data nothing travels twice.
echo 'echo "no room for 1.1"; exit 3' >app/check.sh
davit -c dev release create app 1.1 app --process process.yaml
davit -c dev promote app 1.1 --to prod
davit -c prod import stick --accept
must 9 davit -c prod deploy app 1.1 --env production
davit -c prod export --results --to dev stick
davit -c dev settle stick
davit -c dev status | tee status.txt
grep -q '1\.1 FAILED' status.txt

# The whole log came along.
id=$(davit -c dev --json log | sed -n 's/.*"id": "\([0-9a-f]*\)".*/\1/p' | head -n 1)
davit -c dev log "$id" | tee log.txt
grep -q 'no room for 1.1' log.txt

# All bundles are still on the stick, and importing them again does nothing.
davit -c prod import stick
davit -c dev settle stick
