package content_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/chunk"
	"davit/transfer/content"
	"davit/transfer/delta"
)

func smallSite(t testing.TB) *store.Store {
	keys, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	seal, _ := keys.PackKeys()
	b := bucket.NewMem()
	if err := bucket.Put(t.Context(), b, "config", []byte(fmt.Sprintf(`{"davit":"davit-store","version":1,"id":"%032x","cutter":%q,"chunk":{"min":64,"normal":128,"max":512}}`, 7, cutter))); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), b, store.NewMemoryIndex(1), store.Options{Keys: seal, TempDir: t.TempDir(), Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var cutter = "fastcdc-v1.0.0"

func randContent(r *rand.Rand) string {
	n := []int{0, 1, 63, 64, 65, 127, 128, 129, 500, 512, 513, 3000}[r.IntN(12)]
	switch r.IntN(4) {
	case 0:
		return strings.Repeat("\x00", n)
	case 1:
		return noise(uint64(r.IntN(6)), n)
	case 2:
		return prose(uint64(r.IntN(10)), n/20)
	}
	return strings.Repeat(fmt.Sprint(r.IntN(3)), n)
}

func randPath(r *rand.Rand) string {
	names := []string{"a", "A", "b1", "b2", "c-1.0.txt", "c-1.1.txt", `q",\"x`, "é", "lib"}
	var p []string
	for range 1 + r.IntN(3) {
		p = append(p, strings.ReplaceAll(names[r.IntN(len(names))], `\`, ""))
	}
	return strings.Join(p, "/")
}

// fits: no path is below a file.
func clean(f files) files {
	out := files{}
	for p, c := range f {
		ok := true
		for q := range f {
			if p != q && (strings.HasPrefix(p, q+"/") && !strings.HasSuffix(q, "/")) {
				ok = false
			}
		}
		if ok {
			out[p] = c
		}
	}
	return out
}

func randTree(r *rand.Rand) files {
	f := files{}
	for range r.IntN(25) {
		p := randPath(r)
		switch r.IntN(12) {
		case 0:
			f[p+"/dir/"] = ""
		case 1:
			f[p] = "→ a"
		default:
			f[p] = randContent(r)
		}
	}
	return clean(f)
}

func edit(r *rand.Rand, f files) files {
	out := f.with(nil)
	var keys []string
	for k := range f {
		keys = append(keys, k)
	}
	for range r.IntN(6) {
		if len(keys) == 0 {
			break
		}
		k := keys[r.IntN(len(keys))]
		switch r.IntN(6) {
		case 0:
			delete(out, k)
		case 1:
			if c, ok := out[k]; ok && !strings.HasSuffix(k, "/") {
				delete(out, k)
				out[randPath(r)] = c
			}
		case 2:
			if !strings.HasSuffix(k, "/") {
				out[k] = out[k] + "x"
			}
		case 3:
			if c := out[k]; len(c) > 10 && !strings.HasSuffix(k, "/") && !strings.HasPrefix(c, "→") {
				i := r.IntN(len(c))
				out[k] = c[:i] + "y" + c[i:]
			}
		case 4:
			out[randPath(r)] = out[keys[r.IntN(len(keys))]]
		case 5:
			out[randPath(r)] = randContent(r)
		}
	}
	for k, c := range out {
		if strings.HasPrefix(c, "→ ") && c != "→ a" {
			out[k] = "z"
		}
	}
	return clean(out)
}

func TestRandomTrees(t *testing.T) {
	rounds, seed := 40, uint64(2)
	if os.Getenv("DAVIT_TEST_LONG") != "" {
		rounds = 2_000
	}
	ok, worth := 0, 0
	for i := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dev, prod := smallSite(t), smallSite(t)
			a := randTree(r)
			b := edit(r, a)
			other := randTree(r)
			ra := take(t, dev, "1", a.write(t))
			take(t, prod, "1", a.write(t))
			oth := take(t, dev, "0", other.write(t))
			take(t, prod, "0", other.write(t))
			rb := take(t, dev, "2", b.write(t))
			for _, q := range []*manifest.Release{ra, rb, oth} {
				q.Packages[0].CaseSensitive = true
			}
			heldA := heldBy(t, dev, ra)
			held := heldA
			if r.IntN(2) == 0 {
				o := heldBy(t, dev, oth)
				held = func(n chunk.Name) bool { return heldA(n) || o(n) }
			}
			if r.IntN(8) == 0 {
				held = nil
			}
			var d bytes.Buffer
			res, err := content.Make(t.Context(), dev, &ra.Packages[0], &rb.Packages[0], &d, content.Options{TempDir: t.TempDir(), Held: held, Limit: 1 << 20})
			if errors.Is(err, delta.ErrNotWorth) {
				t.Log(res, err)
				if strings.Contains(err.Error(), "cut into") || res != nil && strings.Contains(res.Reason, "cut into") {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			worth++
			if len(res.Loose) > 0 { // they come by packs
				if _, err := prod.Write(t.Context(), func(w *store.Writer) error {
					for _, l := range res.Loose {
						data, err := dev.Chunk(t.Context(), l.Name)
						if err != nil {
							return err
						}
						if _, _, err := w.AddFile(bytes.NewReader(data)); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			if err := content.Apply(t.Context(), prod, &ra.Packages[0], &rb.Packages[0], bytes.NewReader(d.Bytes()), int64(d.Len()), content.Options{TempDir: t.TempDir()}); err != nil {
				t.Fatal(err)
			}
			rb.Packages[0].CaseSensitive = true
			if err := content.Verify(t.Context(), prod, rb, nil); err != nil {
				t.Fatal(err)
			}
			ok++
		})
	}
	t.Logf("%d of %d were applied", ok, rounds)
	if ok < rounds/2 || ok != worth {
		t.Error("too few to mean anything")
	}
}
