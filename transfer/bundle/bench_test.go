package bundle_test

import (
	"testing"

	"davit/store/bucket"
	"davit/transfer/bundle"
)

// One payload of 64 MiB to a folder and back.
func benchMedium(b *testing.B) (medium *bucket.Dir, payload []byte) {
	medium, err := bucket.OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { medium.Close() })
	payload = noise(64<<20, 1)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	return medium, payload
}

func BenchmarkWrite(b *testing.B) {
	medium, payload := benchMedium(b)
	for b.Loop() {
		w, err := write(b.Context(), medium, testLabel(1), payload, 1, 16<<20)
		if err != nil {
			b.Fatal(err)
		}
		if err := w.Abort(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	medium, payload := benchMedium(b)
	w, err := write(b.Context(), medium, testLabel(1), payload, 1, 16<<20)
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Publish(b.Context()); err != nil {
		b.Fatal(err)
	}
	found, err := bundle.Scan(b.Context(), medium)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := found.Sets[0].Verify(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
