package manifest_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/manifest"
)

var update = flag.Bool("update", false, "write the test vectors anew")

// The name of a reject vector says what is wrong with it: it begins with the
// error, and its last word but one is what it should have been, such as
// signature-other-signer.card.json.
var vectorErrors = map[string]error{
	"malformed": manifest.ErrMalformed,
	"signature": manifest.ErrSignature,
	"version":   manifest.ErrVersion,
	"kind":      manifest.ErrKind,
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	v := keys(t).Signing.Public()
	seen := map[string]int{}
	for _, path := range glob(t, "accept") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		kind := vectorKind(path)
		seen[kind]++
		if err := readVector(kind, data, v); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, kind := range []string{"card", "release", "bundle", "receipt", "result", "entry", "tree"} {
		if seen[kind] == 0 {
			t.Errorf("no accept vector for a %s", kind)
		}
	}
	used := map[string]bool{}
	for _, path := range glob(t, "reject") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		word, _, _ := strings.Cut(filepath.Base(path), "-")
		want := vectorErrors[word]
		used[word] = true
		if err := readVector(vectorKind(path), data, v); want == nil || !errors.Is(err, want) {
			t.Errorf("%s: error is %v", path, err)
		}
	}
	for word := range vectorErrors {
		if !used[word] {
			t.Errorf("no reject vector for %s", word)
		}
	}
}

func glob(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(vectors, dir, "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors in %s (%v)", dir, err)
	}
	return paths
}

func vectorKind(path string) string {
	parts := strings.Split(filepath.Base(path), ".")
	if parts[len(parts)-1] == "tree" {
		return "tree"
	}
	return parts[len(parts)-2]
}

func readVector(kind string, data []byte, v manifest.VerifyKey) error {
	if kind == "tree" {
		_, err := readTree(bytes.NewReader(data))
		return err
	}
	e, err := manifest.ParseEnvelope(data)
	if err != nil {
		return err
	}
	_, err = open(kind, e, v)
	return err
}

