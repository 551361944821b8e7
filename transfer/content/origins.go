package content

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
)

// origins tells the chunks of the larger files of a tree by their SHA-256. The
// lists themselves lie in a temporary file, so that a file costs some 40 bytes
// of memory.
type origins struct {
	min  int64 // files of at most so many bytes are one chunk named by their sum
	at   map[originKey]originPlace
	list *os.File
	w    *bufio.Writer
	n    uint32 // entries in list
}

// originKey is the beginning of a SHA-256: what is put together by it is
// compared with the signed sums in the end.
type originKey struct {
	sum  uint64
	size int64
}

// originPlace is where a file's entries are in the list.
type originPlace struct{ from, n uint32 }

// maxOrigins bounds the files of a tree that origins remember.
const maxOrigins = 2_000_000

func newOrigins(ctx context.Context, st *store.Store, p *manifest.Package, temp string) (*origins, error) {
	f, err := os.CreateTemp(temp, "davit-origins-*")
	if err != nil {
		return nil, err
	}
	o := &origins{min: int64(st.Config().Chunk.Min), at: map[originKey]originPlace{}, list: f, w: bufio.NewWriterSize(f, 64<<10)}
	err = Walk(ctx, st, p, func(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error]) error {
		if e.Type != manifest.TreeFile || e.Size <= o.min {
			return nil
		}
		key := o.key(&e)
		if _, ok := o.at[key]; ok || len(o.at) == maxOrigins {
			return nil
		}
		place := originPlace{from: o.n}
		var b [chunk.EntrySize]byte
		for c, err := range chunks {
			if err != nil {
				return err
			}
			if _, err := o.w.Write(chunk.AppendEntry(b[:0], c)); err != nil {
				return err
			}
			place.n++
		}
		o.n += place.n
		o.at[key] = place
		return nil
	})
	if err == nil {
		err = o.w.Flush()
	}
	if err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func (o *origins) Close() { drop(o.list) }

func (o *origins) key(e *manifest.TreeEntry) originKey {
	return originKey{binary.LittleEndian.Uint64(e.SHA256[:]), e.Size}
}

// has reports whether the tree has the file, or it is too small to be asked for.
func (o *origins) has(e *manifest.TreeEntry) bool {
	_, ok := o.at[o.key(e)]
	return ok
}

// chunks calls fn with the chunks of a file that the tree has.
func (o *origins) chunks(e *manifest.TreeEntry, fn func(chunk.Entry) error) error {
	place := o.at[o.key(e)]
	r := bufio.NewReaderSize(io.NewSectionReader(o.list, int64(place.from)*chunk.EntrySize, int64(place.n)*chunk.EntrySize), 4<<10)
	var b [chunk.EntrySize]byte
	for range place.n {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return fmt.Errorf("read list of chunks: %w", err)
		}
		if err := fn(parseEntry(b[:])); err != nil {
			return err
		}
	}
	return nil
}

func parseEntry(b []byte) chunk.Entry {
	return chunk.Entry{Name: chunk.Name(b[:len(chunk.Name{})]), Length: binary.LittleEndian.Uint32(b[len(chunk.Name{}):])}
}
