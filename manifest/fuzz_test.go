package manifest_test

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"davit/manifest"
)

// seeds returns the vectors whose names end in suffix. A fuzz target without
// seeds tests next to nothing, so that is an error.
func seeds(f *testing.F, suffix string) [][]byte {
	f.Helper()
	var all [][]byte
	for _, dir := range []string{"accept", "reject"} {
		paths, err := filepath.Glob(filepath.Join(vectors, dir, "*"+suffix))
		if err != nil || len(paths) == 0 {
			f.Fatalf("no vectors %s/*%s (%v)", dir, suffix, err)
		}
		for _, p := range paths {
			data, err := os.ReadFile(p)
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, data)
		}
	}
	return all
}

func FuzzParseEnvelope(f *testing.F) {
	for _, s := range seeds(f, ".json") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := manifest.ParseEnvelope(data)
		if err != nil {
			return
		}
		again, err := e.Marshal()
		if err != nil || !bytes.Equal(again, append(bytes.TrimRight(data, " \t\r\n"), '\n')) {
			t.Fatalf("read %q and wrote %q, %v", data, again, err)
		}
		manifest.Inspect(e)
	})
}

func FuzzDocuments(f *testing.F) {
	for _, s := range seeds(f, ".json") {
		if e, err := manifest.ParseEnvelope(s); err == nil {
			f.Add(e.Payload)
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		read := 0
		for _, d := range []manifest.Document{new(manifest.Card), new(manifest.Release), new(manifest.Bundle), new(manifest.Receipt), new(manifest.Result), new(manifest.Entry), new(manifest.Seal)} {
			if manifest.DecodeDocument(payload, d) != nil {
				continue
			}
			read++
			again, err := manifest.EncodeDocument(d)
			if err != nil || !bytes.Equal(again, payload) {
				t.Fatalf("read %q and wrote %q, %v", payload, again, err)
			}
		}
		if read > 1 {
			t.Fatalf("%q is read as %d kinds of document", payload, read)
		}
	})
}

func FuzzTreeReader(f *testing.F) {
	for _, s := range seeds(f, ".tree") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := readTree(bytes.NewReader(data))
		if err != nil {
			return
		}
		if again := listing(t, entries...); !bytes.Equal(again, data) {
			t.Fatalf("read %q and wrote %q", data, again)
		}
	})
}

func FuzzCheckPath(f *testing.F) {
	for _, s := range []string{"a/b", "../a", "NUL", `a\b`, "a/./b", "C:x", "é", "\xff", "a ", "..."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if manifest.CheckPath(p) != nil {
			return
		}
		if !fs.ValidPath(p) || path.Clean(p) != p || !filepath.IsLocal(filepath.FromSlash(p)) || strings.Contains(p, `\`) {
			t.Fatalf("%q is allowed", p)
		}
		manifest.FoldPath(p)
	})
}

func FuzzParseFingerprint(f *testing.F) {
	f.Add(manifest.Fingerprint{1, 2, 3}.Words())
	f.Add(manifest.Fingerprint{1, 2, 3}.String())
	f.Add("abandon abandon abandn")
	f.Fuzz(func(t *testing.T, typed string) {
		fp, err := manifest.ParseFingerprint(typed)
		if err != nil {
			return
		}
		folded := strings.ToLower(strings.Join(strings.Fields(typed), " "))
		if folded != fp.Words() && strings.ReplaceAll(folded, " ", "") != fp.String() {
			t.Fatalf("%q is read as %s", typed, fp)
		}
	})
}

func FuzzParseSiteKeys(f *testing.F) {
	for _, name := range []string{"identity.txt", "signing.txt"} {
		if _, err := os.Stat(filepath.Join(vectors, "keys", name)); err != nil {
			f.Fatal(err)
		}
	}
	k := keys(f)
	f.Add(k.MarshalIdentity(), k.MarshalSigning())
	f.Add([]byte("age-encryption.org/v1\n"), k.MarshalSigning())
	f.Fuzz(func(t *testing.T, identity, signing []byte) {
		got, err := manifest.ParseSiteKeys(identity, signing, nil)
		if err != nil {
			return
		}
		if again, err := manifest.ParseSiteKeys(got.MarshalIdentity(), got.MarshalSigning(), nil); err != nil || !again.Signing.Public().Equal(got.Signing.Public()) {
			t.Fatalf("keys do not come back: %v", err)
		}
	})
}
