package index_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"davit/manifest/index"
	"davit/store"
	"davit/store/chunk"
)

// filled returns an index of n chunks in packs of a thousand.
func filled(b *testing.B, n int) *index.Index {
	x := fresh(b)
	for p := range n / 1000 {
		add(b, x, p, numbered(p*1000, 1000)...)
	}
	return x
}

const benchChunks = 1_000_000

func BenchmarkLocate(b *testing.B) {
	x := filled(b, benchChunks)
	for _, batch := range []int{1, 16, 256, 1024} {
		for _, hit := range []bool{true, false} {
			what, base := "held", 0
			if !hit {
				what, base = "absent", benchChunks
			}
			b.Run(fmt.Sprintf("%s/%d", what, batch), func(b *testing.B) {
				names, out := make([]chunk.Name, batch), make([]store.Location, batch)
				for n := range b.N {
					b.StopTimer()
					for i := range names {
						names[i] = chunkName(base + (n*7919+i*977)%benchChunks)
					}
					b.StartTimer()
					if err := x.Locate(b.Context(), names, out); err != nil {
						b.Fatal(err)
					}
					if out[0].Held() != hit || out[batch-1].Held() != hit {
						b.Fatal("wrong answer")
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/name")
			})
		}
	}
}

func BenchmarkAddPack(b *testing.B) {
	for _, before := range []int{0, benchChunks} {
		x, packs, chunks := filled(b, before), before, before
		if info, err := os.Stat(x.Path()); err == nil && before > 0 {
			b.Logf("%d bytes for a chunk", info.Size()/int64(before))
		}
		for _, size := range []int{1000, 10000} {
			b.Run(fmt.Sprintf("%d+%d", before, size), func(b *testing.B) {
				for range b.N {
					b.StopTimer()
					t := table(numbered(chunks, size)...)
					packs, chunks = packs+1, chunks+size
					b.StartTimer()
					if _, err := x.AddPack(b.Context(), packName(packs), 1, t); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/chunk")
			})
		}
	}
}

// BenchmarkOpen opens a file that is there, as each command does, and asks it
// one thing.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "index.db")
	first, err := index.Open(b.Context(), path, nil)
	if err != nil {
		b.Fatal(err)
	}
	add(b, first, 1, numbered(0, 10000)...)
	if err := first.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		x, err := index.Open(b.Context(), path, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := x.Head(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenNew(b *testing.B) {
	dir := b.TempDir()
	for n := range b.N {
		x, err := index.Open(b.Context(), filepath.Join(dir, fmt.Sprint(n)), nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
