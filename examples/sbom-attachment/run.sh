#!/usr/bin/env bash
. "$(dirname "$0")/../start.sh" sites

mkdir app stick
echo 'package main' >app/main.go
cat >app.cdx.json <<'JSON'
{"bomFormat": "CycloneDX", "specVersion": "1.6",
 "components": [{"type": "library", "name": "golang.org/x/text", "version": "v0.44.0"}]}
JSON
cat >build.intoto.json <<JSON
{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
 "subject": [{"name": "main.go", "digest": {"sha256": "$(sha256sum app/main.go | cut -c 1-64)"}}], "predicate": {}}
JSON

davit -c dev release create app 1.0 app --attach sbom=app.cdx.json --attach attestation=build.intoto.json
davit -c dev promote app 1.0 --to prod --folder stick
davit -c prod import stick --accept

# The attachments travelled with the release and are part of what is signed:
# the digests shown at prod are those of the files at dev.
davit -c prod release verify app 1.0
davit -c prod release show app 1.0
for file in app.cdx.json build.intoto.json; do
  davit -c prod --json release show app 1.0 | grep -F "$(sha256sum $file | cut -c 1-64)" >/dev/null
done

# Another bill of materials is another release.
echo '{}' >app.cdx.json
must 6 davit -c dev release create app 1.0 app --attach sbom=app.cdx.json --attach attestation=build.intoto.json
