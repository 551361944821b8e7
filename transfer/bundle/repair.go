package bundle

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"davit/store/bucket"
)

// RepairOptions say what Repair writes. The zero value is what is missing or
// damaged.
type RepairOptions struct {
	All     bool   // write all volumes, so that the other medium holds a whole bundle
	Volumes []int  // write these, as Report.Volumes has them, without examining again
	TempDir string // as in Options
	// Progress, which may be nil, is told the bytes of volumes written.
	Progress func(done, total int64)
}

// Repair writes whole volumes of a set with parity to another medium: byte for
// byte what the sender wrote, because header, statement and shards are the same.
// It returns the names it gave them. Unless it is told which volumes to write it
// examines the set first; the repair itself reads each volume once:
//
//	read all ▸ repair ▸ volumes, hidden ▸ … ▸ durable ▸ names, the last first
//	(one window)        (while the next window is read)
//
// What cannot be repaired is a *StripeError, and then nothing is left on the
// other medium.
func (s *Set) Repair(ctx context.Context, to bucket.Bucket, o RepairOptions) (names []string, err error) {
	if s.common.Version != parityVersion {
		return nil, fmt.Errorf("repair %s: it has no parity", s.Label)
	}
	volumes, err := s.toRepair(ctx, o)
	if err != nil || len(volumes) == 0 {
		return nil, err
	}
	statement, err := s.statement(ctx)
	if err != nil {
		return nil, fmt.Errorf("repair %s: %w", s.Label, err)
	}
	w := &Writer{ctx: ctx, medium: to, common: s.common}
	for _, n := range volumes {
		names = append(names, s.common.Name(n, s.Volumes))
	}
	if err := w.checkMedium(names, s.common.volume(1).fileSize()*int64(len(volumes))); err != nil {
		return nil, fmt.Errorf("repair %s: %w", s.Label, err)
	}
	defer func() {
		if err != nil {
			names, err = nil, errors.Join(fmt.Errorf("repair %s: %w", s.Label, err), w.Abort())
		}
	}()
	if err := w.rewrite(ctx, s, volumes, statement, o); err != nil {
		return nil, err
	}
	w.state = sealed
	return names, w.Publish(ctx)
}

// toRepair says which volumes to write, in order.
func (s *Set) toRepair(ctx context.Context, o RepairOptions) ([]int, error) {
	switch {
	case o.All:
		var all []int
		for n := range s.Volumes {
			all = append(all, n+1)
		}
		return all, nil
	case o.Volumes != nil:
		for i, n := range o.Volumes {
			if n < 1 || n > s.Volumes || i > 0 && n <= o.Volumes[i-1] {
				return nil, fmt.Errorf("repair %s: volumes %v are not some of %d in order", s.Label, o.Volumes, s.Volumes)
			}
		}
		return o.Volumes, nil
	}
	r, err := s.Examine(ctx, nil)
	if err != nil {
		return nil, err
	}
	if r.Gone != nil {
		return nil, fmt.Errorf("repair %s: %w", s.Label, r.Gone)
	}
	return r.Volumes, nil
}

// statement is what the volumes carry.
func (s *Set) statement(ctx context.Context) ([]byte, error) {
	all, err := s.Statements(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if len(all) > 1 {
		return nil, errors.New("its volumes carry statements that differ: they are not all of one bundle")
	}
	return all[0], nil
}

// rewrite writes the volumes under hidden names.
func (w *Writer) rewrite(ctx context.Context, s *Set, volumes []int, statement []byte, o RepairOptions) error {
	files := newShardFiles(ctx, s)
	defer files.close()
	codec, err := newCodec(files.spread)
	if err != nil {
		return err
	}
	sums := newSumList(files.spread, o.TempDir)
	defer sums.close()
	if err := sums.open(); err != nil {
		return err
	}
	for _, n := range volumes {
		v, err := w.begin(n)
		if err != nil {
			return err
		}
		if _, err := v.out.Write(v.block); err != nil {
			return fmt.Errorf("write header of volume %d of %d: %w", n, s.Volumes, err)
		}
	}
	var done int64
	total := files.volumeData() * int64(len(volumes))
	err = mendAll(ctx, files, codec, func(m *window) error {
		if err := writeWindow(ctx, m, w.begun, sums); err != nil {
			return err
		}
		done += int64(len(m.part(0)) * len(volumes))
		if o.Progress != nil {
			o.Progress(done, total)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return finishVolumes(ctx, w.begun, sums, statement)
}

// mendAll gives take all windows in order, whole.
func mendAll(ctx context.Context, files *shardFiles, codec *codec, take func(*window) error) error {
	g, ctx := errgroup.WithContext(ctx)
	free, full := make(chan *window, windowsInFlight), make(chan *window)
	for range min(windowsInFlight, files.windows()) {
		free <- newWindow(files.spread)
	}
	g.Go(func() error {
		defer close(full)
		for number := range files.windows() {
			var w *window
			select {
			case w = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
			w.reset(number)
			lost, h, err := files.load(codec, w, true)
			if err != nil {
				return err
			}
			for d := range w.stripes {
				if lost.gone(d) {
					return files.stripeError(number*int64(files.Depth)+int64(d), lost.counts[d], h)
				}
			}
			select {
			case full <- w:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	g.Go(func() error {
		for w := range full {
			if err := take(w); err != nil {
				return err
			}
			free <- w
		}
		return nil
	})
	return g.Wait()
}
