package delta_test

import (
	"bytes"
	"testing"

	"davit/transfer/delta"
)

func TestSketch(t *testing.T) {
	sketch := func(b []byte) delta.Sketch {
		t.Helper()
		s, err := delta.MakeSketch(t.Context(), bytes.NewReader(b), int64(len(b)), delta.Options{TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := noise(1, 300_000), noise(2, 300_000)
	half := append(bytes.Clone(a[:150_000]), b[:150_000]...)
	for what, c := range map[string]struct {
		x, y       []byte
		from, upto float64
	}{
		"the same":           {a, a, 1, 1},
		"nothing in common":  {a, b, 0, 0.05},
		"half":               {a, half, 0.2, 0.5},
		"moved":              {a, append(bytes.Clone(a[100_000:]), a[:100_000]...), 0.95, 1},
		"opened and not":     {gzipOf(t, a), a, 0.9, 1},
		"empty":              {nil, a, 0, 0},
		"too short to tell":  {a[:10], a[:10], 0, 0},
		"a little, and more": {a[:1000], a, 0, 0.05},
	} {
		if got := sketch(c.x).Like(sketch(c.y)); got < c.from || got > c.upto {
			t.Errorf("%s: %.2f, want %.2f to %.2f", what, got, c.from, c.upto)
		}
	}
}
