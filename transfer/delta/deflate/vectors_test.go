package deflate_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/transfer/delta/deflate"
)

const vectors = "../../../test/vectors/deflate"

var update = flag.Bool("update", false, "write the recipes of vectors that have none yet")

// readVectors returns the streams of the real producers by name.
func readVectors(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(vectors + "/*.deflate")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d vectors in %s, %v: this test looks in the wrong place", len(names), vectors, err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".deflate")] = data
	}
	return all
}

func readRecipes(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	data, err := os.ReadFile(vectors + "/recipes.txt")
	if err != nil && !*update {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] != "#" {
			all[f[0]] = f[1]
		}
	}
	return all
}

func plainOf(t testing.TB, stream []byte) []byte {
	t.Helper()
	plain, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// TestVectors holds every model in place: the recipe that was written when the
// vector came in gives its stream until the end of days, and proving finds a
// recipe that is no longer.
func TestVectors(t *testing.T) {
	recipes := readRecipes(t)
	seen := map[deflate.Encoder]bool{}
	for name, stream := range readVectors(t) {
		t.Run(name, func(t *testing.T) {
			plain := plainOf(t, stream)
			s, err := deflate.Prove(context.Background(), section(stream), section(plain), nil, deflate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := recipes[name]; !ok && *update {
				f, err := os.OpenFile(vectors+"/recipes.txt", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				fmt.Fprintf(f, "%s %x %s\n", name, s.Marshal(), s)
				return
			}
			recipe, err := hex.DecodeString(recipes[name])
			if err != nil || len(recipe) == 0 {
				t.Fatalf("recipe is missing: %v", err)
			}
			if n := len(s.Marshal()); n > len(recipe) {
				t.Errorf("found a recipe of %d bytes (%s), once it had %d", n, s, len(recipe))
			}
			kept, err := deflate.Unmarshal(recipe)
			if err != nil {
				t.Fatal(err)
			}
			seen[kept.Encoder] = true
			for _, workers := range []int{0, 3} {
				var out bytes.Buffer
				if err := deflate.Rebuild(context.Background(), kept, bytes.NewReader(plain), &out, workers); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(out.Bytes(), stream) {
					t.Fatalf("rebuilt with %d workers, the stream differs", workers)
				}
			}
		})
	}
	for _, e := range deflate.Encoders() {
		if !seen[e] {
			t.Errorf("no vector for %s", e)
		}
	}
}
