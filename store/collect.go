package store

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"davit/store/chunk"
	"davit/store/pack"
)

// CollectOptions for Collect.
type CollectOptions struct {
	DryRun bool                 // report only
	Keep   func(pack.Name) bool // packs to leave alone whatever they hold; may be nil
	// Waste is the share of a pack's plaintext that may be dead before its
	// living chunks are packed anew, in (0, 1]; 0.25 if 0.
	Waste float64
}

// CollectReport is what Collect did, or would do.
type CollectReport struct {
	Packs     int   `json:"packs"`     // in the store before
	Dropped   int   `json:"dropped"`   // packs removed because nothing in them is used
	Repacked  int   `json:"repacked"`  // packs whose living chunks were packed anew
	Freed     int64 `json:"freed"`     // bytes of the packs removed
	Written   int64 `json:"written"`   // bytes of the packs made
	Waste     int64 `json:"waste"`     // plaintext bytes unused in packs that stay
	Unindexed int   `json:"unindexed"` // packs that no index knew, removed
}

// Collect removes what no stream in live needs. live must list every chunk of
// every stream to keep. Nothing else may write to the store meanwhile.
//
// Packs made anew are durable and indexed before an old one goes, so that a
// crash at any point loses nothing.
func (s *Store) Collect(ctx context.Context, live iter.Seq2[chunk.Entry, error], o CollectOptions) (CollectReport, error) {
	var report CollectReport
	if o.Waste == 0 {
		o.Waste = 0.25
	}
	needed := map[chunk.Name]struct{}{}
	for e, err := range live {
		if err != nil {
			return report, fmt.Errorf("collect garbage: %w", err)
		}
		needed[e.Name] = struct{}{}
	}
	// What is used of each pack counts by where the index looks for it.
	used := map[int64]int64{}
	if err := s.tally(ctx, needed, used); err != nil {
		return report, fmt.Errorf("collect garbage: %w", err)
	}
	known := map[pack.Name]bool{}
	var drop, repack []PackInfo
	for info, err := range s.index.Packs(ctx) {
		if err != nil {
			return report, fmt.Errorf("collect garbage: %w", err)
		}
		known[info.Name] = true
		report.Packs++
		if o.Keep != nil && o.Keep(info.Name) {
			continue
		}
		if used[info.ID] == 0 {
			drop = append(drop, info)
			continue
		}
		total, err := s.plainSize(ctx, info)
		if err != nil {
			return report, fmt.Errorf("collect garbage: %w", err)
		}
		if dead := total - used[info.ID]; float64(dead) > o.Waste*float64(total) {
			repack = append(repack, info)
		} else {
			report.Waste += dead
		}
	}
	for _, info := range repack {
		report.Repacked++
		report.Freed += info.Size
		if o.DryRun {
			continue
		}
		n, err := s.repack(ctx, info, needed)
		report.Written += n
		if err != nil {
			return report, fmt.Errorf("collect garbage: pack %s: %w", info.Name, err)
		}
	}
	for _, info := range drop {
		report.Dropped++
		report.Freed += info.Size
		if o.DryRun {
			continue
		}
		if err := s.remove(ctx, info.Name); err != nil {
			return report, fmt.Errorf("collect garbage: %w", err)
		}
	}
	for info, err := range s.bucket.List(ctx, packPrefix) {
		if err != nil {
			return report, fmt.Errorf("collect garbage: %w", err)
		}
		name, err := pack.ParseName(info.Name[strings.LastIndexByte(info.Name, '/')+1:])
		if err != nil || known[name] || (o.Keep != nil && o.Keep(name)) {
			continue
		}
		if indexed, err := s.indexed(ctx, name); err != nil {
			return report, err
		} else if indexed { // made above
			continue
		}
		report.Unindexed++
		report.Freed += info.Size
		if o.DryRun {
			continue
		}
		if err := s.bucket.Delete(ctx, info.Name); err != nil {
			return report, fmt.Errorf("collect garbage: %w", err)
		}
	}
	return report, nil
}

func (s *Store) indexed(ctx context.Context, name pack.Name) (bool, error) {
	for info, err := range s.index.Packs(ctx) {
		if err != nil {
			return false, fmt.Errorf("collect garbage: %w", err)
		}
		if info.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// tally adds up the plaintext bytes needed from each pack.
func (s *Store) tally(ctx context.Context, needed map[chunk.Name]struct{}, used map[int64]int64) error {
	names := make([]chunk.Name, 0, locateBatch)
	out := make([]Location, locateBatch)
	flush := func() error {
		if err := s.index.Locate(ctx, names, out[:len(names)]); err != nil {
			return err
		}
		for i, loc := range out[:len(names)] {
			if !loc.Held() {
				return &MissingChunkError{names[i]}
			}
			used[loc.Pack] += int64(loc.Length)
		}
		names = names[:0]
		return nil
	}
	for n := range needed {
		if names = append(names, n); len(names) == locateBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (s *Store) plainSize(ctx context.Context, info PackInfo) (int64, error) {
	p, err := s.packs.acquire(ctx, info.ID)
	if err != nil {
		return 0, err
	}
	defer s.packs.release(p)
	var n int64
	for _, f := range p.v.reader.Table().Frames {
		n += int64(f.Size)
	}
	return n, nil
}

// remove forgets a pack, then deletes it: a crash between leaves an object
// that no index knows, which the next Collect removes.
func (s *Store) remove(ctx context.Context, name pack.Name) error {
	if err := s.index.ReplacePack(ctx, name, pack.Name{}, 0, nil); err != nil {
		return err
	}
	return s.bucket.Delete(ctx, PackObject(name))
}

// repack writes the living chunks of a pack into a new one and puts it in the
// old one's place.
func (s *Store) repack(ctx context.Context, info PackInfo, needed map[chunk.Name]struct{}) (int64, error) {
	var alive []chunk.Entry
	p, err := s.packs.acquire(ctx, info.ID)
	if err != nil {
		return 0, err
	}
	var located [1]Location
	for _, c := range p.v.reader.Table().Chunks {
		if _, ok := needed[c.Name]; !ok {
			continue
		}
		if err = s.index.Locate(ctx, []chunk.Name{c.Name}, located[:]); err != nil {
			break
		}
		if located[0].Pack == info.ID { // else another pack serves it
			alive = append(alive, chunk.Entry{Name: c.Name, Length: c.Length})
		}
	}
	s.packs.release(p)
	if err != nil {
		return 0, err
	}
	sel, err := s.Select(ctx, func(yield func(chunk.Entry, error) bool) {
		for _, e := range alive {
			if !yield(e, nil) {
				return
			}
		}
	}, nil)
	if err != nil {
		return 0, err
	}
	object, err := s.bucket.Create(ctx)
	if err != nil {
		return 0, err
	}
	defer object.Abort()
	w, err := pack.NewWriter(object, s.keys)
	if err != nil {
		return 0, err
	}
	if err := sel.Frames(ctx, w.Add); err != nil {
		return 0, err
	}
	sum, err := w.Close()
	if err != nil {
		return 0, err
	}
	if err := object.Commit(ctx, PackObject(sum.Name)); err != nil {
		return 0, err
	}
	if err := s.index.ReplacePack(ctx, info.Name, sum.Name, sum.Size, sum.Table); err != nil {
		return sum.Size, err
	}
	return sum.Size, s.bucket.Delete(ctx, PackObject(info.Name))
}
