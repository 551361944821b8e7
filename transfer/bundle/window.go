package bundle

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/reedsolomon"
	"golang.org/x/sync/errgroup"
)

// column is how many bytes of each shard are coded at once: those of all
// shards of a stripe, and the workspace, stay in a core's cache then.
const column = 4 << 10

// codec makes parity and what is lost of the stripes of a spread. It is safe
// for concurrent use.
type codec struct {
	spread
	rs reedsolomon.Encoder
}

func newCodec(s spread) (*codec, error) {
	// The library's cache of inversions forgets which parity is missing when
	// only data is restored, and then restores other bytes (v1.14.2).
	rs, err := reedsolomon.New(s.Data, s.Parity, reedsolomon.WithLeopardGF(true), reedsolomon.WithInversionCache(false))
	if err != nil {
		return nil, fmt.Errorf("make parity code: %w", err)
	}
	return &codec{spread: s, rs: rs}, nil
}

// window is the memory for the shards of a window, in the order in which they
// stand in the volumes: all of volume 0, all of volume 1, and so on.
type window struct {
	spread
	buf     []byte
	number  int64
	stripes int
}

func newWindow(s spread) *window {
	return &window{spread: s, buf: reedsolomon.AllocAligned(1, s.Depth*s.shards()*s.Shard)[0]}
}

// reset makes it the memory of another window.
func (w *window) reset(number int64) {
	w.number, w.stripes = number, w.stripesIn(number)
}

// payloadSize is how much payload the window takes, padding included.
func (w *window) payloadSize() int { return w.stripes * w.Data * w.Shard }

// part is what one volume holds of the window.
func (w *window) part(volume int) []byte {
	size := w.perVolume() * w.stripes * w.Shard
	return w.buf[volume*size:][:size:size]
}

// cell is shard i of all stripes of the window, one after another.
func (w *window) cell(i int) []byte {
	size := w.stripes * w.Shard
	return w.part(i % w.volumes)[i/w.volumes*size:][:size:size]
}

func (w *window) shard(d, i int) []byte {
	return w.cell(i)[d*w.Shard:][:w.Shard:w.Shard]
}

// encode computes the parity of all stripes.
func (c *codec) encode(ctx context.Context, w *window) error {
	return c.columns(ctx, w, nil, func(shards [][]byte) error { return c.rs.Encode(shards) })
}

// mend computes what is lost of the window: the payload alone, or parity too.
// Stripes that lost nothing, or too much, are left as they are.
func (c *codec) mend(ctx context.Context, w *window, lost *losses, all bool) error {
	restore := c.rs.ReconstructData
	if all {
		restore = c.rs.Reconstruct
	}
	if err := c.columns(ctx, w, lost, restore); err != nil {
		return err
	}
	return parallel(ctx, w.stripes, func(d int) error {
		if !lost.mendable(d) || lost.data[d] == 0 {
			return nil
		}
		return c.check(w, lost, d)
	})
}

// check computes the parity of the first bytes of a stripe that was restored
// and compares it with the parity that was there. All bytes of a shard are
// restored in the same way, so this proves the way right; nothing else would
// notice if it were wrong.
func (c *codec) check(w *window, lost *losses, d int) error {
	shards := make([][]byte, c.shards())
	parity := make([]byte, c.Parity*shardUnit)
	for i := range shards {
		if i < c.Data {
			shards[i] = w.shard(d, i)[:shardUnit]
		} else {
			shards[i] = parity[(i-c.Data)*shardUnit:][:shardUnit]
		}
	}
	if err := c.rs.Encode(shards); err != nil {
		return fmt.Errorf("compute stripe %d: %w", w.number*int64(w.Depth)+int64(d), err)
	}
	for i := c.Data; i < c.shards(); i++ {
		if !lost.is(d, i) && !bytes.Equal(shards[i], w.shard(d, i)[:shardUnit]) {
			return fmt.Errorf("internal error: stripe %d was restored to something else", w.number*int64(w.Depth)+int64(d))
		}
	}
	return nil
}

// columns calls code for all stripes, piece by piece, on all cores. Shards
// that are lost have length 0 and the capacity to be restored in place.
func (c *codec) columns(ctx context.Context, w *window, lost *losses, code func([][]byte) error) error {
	pieces := int(ceilDiv(int64(c.Shard), column))
	return parallel(ctx, w.stripes*pieces, func(job int) error {
		d, from := job/pieces, job%pieces*column
		if lost != nil && !lost.mendable(d) {
			return nil
		}
		to := min(from+column, c.Shard)
		shards := make([][]byte, c.shards())
		for i := range shards {
			shards[i] = w.shard(d, i)[from:to:to]
			if lost != nil && lost.is(d, i) {
				shards[i] = shards[i][:0]
			}
		}
		if err := code(shards); err != nil {
			return fmt.Errorf("compute stripe %d: %w", w.number*int64(w.Depth)+int64(d), err)
		}
		return nil
	})
}

// losses says which shards of a window are not there.
type losses struct {
	spread
	lost   []bool
	counts []int // of each stripe
	data   []int // of them, shards of payload
}

func newLosses(s spread, stripes int) *losses {
	return &losses{s, make([]bool, stripes*s.shards()), make([]int, stripes), make([]int, stripes)}
}

func (l *losses) is(d, i int) bool { return l.lost[d*l.shards()+i] }

func (l *losses) add(d, i int) {
	if l.is(d, i) {
		return
	}
	l.lost[d*l.shards()+i] = true
	l.counts[d]++
	if i < l.Data {
		l.data[d]++
	}
}

// mendable reports whether a stripe lost something and can be restored.
func (l *losses) mendable(d int) bool { return l.counts[d] > 0 && l.counts[d] <= l.Parity }

// gone reports whether a stripe lost more than its parity replaces.
func (l *losses) gone(d int) bool { return l.counts[d] > l.Parity }

// parallel calls do for 0 to n-1 on all cores and returns the first error.
func parallel(ctx context.Context, n int, do func(int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(n, runtime.GOMAXPROCS(0)) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}
