#!/usr/bin/env bash
. "$(dirname "$0")/../start.sh"

# Two sites. The folder "stick" is what a person carries between them.
davit init dev --dir dev
davit init prod --dir prod
mkdir stick

# Each lets the other in. The words come from the other side, by telephone.
words=$(davit -c prod --json card | sed -n 's/.*"words": "\(.*\)".*/\1/p')
davit -c dev peer add prod/prod.card.json --send releases --accept results --fingerprint "$words"
words=$(davit -c dev --json card | sed -n 's/.*"words": "\(.*\)".*/\1/p')
davit -c prod peer add dev/dev.card.json --accept releases --send results --fingerprint "$words"

# One file, one step.
echo 'echo "hello from $DAVIT_SITE"' >hello.sh
cat >process.yaml <<'YAML'
steps:
  - name: greet
    run: [/bin/sh, hello.sh]
YAML
davit -c dev release create greeting 1.0 hello.sh --process process.yaml
davit -c dev promote greeting 1.0 --to prod --folder stick

# On the other side.
davit -c prod import stick --accept
davit -c prod deploy greeting 1.0 --env production | tee log.txt
grep -q '^hello from prod$' log.txt
