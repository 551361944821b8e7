package delta_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"davit/transfer/delta"
)

// noise is n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// prose is about n bytes of text that compresses, different for each seed.
func prose(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "func word%d(x, y int) int { return x*%d + other%d(y) }\n", r.IntN(5000), r.IntN(100), r.IntN(300))
	}
	return b.Bytes()
}

// makeApply makes a delta and applies it: what it gives must be target.
func makeApply(t testing.TB, base, target []byte, o delta.Options) ([]byte, *delta.Result) {
	t.Helper()
	o.TempDir = t.TempDir()
	var d bytes.Buffer
	r, err := delta.Make(t.Context(), bytes.NewReader(base), int64(len(base)), bytes.NewReader(target), int64(len(target)), &d, o)
	if err != nil {
		t.Fatalf("make: %v (%+v)", err, r)
	}
	if r.Bytes != int64(d.Len()) {
		t.Errorf("result says %d bytes, delta has %d", r.Bytes, d.Len())
	}
	if got := apply(t, base, d.Bytes()); !bytes.Equal(got, target) {
		t.Fatalf("target of %d bytes came back as %d other bytes", len(target), len(got))
	}
	return d.Bytes(), r
}

func apply(t testing.TB, base, d []byte) []byte {
	t.Helper()
	var got bytes.Buffer
	if err := delta.Apply(t.Context(), bytes.NewReader(base), int64(len(base)), bytes.NewReader(d), int64(len(d)), &got, delta.Options{TempDir: t.TempDir()}); err != nil {
		t.Fatalf("apply: %v", err)
	}
	return got.Bytes()
}

func TestRaw(t *testing.T) {
	base := noise(1, 300_000)
	target := bytes.Clone(base[1000:])
	copy(target[50_000:], "a few other bytes")
	target = append(target, noise(2, 500)...)
	d, r := makeApply(t, base, target, delta.Options{})
	if r.Form != delta.Raw || len(d) > 900 {
		t.Errorf("%s delta of %d bytes", r.Form, len(d))
	}
}

func TestNotWorth(t *testing.T) {
	base, target := noise(1, 10_000), noise(2, 10_000)
	var d bytes.Buffer
	r, err := delta.Make(t.Context(), bytes.NewReader(base), 10_000, bytes.NewReader(target), 10_000, &d, delta.Options{})
	if !errors.Is(err, delta.ErrNotWorth) || r == nil || d.Len() > 0 {
		t.Errorf("%v, %v, %d bytes", r, err, d.Len())
	}
}

// bg is for what takes no time.
var bg = context.Background()

type file struct {
	name string
	data []byte
}

// zipOf makes a zip as Go does.
func zipOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		fw, err := w.Create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fw.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestUnchangedMembers needs no deflate model: what the base has is kept.
func TestUnchangedMembers(t *testing.T) {
	var old, now []file
	for i := range 200 {
		f := file{fmt.Sprintf("module@v1.0.0/dir/file%d.go", i), prose(uint64(i), 3000)}
		old = append(old, f)
		if i == 70 {
			now = append(now, file{"module@v1.0.0/new.go", noise(7, 100)})
		}
		if i != 100 {
			now = append(now, f)
		}
	}
	target := zipOf(t, now...)
	d, r := makeApply(t, zipOf(t, old...), target, delta.Options{})
	if r.Form != delta.Opened || r.Kept != 199 || len(d) > 1000 {
		t.Errorf("%s delta of %d bytes for %d: %+v", r.Form, len(d), len(target), r)
	}
}
