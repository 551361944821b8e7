package delta_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"davit/transfer/delta"
)

const vectors = "../../test/vectors/delta"

// pairs are two versions each of small packages by real producers.
func pairs(t testing.TB) map[string][2][]byte {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(vectors, "pairs", "*", "old"))
	if err != nil || len(folders) < 6 {
		t.Fatalf("%d pairs, %v", len(folders), err)
	}
	all := map[string][2][]byte{}
	for _, old := range folders {
		dir := filepath.Dir(old)
		var pair [2][]byte
		for i, name := range []string{"old", "new"} {
			if pair[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		all[filepath.Base(dir)] = pair
	}
	return all
}

// FuzzApply applies anything to a small base.
func FuzzApply(f *testing.F) {
	base, target, d := sample(f)
	f.Add(d)
	plain, err := delta.Rewrite(base, d, false, func([][]byte) {})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	raw, _ := makeApply(f, base[:2000], append(noise(1, 50), base[:1500]...), delta.Options{})
	f.Add(raw)
	f.Fuzz(func(t *testing.T, d []byte) { harmless(t, base, target, d) })
}

// FuzzSections gives the decoder and the closer any sections, under a header
// that fits them: past the sums.
func FuzzSections(f *testing.F) {
	base, target, d := sample(f)
	if _, err := delta.Rewrite(base, d, false, func(s [][]byte) { f.Add(s[0], s[1], s[2], s[3], s[4], s[5], true) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, gaps, copies, addresses, literals, differences, closings []byte, pack bool) {
		bad, err := delta.Rewrite(base, d, pack, func(s [][]byte) {
			s[0], s[1], s[2], s[3], s[4], s[5] = gaps, copies, addresses, literals, differences, closings
		})
		if err != nil {
			t.Fatal(err)
		}
		harmless(t, base, target, bad)
	})
}

// FuzzClose gives the closer any opened target: structure, content and recipes
// of a real one, changed.
func FuzzClose(f *testing.F) {
	n := 0
	for _, pair := range pairs(f) {
		old, now := pair[0], pair[1]
		content, structure, closings, err := delta.OpenTarget(bg, old, now)
		if err != nil {
			f.Fatal(err)
		}
		if len(closings) > 0 {
			n++
		}
		f.Add(old, content, structure, closings)
	}
	if n == 0 {
		f.Fatal("no stream is proven")
	}
	f.Fuzz(func(t *testing.T, base, content, structure, closings []byte) {
		const most = 1 << 20
		b, err := delta.Close(bg, base, content, structure, closings, most)
		if len(b) > most || err == nil && len(b) != most {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
	})
}

// FuzzOpen opens anything as a base: it never fails but for its size, and it
// opens to the same again.
func FuzzOpen(f *testing.F) {
	for _, a := range archives(f) {
		if len(a.data) < 100_000 {
			f.Add(a.data)
		}
	}
	for _, pair := range pairs(f) {
		f.Add(pair[0])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o := delta.Options{MaxOpened: 4 << 20}
		content, structure, records, err := delta.OpenBase(bg, b, 3, o)
		if err != nil {
			return
		}
		o.Workers = 1
		c2, s2, r2, err := delta.OpenBase(bg, b, 3, o)
		if err != nil || !bytes.Equal(content, c2) || !bytes.Equal(structure, s2) || records != r2 {
			t.Fatalf("opens to something else the second time: %v", err)
		}
	})
}

// FuzzRoundTrip makes deltas between archives that are changed: the original
// bytes or an error, never something else.
func FuzzRoundTrip(f *testing.F) {
	for _, pair := range pairs(f) {
		f.Add(pair[0], pair[1], 100, byte(0))
		f.Add(pair[1], pair[0], 3000, byte(0x41))
		f.Add(pair[0], pair[0], len(pair[0])-10, byte(1))
	}
	for _, a := range archives(f) {
		if len(a.data) < 100_000 {
			f.Add(a.data, a.data, len(a.data)/2, byte(7))
		}
	}
	f.Fuzz(func(t *testing.T, base, target []byte, at int, with byte) {
		if at >= 0 && at < len(target) {
			target = bytes.Clone(target)
			target[at] ^= with
		}
		o := delta.Options{MaxOpened: 4 << 20, Limit: int64(len(target) + 4000), Workers: 2}
		var d, got bytes.Buffer
		_, err := delta.Make(t.Context(), bytes.NewReader(base), int64(len(base)), bytes.NewReader(target), int64(len(target)), &d, o)
		if err != nil {
			t.Fatal(err)
		}
		err = delta.Apply(t.Context(), bytes.NewReader(base), int64(len(base)), bytes.NewReader(d.Bytes()), int64(d.Len()), &got, o)
		if err != nil || !bytes.Equal(got.Bytes(), target) {
			t.Fatalf("%d bytes came back as %d: %v", len(target), got.Len(), err)
		}
	})
}
