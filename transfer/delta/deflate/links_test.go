package deflate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// repetitive returns plain bytes on which chains are long, or end just where a
// match may begin no more.
func repetitive() map[string][]byte {
	r := rand.New(rand.NewPCG(7, 7))
	random := func(n int, from, to byte) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = from + byte(r.IntN(int(to-from)+1))
		}
		return b
	}
	all := map[string][]byte{
		"zeros": make([]byte, 40000),
		"two":   random(60000, 'a', 'b'),
		"four":  random(60000, 'a', 'd'),
		"any":   random(20000, 0, 255),
		"tiny":  []byte("aaaaa"),
	}
	for range 300 {
		all["runs"] = append(append(all["runs"], bytes.Repeat([]byte("a"), r.IntN(300))...), byte(r.IntN(3)))
		all["periods"] = append(all["periods"], bytes.Repeat(random(1+r.IntN(40), 'a', 'c'), 1+r.IntN(20))...)
	}
	words := [][]byte{[]byte("        "), []byte("return "), []byte("this.value"), []byte(";\n"), []byte("value "), []byte("()")}
	for range 12000 {
		all["words"] = append(all["words"], words[r.IntN(len(words))]...)
	}
	block := random(300, 0, 255)
	for _, far := range []int{maxDist - 1, maxDist, maxDist + 1, window - 1, window, window + 1} {
		all["far"] = append(append(all["far"], block...), random(far-len(block), 0, 255)...)
	}
	all["far"] = append(all["far"], block...)
	all["slides"] = slices.Concat(all["words"], make([]byte, matchBuffer), all["two"], all["words"])
	return all
}

// TestLinks says that links lead to what zlib's chains lead to.
func TestLinks(t *testing.T) {
	for name, plain := range repetitive() {
		for _, e := range []Encoder{Zlib, ZlibChromium, ZlibCRC32C} {
			for _, level := range []byte{6, 9} {
				t.Run(fmt.Sprintf("%s/%s/%d", name, e, level), func(t *testing.T) {
					t.Parallel()
					f, _ := e.family([]byte{level, 8})
					w := takeWalker(f)
					defer giveWalker(w)
					w.begin(bytes.NewReader(plain), int64(len(plain)), 0)
					if !w.linked {
						t.Fatal("level has no links")
					}
					var some uint32
					for w.left() > 0 {
						w.see(ahead + 2)
						length := 1
						for best := minMatch - 1; best <= maxMatch; {
							n, from := w.longestLazy(w.pos, best)
							m, want := minMatch-1, 0
							if back := int(w.prev[uint16(w.pos)]); w.pos < w.inserted && back > 0 && back <= maxDist && back < w.pos {
								m, want = w.chase(w.pos, w.pos-back, best)
								if m == minMatch && want >= 0 && w.pos-want > tooFar {
									m = minMatch - 1
								}
							}
							if (n > best || m > best) && (n != m || from != want) {
								t.Fatalf("at %d, better than %d: links say %d from %d, chain says %d from %d", w.offset(), best, n, from, m, want)
							}
							length = max(length, n)
							some = some*1664525 + 1013904223
							best += 1 + int(some>>27)
						}
						w.over(int64(min(length, 1+int(some>>16)&255, int(w.left()))))
					}
					if w.err != nil {
						t.Fatal(w.err)
					}
				})
			}
		}
	}
}
