package bundle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer/bundle"
)

// smallest is the volume size of most tests: 15 blocks and a file of at most
// 1 MiB.
const (
	smallest = bundle.MinVolumeSize
	capacity = 15 * bundle.BlockSize
)

func ExampleLabel_Name() {
	l := bundle.Label{From: "dev", To: "prod", Serial: 42}
	fmt.Println(l.Name(1, 3))
	fmt.Println(l.Name(7, 120))
	// Output:
	// davit-dev-to-prod-000042.v01of03
	// davit-dev-to-prod-000042.v007of120
}

func testLabel(serial int64) bundle.Label {
	l := bundle.Label{
		From: "dev", To: "prod", Serial: serial, Kind: manifest.KindReleases,
		Created: manifest.NewTime(time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)),
	}
	for i := range l.Bundle {
		l.Bundle[i] = byte(serial) + byte(i) + 1
	}
	return l
}

// noise is a payload that no other seed has.
func noise(size int, seed uint64) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, size)
	rand.NewChaCha8(key).Read(b)
	return b
}

func write(ctx context.Context, medium bucket.Bucket, l bundle.Label, payload []byte, documents, volumeSize int64) (*bundle.Writer, error) {
	w, err := bundle.NewWriter(ctx, medium, l, int64(len(payload)), documents, volumeSize)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(payload); err != nil {
		return w, err
	}
	return w, w.Seal()
}

// publish puts a bundle on a medium and returns the names of its volumes.
func publish(t testing.TB, medium bucket.Bucket, l bundle.Label, payload []byte) []string {
	t.Helper()
	w, err := write(t.Context(), medium, l, payload, 1, smallest)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w.Names()
}

func scan(t testing.TB, medium bucket.Reader) *bundle.Found {
	t.Helper()
	found, err := bundle.Scan(t.Context(), medium)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// only returns the one set on a medium that holds nothing damaged.
func only(t testing.TB, medium bucket.Reader) *bundle.Set {
	t.Helper()
	found := scan(t, medium)
	if len(found.Sets) != 1 || len(found.Damaged) != 0 {
		t.Fatalf("found %d sets and damage %v, want one set", len(found.Sets), found.Damaged)
	}
	return found.Sets[0]
}

func readAll(t testing.TB, s *bundle.Set) []byte {
	t.Helper()
	p, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// objects is everything on a medium, by name.
func objects(t testing.TB, medium bucket.Reader) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	for info, err := range medium.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		b, err := bucket.Get(t.Context(), medium, info.Name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		m[info.Name] = b
	}
	return m
}

// replace puts other bytes under a name; nil removes it.
func replace(t testing.TB, medium bucket.Bucket, name string, b []byte) {
	t.Helper()
	if err := medium.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if b == nil {
		return
	}
	if err := bucket.Put(t.Context(), medium, name, b); err != nil {
		t.Fatal(err)
	}
}

func TestPlan(t *testing.T) {
	const most = 1<<53 - 1
	for _, test := range []struct {
		payload, size int64
		volumes       int
		err           string
	}{
		{1, smallest, 1, ""},
		{capacity, smallest, 1, ""},
		{capacity + 1000, smallest, 1, ""}, // 15 blocks and a short one still fit
		{16 * bundle.BlockSize, smallest, 2, ""},
		{capacity * 3, smallest, 3, ""},
		{capacity*3 + 1, smallest, 4, ""},
		{10 << 30, 0, 3, ""},
		{capacity * bundle.MaxVolumes, smallest, bundle.MaxVolumes, ""},
		{capacity*bundle.MaxVolumes + 1, smallest, 0, "larger volume size"},
		{most, bundle.MaxVolumeSize, 0, "larger volume size"},
		{0, smallest, 0, "payload of 0"},
		{-1, smallest, 0, "payload of -1"},
		{most + 1, smallest, 0, "payload of"},
		{1, smallest - 1, 0, "volume size"},
		{1, bundle.MaxVolumeSize + 1, 0, "volume size"},
		{1, -1, 0, "volume size"},
	} {
		got, err := bundle.Plan(test.payload, test.size)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("Plan(%d, %d): error %v, want one with %q", test.payload, test.size, err, test.err)
			}
			continue
		}
		if err != nil || len(got.Volumes) != test.volumes {
			t.Errorf("Plan(%d, %d): %d volumes, error %v, want %d", test.payload, test.size, len(got.Volumes), err, test.volumes)
		}
	}
	if bundle.DefaultVolumeSize >= 4<<30-1 {
		t.Error("a volume of the default size does not fit FAT32")
	}
}

