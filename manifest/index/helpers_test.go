package index_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"testing"

	"davit/manifest/index"
	"davit/store"
	"davit/store/chunk"
	"davit/store/pack"
)

func open(t testing.TB, path string) *index.Index {
	t.Helper()
	x, err := index.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func fresh(t testing.TB) *index.Index { return open(t, filepath.Join(t.TempDir(), "index.db")) }

func chunkName(i int) chunk.Name {
	return chunk.NameOf(binary.LittleEndian.AppendUint64(nil, uint64(i)))
}

func packName(i int) pack.Name { return pack.Name(chunkName(-1 - i)) }

// table is a pack's table with these chunks, eight to a frame.
func table(names ...chunk.Name) *pack.Table {
	t := new(pack.Table)
	for i, n := range names {
		t.Chunks = append(t.Chunks, pack.ChunkInfo{Name: n, Frame: uint32(i / 8), Offset: uint32(i % 8 * 65536), Length: uint32(i + 1)})
	}
	return t
}

func numbered(from, n int) []chunk.Name {
	names := make([]chunk.Name, n)
	for i := range names {
		names[i] = chunkName(from + i)
	}
	return names
}

func add(t testing.TB, x store.Index, p int, names ...chunk.Name) int64 {
	t.Helper()
	id, err := x.AddPack(t.Context(), packName(p), int64(1000+p), table(names...))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func locate(t testing.TB, x store.Index, names ...chunk.Name) []store.Location {
	t.Helper()
	out := make([]store.Location, len(names))
	for i := range out {
		out[i].Pack = 99 // must be cleared
	}
	if err := x.Locate(context.WithoutCancel(t.Context()), names, out); err != nil {
		t.Fatal(err)
	}
	return out
}
