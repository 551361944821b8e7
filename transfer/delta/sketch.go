package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// sketchSize is how many hashes are kept: one in so many bytes alike is seen.
const sketchSize = 256

// Sketch is a small sample of what is in a file when it is opened: the least
// hashes of 16 bytes anywhere. Files that share content share hashes, wherever
// it stands and whatever they are called.
type Sketch []uint64

// MakeSketch samples a file. One that is too large to be opened is sampled as
// it is.
func MakeSketch(ctx context.Context, r io.ReaderAt, size int64, o Options) (Sketch, error) {
	opened, err := openBase(ctx, r, size, maxDepth, o)
	switch {
	case err == nil:
		defer opened.Close()
		r, size = opened.content, opened.content.Size()
	case !errors.Is(err, ErrTooLarge):
		return nil, fmt.Errorf("sample file: %w", err)
	}
	var s Sketch
	buf := make([]byte, 1<<20)
	for start := int64(0); start+seed <= size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(int64(len(buf)), size-start)]
		if n, err := r.ReadAt(b, start); n < len(b) {
			return nil, fmt.Errorf("sample file: %w", unexpected(err))
		}
		for i := 0; i+seed <= len(b); i++ {
			s = s.Add(hash(b[i:]))
		}
		start += int64(len(b) - seed + 1)
	}
	return s, nil
}

// Add takes a hash into the sample.
func (s Sketch) Add(h uint64) Sketch {
	if len(s) == sketchSize && h >= s[sketchSize-1] {
		return s
	}
	at, found := slices.BinarySearch(s, h)
	if found {
		return s
	}
	if len(s) == sketchSize {
		s = s[:sketchSize-1]
	}
	return slices.Insert(s, at, h)
}

// Like estimates which part of all that is in either file is in both: from 0
// to 1.
func (s Sketch) Like(o Sketch) float64 {
	both, all := 0, 0
	for len(s) > 0 && len(o) > 0 && all < sketchSize {
		all++
		switch {
		case s[0] == o[0]:
			both++
			s, o = s[1:], o[1:]
		case s[0] < o[0]:
			s = s[1:]
		default:
			o = o[1:]
		}
	}
	if all = min(sketchSize, all+len(s)+len(o)); all == 0 {
		return 0
	}
	return float64(both) / float64(all)
}