func TestNewWriterRefuses(t *testing.T) {
	for name, change := range map[string]func(l *bundle.Label, payload, documents *int64){
		"zero bundle id":   func(l *bundle.Label, _, _ *int64) { l.Bundle = manifest.BundleID{} },
		"bad sender":       func(l *bundle.Label, _, _ *int64) { l.From = "Dev/.." },
		"bad recipient":    func(l *bundle.Label, _, _ *int64) { l.To = "" },
		"serial 0":         func(l *bundle.Label, _, _ *int64) { l.Serial = 0 },
		"kind in capitals": func(l *bundle.Label, _, _ *int64) { l.Kind = "Releases" },
		"no kind":          func(l *bundle.Label, _, _ *int64) { l.Kind = "" },
		"no time":          func(l *bundle.Label, _, _ *int64) { l.Created = manifest.Time{} },
		"empty payload":    func(_ *bundle.Label, p, _ *int64) { *p = 0 },
		"no documents":     func(_ *bundle.Label, _, d *int64) { *d = 0 },
		"more documents":   func(_ *bundle.Label, _, d *int64) { *d = 101 },
	} {
		l, payload, documents := testLabel(1), int64(100), int64(10)
		change(&l, &payload, &documents)
		if _, err := bundle.NewWriter(t.Context(), bucket.NewMem(), l, payload, documents, 0); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWrongLength(t *testing.T) {
	medium := bucket.NewMem()
	w, err := bundle.NewWriter(t.Context(), medium, testLabel(1), 10, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(t.Context()); err == nil {
		t.Error("published before it was sealed")
	}
	if _, err := w.Write(make([]byte, 11)); err == nil {
		t.Error("took more bytes than announced")
	}
	if err := w.Seal(); err == nil {
		t.Error("sealed after a failure")
	}
	w, err = bundle.NewWriter(t.Context(), medium, testLabel(1), 10, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, 9))
	if err := w.Seal(); err == nil {
		t.Error("sealed with a byte missing")
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
}

type fullBucket struct {
	bucket.Bucket
	free int64
}

func (b fullBucket) Free(context.Context) (int64, error) { return b.free, nil }

func TestNoSpace(t *testing.T) {
	plan, err := bundle.Plan(capacity*2, smallest)
	if err != nil {
		t.Fatal(err)
	}
	medium := fullBucket{bucket.NewMem(), plan.Total - 1}
	_, err = bundle.NewWriter(t.Context(), medium, testLabel(1), capacity*2, 1, smallest)
	var full *bucket.NoSpaceError
	if !errors.As(err, &full) || full.Need != plan.Total || full.Have != plan.Total-1 {
		t.Fatalf("one byte too few gives %v", err)
	}
	medium.free++
	if _, err := write(t.Context(), medium, testLabel(1), noise(capacity*2, 1), 1, smallest); err != nil {
		t.Fatalf("exactly enough room gives %v", err)
	}
}

func TestNameTaken(t *testing.T) {
	medium := bucket.NewMem()
	l := testLabel(1)
	// Both see free names, one publishes first.
	slow, err := write(t.Context(), medium, l, noise(capacity*2, 1), 1, smallest)
	if err != nil {
		t.Fatal(err)
	}
	other := l
	other.Bundle = testLabel(2).Bundle
	publish(t, medium, other, noise(capacity*2, 2))
	before := objects(t, medium)

	for what, err := range map[string]error{
		"Publish": slow.Publish(t.Context()),
		"NewWriter": func() error {
			_, err := bundle.NewWriter(t.Context(), medium, l, capacity*2, 1, smallest)
			return err
		}(),
	} {
		var taken *bundle.ExistError
		if !errors.As(err, &taken) || !errors.Is(err, bucket.ErrExist) {
			t.Fatalf("%s gives %v", what, err)
		}
		if !strings.Contains(err.Error(), other.Bundle.String()) {
			t.Errorf("%s does not say who holds the name: %v", what, err)
		}
	}
	if err := slow.Abort(); err != nil {
		t.Fatal(err)
	}
	if after := objects(t, medium); len(after) != len(before) {
		t.Errorf("Abort touched another's volumes: %d files of %d", len(after), len(before))
	}
	if err := only(t, medium).Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
