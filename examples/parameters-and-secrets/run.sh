#!/usr/bin/env bash
. "$(dirname "$0")/../start.sh" sites

mkdir app stick
echo 'the service' >app/service
davit -c dev release create shop 2.0 app --process "$here/process.yaml"
davit -c dev promote shop 2.0 --to prod --folder stick

# The import says what the site has to fill in.
davit -c prod import stick --accept
must 4 davit -c prod deploy shop 2.0 --env production

# A value for one environment, another for all.
davit -c prod set shop LISTEN=0.0.0.0:443 --env production
davit -c prod set shop WORKERS=16
# A value of the wrong type is refused at once.
must 2 davit -c prod set shop WORKERS=many
# A secret is never taken from the command line, where others could read it.
must 2 davit -c prod set shop PASSWORD=hunter2-hunter2 --env production
printf 'hunter2-hunter2' | davit -c prod set shop PASSWORD --env production --stdin

davit -c prod values shop --env production
davit -c prod deploy shop 2.0 --env production | tee log.txt
grep -q '^workers = 16$' log.txt
grep -q '^signing in with \*\*\*$' log.txt

# The secret is in the clear nowhere; what is no secret is found.
echo "looking for the secret …"
if grep -rqF hunter2-hunter2 .; then
  echo "found it" >&2
  exit 1
fi
grep -rqF 0.0.0.0:443 .
