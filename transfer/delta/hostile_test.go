package delta_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"davit/transfer/delta"
)

// sample is a base, a target and the delta between them, in the opened form
// with all that a structure can have but streams.
func sample(t testing.TB) (base, target, d []byte) {
	a, b, c := file{"m@1/a", prose(1, 4000)}, file{"m@1/b", prose(2, 4000)}, file{"m@1/c", prose(3, 400)}
	base = tarOf(t, file{"z", zipOf(t, a, b, c)}, file{"g", gzipOf(t, c.data)})
	a.name, b.name, c.name = "m@2/a", "m@2/b", "m@2/c and more"
	target = tarOf(t, file{"new", noise(3, 200)}, file{"z", zipOf(t, b, a, file{"m@2/s", noise(4, 50)}, c)}, file{"g", gzipOf(t, c.data)})
	d, r := makeApply(t, base, target, delta.Options{})
	if r.Form != delta.Opened || r.Kept != 4 {
		t.Fatalf("%+v", r)
	}
	return base, target, d
}

// refused applies d, which must fail, with nothing written.
func refused(t testing.TB, base, d []byte) error {
	t.Helper()
	dir := t.TempDir()
	var w bytes.Buffer
	err := delta.Apply(bg, bytes.NewReader(base), int64(len(base)), bytes.NewReader(d), int64(len(d)), &w, delta.Options{TempDir: dir})
	if err == nil {
		t.Fatal("delta was taken")
	}
	if w.Len() > 0 {
		t.Fatalf("%d bytes were given out: %v", w.Len(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Fatalf("%s is left behind: %v", left[0].Name(), err)
	}
	return err
}

// harmless applies d, which may be anything: it gives target, or an error and
// nothing.
func harmless(t testing.TB, base, target, d []byte) error {
	t.Helper()
	var w bytes.Buffer
	err := delta.Apply(bg, bytes.NewReader(base), int64(len(base)), bytes.NewReader(d), int64(len(d)), &w, delta.Options{})
	if err == nil && !bytes.Equal(w.Bytes(), target) || err != nil && w.Len() > 0 {
		t.Fatalf("%d wrong bytes came out, %v", w.Len(), err)
	}
	return err
}

// TestEveryBit turns each byte of a delta: no other target comes out. (Some bits
// of zstd mean nothing.)
func TestEveryBit(t *testing.T) {
	base, target, d := sample(t)
	taken := 0
	for i := range d {
		bad := bytes.Clone(d)
		bad[i] ^= 1 << (i % 8)
		err := harmless(t, base, target, bad)
		if err == nil {
			taken++
		} else if !errors.Is(err, delta.ErrDamaged) && !errors.Is(err, delta.ErrVersion) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	if taken > 8 {
		t.Errorf("%d of %d bytes do not matter", taken, len(d))
	}
}

func TestEveryLength(t *testing.T) {
	base, _, d := sample(t)
	for i := range d {
		if err := refused(t, base, d[:i]); !errors.Is(err, delta.ErrDamaged) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if err := refused(t, base, append(bytes.Clone(d), 0)); !errors.Is(err, delta.ErrDamaged) {
		t.Error(err)
	}
}

func TestWrongBase(t *testing.T) {
	base, target, d := sample(t)
	other := bytes.Clone(base)
	other[700]++
	for _, b := range [][]byte{nil, target, base[:len(base)-1], other} {
		if err := refused(t, b, d); !errors.Is(err, delta.ErrWrongBase) {
			t.Error(err)
		}
	}
}

func TestVersions(t *testing.T) {
	base, _, d := sample(t)
	for at, what := range map[int]string{8: "version", 9: "form"} {
		bad := delta.Reseal(d, func(h []byte) []byte { h[at] = 3; return h })
		if err := refused(t, base, bad); !errors.Is(err, delta.ErrVersion) || errors.Is(err, delta.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// An encoder that nobody has.
	bad := delta.WithEncoder(d, 0x3ff0)
	var lacking *delta.EncoderError
	if err := refused(t, base, bad); !errors.As(err, &lacking) || len(lacking.Encoders) != 1 || lacking.Encoders[0] != 0x3ff0 {
		t.Errorf("%v", err)
	}
	if v, err := delta.Inspect(bytes.NewReader(bad), int64(len(bad))); err != nil || !slices.Equal(v.Lacking, []uint16{0x3ff0}) {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestLies: a header with other numbers, sealed again, is refused.
func TestLies(t *testing.T) {
	base, _, d := sample(t)
	n := delta.HeaderLength(d)
	for i := 8; i < n-delta.HeaderSumSize; i++ {
		for _, with := range [][]byte{{0}, {0x7f}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}} {
			if len(with) == 1 && with[0] == d[i] {
				continue
			}
			bad := delta.Reseal(d, func(h []byte) []byte { return slices.Replace(h, i, i+1, with...) })
			refused(t, base, bad)
		}
	}
}

// TestStructures gives every byte of the structure, which stands among the
// literals or is copied, another value: bytes that are wrong never come out.
func TestStructures(t *testing.T) {
	base, target, d := sample(t)
	tried := 0
	for section := range 6 {
		size := 0
		for at := 0; at == 0 || at < size; at++ {
			for _, c := range []byte{1, 0x83} {
				bad, err := delta.Rewrite(base, d, c == 1, func(s [][]byte) {
					if size = len(s[section]); at < size {
						s[section][at] ^= c
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if at < size {
					if harmless(t, base, target, bad) != nil {
						tried++
					}
				}
			}
		}
	}
	if tried < 300 {
		t.Errorf("only %d refused", tried)
	}
}

func TestStructureLimits(t *testing.T) {
	nested := bytes.Repeat([]byte{5}, 100)
	for name, b := range map[string][]byte{
		"nothing":               {},
		"no end":                {1, 3},
		"bytes after the end":   {1, 3, 0, 0},
		"unknown kind":          {17, 0},
		"content too short":     {1, 2, 0},
		"content too long":      {1, 4, 0},
		"nested without an end": append(nested[:3:3], 1, 3),
		"nested too deep":       slices.Concat(nested, []byte{1, 3}, make([]byte, 101)),
		"too many parts":        append(append([]byte{1, 3}, bytes.Repeat([]byte{16}, 1_000_000)...), 0),
		"keep of nothing":       {1, 3, 7, 0, 0, 0},
		"keep of too many":      {1, 3, 7, 0, 0xff, 0xff, 0xff, 0xff, 1, 0},
		"opaque cut":            {6, 3, 1, 2, 3},
		"huge part":             {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0},
	} {
		if _, err := delta.ParseStructure(b, 3); !errors.Is(err, delta.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := delta.ParseStructure([]byte{1, 1, 3, 2, 2, 0, 0}, 3); n != 2 || err != nil {
		t.Errorf("%d streams, %v", n, err)
	}
}

// TestBomb: what opens to too much is not opened.
func TestBomb(t *testing.T) {
	bomb := gzipOf(t, make([]byte, 80<<20))
	old := append(bytes.Clone(bomb), "one"...)
	now := append(bytes.Clone(bomb), "two"...)
	_, r := makeApply(t, old, now, delta.Options{})
	if r.Form != delta.Raw || r.Reason == "" {
		t.Errorf("%+v", r)
	}
	small := gzipOf(t, make([]byte, 1<<20))
	_, r = makeApply(t, small, append(bytes.Clone(small), "more"...), delta.Options{MaxOpened: 1000})
	if r.Form != delta.Raw || r.Reason == "" {
		t.Errorf("%+v", r)
	}
}

func TestCancel(t *testing.T) {
	base, target, d := sample(t)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	dir := t.TempDir()
	_, err := delta.Make(ctx, bytes.NewReader(base), int64(len(base)), bytes.NewReader(target), int64(len(target)), io.Discard, delta.Options{TempDir: dir})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	err = delta.Apply(ctx, bytes.NewReader(base), int64(len(base)), bytes.NewReader(d), int64(len(d)), io.Discard, delta.Options{TempDir: dir})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// broken is a file that cannot be read from a place on.
type broken struct {
	io.ReaderAt
	from int64
}

var errBroken = errors.New("broken")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.from {
		return 0, errBroken
	}
	return b.ReaderAt.ReadAt(p, off)
}

// TestBroken: what cannot be read is an error and no damage of the delta.
func TestBroken(t *testing.T) {
	base, target, d := sample(t)
	size := int64(len(base))
	for _, from := range []int64{0, size / 2, size - 1} {
		b := broken{bytes.NewReader(base), from}
		err := delta.Apply(bg, b, size, bytes.NewReader(d), int64(len(d)), io.Discard, delta.Options{})
		if !errors.Is(err, errBroken) || errors.Is(err, delta.ErrDamaged) {
			t.Errorf("base from %d: %v", from, err)
		}
		_, err = delta.Make(bg, b, size, bytes.NewReader(target), int64(len(target)), io.Discard, delta.Options{})
		if !errors.Is(err, errBroken) {
			t.Errorf("make, base from %d: %v", from, err)
		}
	}
	err := delta.Apply(bg, bytes.NewReader(base), size, bytes.NewReader(d), int64(len(d)), failing{}, delta.Options{})
	if !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errBroken }

func TestInspect(t *testing.T) {
	base, target, d := sample(t)
	v, err := delta.Inspect(bytes.NewReader(d), int64(len(d)))
	if err != nil {
		t.Fatal(err)
	}
	if v.Form != delta.Opened || v.Base.Size != int64(len(base)) || v.Target.Size != int64(len(target)) || len(v.Base.SHA256) != 64 || v.Lacking != nil {
		t.Errorf("%+v", v)
	}
	sum := int64(delta.HeaderLength(d)) + v.Gaps.Packed + v.Copies.Packed + v.Addresses.Packed + v.Literals.Packed + v.Differs.Packed + v.Closings.Packed
	if sum != int64(len(d)) {
		t.Errorf("parts have %d bytes, delta %d", sum, len(d))
	}
}

func TestNumbers(t *testing.T) {
	base, _, d := sample(t)
	// A number that is longer than it must be.
	bad := delta.Reseal(d, func(h []byte) []byte { return slices.Replace(h, 9, 10, 0x82, 0) })
	if err := refused(t, base, bad); !errors.Is(err, delta.ErrDamaged) {
		t.Error(err)
	}
}