func readTree(r io.Reader) ([]manifest.TreeEntry, error) {
	var entries []manifest.TreeEntry
	tr := manifest.NewTreeReader(r)
	for {
		e, err := tr.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
}

func writeVectors(t *testing.T) {
	for _, dir := range []string{"keys", "accept", "reject"} {
		if err := os.MkdirAll(filepath.Join(vectors, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(vectors, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(vectors, "keys", "signing.txt")); err != nil {
		k, err := manifest.GenerateSiteKeys()
		if err != nil {
			t.Fatal(err)
		}
		write("keys/identity.txt", k.MarshalIdentity())
		write("keys/signing.txt", k.MarshalSigning())
	}
	k := keys(t)
	other, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	all := samples(t)
	for name, d := range all {
		write("accept/full."+name+".json", marshal(t, sign(t, k, d)))
	}
	minimal := sampleRelease()
	minimal.Packages = minimal.Packages[:1]
	minimal.Notes, minimal.Attachments, minimal.Parameters, minimal.Process = "", nil, nil, manifest.Process{}
	approved := sign(t, k, minimal)
	approved.Signatures = append(sign(t, other, minimal).Signatures, approved.Signatures...)
	write("accept/two-signers.release.json", marshal(t, approved))

	first := *all["bundle"].(*manifest.Bundle)
	first.Serial, first.Previous = 1, manifest.Digest{}
	write("accept/first.bundle.json", marshal(t, sign(t, k, &first)))

	// signed signs any payload, as no honest site would.
	signed := func(payloadType, payload string) []byte {
		e, err := manifest.SignRaw(k.Signing, payloadType, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		return marshal(t, e)
	}
	encoded := func(name string) string {
		data, err := manifest.EncodeDocument(all[name])
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	replaced := func(name, from, to string) string {
		s := encoded(name)
		if !strings.Contains(s, from) {
			t.Fatalf("no %s in the %s", from, name)
		}
		return strings.Replace(s, from, to, 1)
	}
	card := marshal(t, sign(t, k, all["card"]))

	write("reject/signature-other-signer.card.json", marshal(t, sign(t, other, all["card"])))
	one := sign(t, k, all["card"])
	one.Signatures = one.Signatures[:1]
	write("reject/signature-only-ed25519.card.json", marshal(t, one))
	one = sign(t, k, all["card"])
	one.Signatures = one.Signatures[1:]
	write("reject/signature-only-mldsa65.card.json", marshal(t, one))
	one = sign(t, k, all["card"])
	one.Signatures[1] = one.Signatures[0]
	write("reject/signature-ed25519-twice.card.json", marshal(t, one))
	one = sign(t, k, all["bundle"])
	one.Payload = []byte(replaced("bundle", `"to":"prod"`, `"to":"evil"`))
	write("reject/signature-other-payload.bundle.json", marshal(t, one))
	one = sign(t, k, all["receipt"])
	one.PayloadType = manifest.PayloadBundle
	write("reject/signature-other-type.bundle.json", marshal(t, one))

	write("reject/version-2.bundle.json", signed(manifest.PayloadBundle, replaced("bundle", `{"version":1`, `{"version":2`)))
	write("reject/version-predicate.release.json", signed(manifest.PayloadInToto, replaced("release", "urn:davit:release:1", "urn:davit:release:2")))
	write("reject/version-statement.release.json", signed(manifest.PayloadInToto, replaced("release", "Statement/v1", "Statement/v2")))
	write("reject/version-2.tree", []byte(`{"davit":"tree","version":2}`+"\n"))

	write("reject/kind-receipt.bundle.json", marshal(t, sign(t, k, all["receipt"])))
	write("reject/kind-result.release.json", marshal(t, sign(t, k, all["result"])))

	write("reject/malformed-space.bundle.json", signed(manifest.PayloadBundle, replaced("bundle", ":", ": ")))
	write("reject/malformed-unknown-member.receipt.json", signed(manifest.PayloadReceipt, replaced("receipt", `,"serial"`, `,"cereal":1,"serial"`)))
	write("reject/malformed-repeated-member.receipt.json", signed(manifest.PayloadReceipt, replaced("receipt", `,"serial":2`, `,"serial":3,"serial":2`)))
	write("reject/malformed-member-in-capitals.receipt.json", signed(manifest.PayloadReceipt, replaced("receipt", `,"serial"`, `,"Serial"`)))
	write("reject/malformed-time-zone.receipt.json", signed(manifest.PayloadReceipt, replaced("receipt", "12:00:00Z", "13:00:00+01:00")))
	write("reject/malformed-digest-in-capitals.receipt.json", signed(manifest.PayloadReceipt, replaced("receipt", digest("bundle 2").String(), strings.ToUpper(digest("bundle 2").String()))))
	write("reject/malformed-subject.release.json", signed(manifest.PayloadInToto, replaced("release", digest("web").String(), digest("bew").String())))
	write("reject/malformed-traversal.release.json", signed(manifest.PayloadInToto, replaced("release", `"path":"assets"`, `"path":"../assets"`)))
	write("reject/malformed-default-of-secret.release.json", signed(manifest.PayloadInToto, replaced("release", `"required":true`, `"default":"hunter2","required":true`)))
	write("reject/malformed-not-utf8.receipt.json", signed(manifest.PayloadReceipt, replaced("receipt", "stick", "st\xffck")))
	write("reject/malformed-no-facts.entry.json", signed(manifest.PayloadEntry, `{"version":1,"sequence":1,"previous":"","time":"2026-11-24T12:00:00Z","actor":"ada","facts":[]}`))

	write("reject/malformed-envelope-space.card.json", bytes.Replace(card, []byte(","), []byte(", "), 1))
	write("reject/malformed-envelope-member.card.json", bytes.Replace(card, []byte(`,"signatures"`), []byte(`,"more":1,"signatures"`), 1))
	write("reject/malformed-envelope-line-end-in-base64.card.json", bytes.Replace(card, []byte(`"payload":"`), []byte(`"payload":"\n`), 1))
	write("reject/malformed-envelope-cut.card.json", card[:len(card)/2])
	write("reject/malformed-envelope-no-signatures.card.json", []byte(`{"payloadType":"application/vnd.davit.card+json","payload":"e30=","signatures":[]}`))

	write("accept/full.tree", listing(t, sampleTree...))
	write("accept/empty.tree", listing(t))
	for name, lines := range badTrees {
		write("reject/malformed-"+name+".tree", []byte(lines))
	}
}
