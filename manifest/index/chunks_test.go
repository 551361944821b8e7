package index_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"davit/store"
	"davit/store/chunk"
	"davit/store/pack"
)

func TestLocate(t *testing.T) {
	x := fresh(t)
	for _, n := range []int{0, 1, 2, 16, 17, 256, 257, 1024} {
		names := numbered(n*10000, n)
		id := add(t, x, n, names...)
		ask := append(append([]chunk.Name{}, names...), chunkName(-77))
		if n > 0 {
			ask = append(ask, names[0], names[n-1]) // repeated
		}
		out := locate(t, x, ask...)
		for i := range names {
			want := store.Location{Pack: id, Frame: uint32(i / 8), Offset: uint32(i % 8 * 65536), Length: uint32(i + 1)}
			if out[i] != want {
				t.Fatalf("%d chunks: chunk %d is at %+v, want %+v", n, i, out[i], want)
			}
		}
		if out[n].Held() {
			t.Fatalf("%d chunks: a chunk that nobody added is at %+v", n, out[n])
		}
		if n > 0 && (out[n+1] != out[0] || out[n+2] != out[n-1]) {
			t.Fatalf("%d chunks: repeated names are elsewhere: %+v", n, out[n+1:])
		}
	}
	if err := x.Locate(t.Context(), numbered(0, 2), make([]store.Location, 1)); err == nil {
		t.Error("two names and one place were taken")
	}
}

// clash returns a name whose first eight bytes are those of n.
func clash(n chunk.Name, i byte) chunk.Name {
	n[31] ^= i
	return n
}

func TestClashingKeys(t *testing.T) {
	x := fresh(t)
	a := chunkName(1)
	b, c := clash(a, 1), clash(a, 2)
	first := add(t, x, 1, a, b)
	second := add(t, x, 2, c)
	third := add(t, x, 3, b)
	check := func(what string, want ...int64) {
		t.Helper()
		for i, loc := range locate(t, x, a, b, c) {
			if loc.Pack != want[i] {
				t.Errorf("%s: chunk %d is in pack %d, want %d", what, i, loc.Pack, want[i])
			}
		}
		distinct := int64(0)
		for _, w := range want {
			if w != 0 {
				distinct++
			}
		}
		if counts, err := x.Counts(t.Context()); err != nil || counts.Chunks != distinct {
			t.Errorf("%s: %d chunks counted, want %d (%v)", what, counts.Chunks, distinct, err)
		}
	}
	check("all", first, first, second)
	remove := func(p int) {
		t.Helper()
		if err := x.ReplacePack(t.Context(), packName(p), pack.Name{}, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	remove(1)
	check("without 1", 0, third, second)
	remove(2)
	check("without 1, 2", 0, third, 0)
	remove(3)
	check("none", 0, 0, 0)
}

// TestModel holds the index against a map under random additions, repeats and
// replacements, with few names so that packs overlap and keys clash.
func TestModel(t *testing.T) {
	var names []chunk.Name
	for i := range 12 {
		names = append(names, chunkName(i), clash(chunkName(i), 1))
	}
	n := 0
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		n++
		x := open(t, filepath.Join(dir, fmt.Sprint(n)))
		packs := map[int]int64{} // number of the pack's name to its id
		tables := map[int64]*pack.Table{}
		steps := rapid.IntRange(1, 12).Draw(rt, "steps")
		for range steps {
			p := rapid.IntRange(0, 5).Draw(rt, "pack")
			tb := table(rapid.SliceOfN(rapid.SampledFrom(names), 0, 10).Draw(rt, "chunks")...)
			if id, ok := packs[p]; ok {
				tb = tables[id] // a name has one content
			}
			if rapid.Bool().Draw(rt, "add") {
				id, err := x.AddPack(t.Context(), packName(p), 1, tb)
				if err != nil {
					rt.Fatal(err)
				}
				if old, ok := packs[p]; ok && old != id {
					rt.Fatalf("pack %d had number %d, now %d", p, old, id)
				} else if _, used := tables[id]; !ok && used {
					rt.Fatalf("number %d was given again", id)
				}
				packs[p], tables[id] = id, tb
				continue
			}
			if err := x.ReplacePack(t.Context(), packName(p), pack.Name{}, 0, nil); err != nil {
				rt.Fatal(err)
			}
			delete(packs, p)
		}
		want := map[chunk.Name]int64{}
		for _, id := range packs {
			for _, c := range tables[id].Chunks {
				if old, ok := want[c.Name]; !ok || id < old {
					want[c.Name] = id
				}
			}
		}
		for i, loc := range locate(t, x, names...) {
			if loc.Pack != want[names[i]] {
				rt.Fatalf("chunk %d is in pack %d, want %d", i, loc.Pack, want[names[i]])
			}
		}
		counts, err := x.Counts(t.Context())
		if err != nil || counts.Chunks != int64(len(want)) || counts.Packs != int64(len(packs)) {
			rt.Fatalf("%+v, want %d chunks in %d packs (%v)", counts, len(want), len(packs), err)
		}
	})
}

func TestPacks(t *testing.T) {
	x := fresh(t)
	const n = 1100 // several pages
	for i := range n {
		add(t, x, i, chunkName(i))
	}
	seen := 0
	for p, err := range x.Packs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if p != (store.PackInfo{ID: int64(seen + 1), Name: packName(seen), Size: int64(1000 + seen), Chunks: 1}) {
			t.Fatalf("pack %d is %+v", seen, p)
		}
		if got, err := x.Pack(t.Context(), p.ID); err != nil || got != p {
			t.Fatalf("pack %d is %+v (%v)", p.ID, got, err)
		}
		seen++
	}
	if seen != n {
		t.Errorf("%d packs listed, want %d", seen, n)
	}
	if _, err := x.Pack(t.Context(), n+1); !errors.Is(err, store.ErrMissing) {
		t.Errorf("an absent pack is %v", err)
	}
}

func TestReplacePack(t *testing.T) {
	x := fresh(t)
	old := add(t, x, 1, numbered(0, 20)...)
	if err := x.ReplacePack(t.Context(), packName(1), packName(2), 7, table(numbered(0, 5)...)); err != nil {
		t.Fatal(err)
	}
	for i, loc := range locate(t, x, numbered(0, 20)...) {
		if (i < 5) != loc.Held() || loc.Pack == old {
			t.Errorf("chunk %d is at %+v", i, loc)
		}
	}
	if err := x.ReplacePack(t.Context(), packName(2), packName(2), 7, table()); err == nil {
		t.Error("a pack replaced itself")
	}
	if err := x.ReplacePack(t.Context(), packName(9), packName(3), 7, table(chunkName(50))); err != nil {
		t.Error("an absent pack could not be replaced:", err)
	}
	if !locate(t, x, chunkName(50))[0].Held() {
		t.Error("what replaced an absent pack is not there")
	}
}
