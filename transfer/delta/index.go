package delta

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// index finds places of a source by the bytes that stand there. Its table has a
// fixed greatest size, so of a large source only every nth place is in it.
type index struct {
	table []uint32 // number of the place, and 8 bits of its hash; 0: free
	shift uint     // of a hash, to its place in the table
	step  int64    // between places

	fetched uint32 // no value: so that fetching is not left out
}

const (
	seed      = 16      // bytes that are hashed
	maxPlaces = 1 << 24 // so that a place and 8 bits fit
	probes    = 4       // places tried for one hash
	dense     = 4 << 20 // a larger source has every second place in the index: half the time, and hardly a match less
)

// hash is of the first 16 bytes of b.
func hash(b []byte) uint64 {
	h := binary.LittleEndian.Uint64(b)*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(b[8:])*0xc2b2ae3d27d4eb4f
	return (h ^ h>>29) * 0xbf58476d1ce4e5b9
}

func newIndex(ctx context.Context, r io.ReaderAt, size int64) (*index, error) {
	x := &index{step: 1}
	if size > dense {
		x.step = 2
	}
	for size/x.step >= maxPlaces-1 {
		x.step *= 2
	}
	width := uint(10)
	for width < 24 && int64(1)<<width < size/x.step*5/4 {
		width++
	}
	x.table, x.shift = make([]uint32, 1<<width), 64-width

	buf := make([]byte, 1<<20)
	for start := int64(0); start+seed <= size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(int64(len(buf)), size-start)]
		if n, err := r.ReadAt(b, start); n < len(b) {
			return nil, fmt.Errorf("read source: %w", unexpected(err))
		}
		i := 0
		for ; i+seed <= len(b); i += int(x.step) {
			x.add(hash(b[i:]), (start+int64(i))/x.step)
		}
		start += int64(i)
	}
	return x, nil
}

func (x *index) add(h uint64, place int64) {
	entry := uint32(place+1)<<8 | uint32(h&0xff)
	at := h >> x.shift
	for range probes {
		if x.table[at] == 0 {
			x.table[at] = entry
			return
		}
		at = (at + 1) & uint64(len(x.table)-1)
	}
}

// find fills places with those that may hold the bytes whose hash is h, and
// returns how many there are.
func (x *index) find(h uint64, places *[probes]int64) int {
	at, n := h>>x.shift, 0
	for range probes {
		entry := x.table[at]
		if entry == 0 {
			break
		}
		if entry&0xff == uint32(h&0xff) {
			places[n] = (int64(entry>>8) - 1) * x.step
			n++
		}
		at = (at + 1) & uint64(len(x.table)-1)
	}
	return n
}

// fetch brings the entry of h near: a table of this size is mostly in memory,
// and waiting for it is most of what finding costs.
func (x *index) fetch(h uint64) { x.fetched ^= x.table[h>>x.shift] }

func unexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
