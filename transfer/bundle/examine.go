package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"davit/store/bucket"
)

// examineParity is Examine with parity. It looks at all copies of all volumes,
// because a shard that is damaged in one may be whole in another.
func (s *Set) examineParity(ctx context.Context, tell func(int64)) (*Report, error) {
	spread := s.common.volume(1).spread()
	r := &Report{Missing: s.gone()}
	counts := make([]int, spread.Stripes) // shards lost of each stripe
	var errs []error
	for n := 1; n <= s.Volumes; n++ {
		lost, damaged, err := s.examineVolume(ctx, n, tell)
		if err != nil {
			return nil, err
		}
		whole := len(damaged) < len(s.filesOf(n))
		if !whole {
			r.Volumes = append(r.Volumes, n)
		}
		r.Damaged = append(r.Damaged, damaged...)
		for _, d := range damaged {
			if !whole {
				errs = append(errs, d)
			}
		}
		for block, isLost := range lost {
			if isLost {
				counts[spread.stripe(int64(block))]++
				r.Lost++
			}
		}
	}
	gone := &StripeError{Parity: spread.Parity, Volumes: s.Volumes, Missing: r.Missing, Damaged: r.Damaged}
	for stripe, n := range counts {
		if n <= spread.Parity {
			continue
		}
		if len(gone.Stripes) == 0 {
			gone.Lost = n
		}
		gone.Stripes = addBlock(gone.Stripes, int64(stripe))
	}
	if len(r.Missing) > 0 {
		errs = append(errs, &IncompleteError{Label: s.Label, Volumes: s.Volumes, Missing: r.Missing})
	}
	if r.Repairable = len(gone.Stripes) == 0; !r.Repairable {
		r.Gone = gone
		short := *gone
		short.Damaged = nil // each stands in the list already
		errs = append(errs, &short)
	}
	r.err = errors.Join(errs...)
	return r, nil
}

// examineVolume looks at all files of one volume: which blocks are whole in
// none, and which files are damaged.
func (s *Set) examineVolume(ctx context.Context, n int, tell func(int64)) (lost []bool, damaged []*DamageError, err error) {
	h := s.common.volume(n)
	lost = make([]bool, h.blocks())
	for i := range lost {
		lost[i] = true
	}
	for _, name := range s.filesOf(n) {
		good, damage, err := s.examineNamed(ctx, name, h, tell)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			damage = &DamageError{File: name, Reason: err.Error(), Err: err, unit: h.unit()}
			errors.As(err, &damage)
		}
		if damage != nil {
			damaged = append(damaged, damage)
		}
		for i, is := range good {
			lost[i] = lost[i] && !is
		}
	}
	return lost, damaged, nil
}

func (s *Set) examineNamed(ctx context.Context, name string, h Header, tell func(int64)) ([]bool, *DamageError, error) {
	file, err := s.medium.Open(ctx, name)
	if errors.Is(err, bucket.ErrNotExist) {
		return nil, nil, &MissingVolumeError{Volume: h.Volume, Volumes: h.Volumes, Name: name}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open volume %s: %w", name, err)
	}
	defer file.Close()
	if err := sameVolume(file, name, h); err != nil {
		return nil, nil, err
	}
	return examineFile(ctx, file, h, name, tell)
}

// examineFile checks a volume with parity from its first byte to its last: which
// shards are good, and what is wrong, nil when nothing is. Damage to its ends
// does not keep it from looking at the shards.
func examineFile(ctx context.Context, r io.ReaderAt, h Header, name string, tell func(int64)) ([]bool, *DamageError, error) {
	block, err := h.encode()
	if err != nil {
		return nil, nil, err
	}
	_, ends := readEnds(r, h.fileSize(), name)
	raw := make([]byte, h.trailerSize()) // bounded by the header's checks
	unread := readPieces(r, raw, HeaderSize+h.Length)
	first, second, trailer := parseParityTrailer(raw, h, block)
	good := make([]bool, h.blocks())
	d := &DamageError{File: name, unit: h.unit()}
	err = verifyBlocks(ctx, r, h, func(i int64, b []byte) bool {
		sum := xxhash.Sum64(b)
		good[i] = sum == sumAt(first, i) || sum == sumAt(second, i)
		return good[i]
	}, d, tell)
	if err != nil {
		return nil, nil, err
	}
	d.Err = errors.Join(d.Err, unread)
	var inner *DamageError
	switch {
	case errors.As(ends, &inner):
		d.Reason = joinReasons(inner.Reason, d.Reason)
	case ends != nil:
		d.Reason = joinReasons(ends.Error(), d.Reason)
	case unread != nil:
		d.Reason = joinReasons("its sums cannot be read: "+unread.Error(), d.Reason)
	case trailer != nil:
		d.Reason = joinReasons(trailer.Error(), d.Reason)
	}
	if d.Reason == "" {
		return good, nil, nil
	}
	return good, d, nil
}

func joinReasons(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}

// readPieces reads as much as can be read, and leaves zeros where it cannot.
func readPieces(r io.ReaderAt, b []byte, at int64) error {
	if readFull(r, b, at) == nil {
		return nil
	}
	var last error
	const piece = 512 // the smallest sector
	for i := 0; i < len(b); i += piece {
		part := b[i:min(i+piece, len(b))]
		if err := readFull(r, part, at+int64(i)); err != nil {
			clear(part)
			last = err
		}
	}
	return last
}
