package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
)

// CheckOptions for Check.
type CheckOptions struct {
	ReadData bool                    // read every byte, not only names, sizes and tables
	Progress func(done, total int64) // bytes of packs, may be nil
}

// Problem is one thing found wrong.
type Problem struct {
	Object string `json:"object"` // what is affected
	Reason string `json:"reason"`
}

// CheckReport is what Check found.
type CheckReport struct {
	Packs    int       `json:"packs"`
	Chunks   int64     `json:"chunks"`
	Bytes    int64     `json:"bytes"`    // of packs
	Adopted  []string  `json:"adopted"`  // packs that the index did not know, or not wholly, and knows now
	Problems []Problem `json:"problems"` // empty: all is well
}

// Check compares the bucket with the index and, if asked, every byte with its
// name. Sound packs and chunks that the index does not know, such as a crash
// leaves, are indexed. Damage is reported, never an error and never mended.
func (s *Store) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	report := CheckReport{Adopted: []string{}, Problems: []Problem{}}
	bad := func(object, format string, args ...any) {
		report.Problems = append(report.Problems, Problem{object, fmt.Sprintf(format, args...)})
	}
	known := map[pack.Name]PackInfo{}
	for info, err := range s.index.Packs(ctx) {
		if err != nil {
			return report, fmt.Errorf("check store: %w", err)
		}
		known[info.Name] = info
	}
	type found struct {
		info  PackInfo // ID 0: not in the index
		wrong error
		table *pack.Table
	}
	var packs []*found
	var total int64
	for info, err := range s.bucket.List(ctx, packPrefix) {
		if err != nil {
			return report, fmt.Errorf("check store: %w", err)
		}
		name, err := pack.ParseName(info.Name[strings.LastIndexByte(info.Name, '/')+1:])
		if err != nil || PackObject(name) != info.Name {
			bad(info.Name, "is not a pack's name; davit did not write it")
			continue
		}
		f := &found{info: PackInfo{Name: name, Size: info.Size}}
		if k, ok := known[name]; ok {
			delete(known, name)
			f.info.ID = k.ID
			if k.Size != info.Size {
				bad(info.Name, "has %d bytes instead of %d", info.Size, k.Size)
				continue
			}
		}
		packs = append(packs, f)
		total += info.Size
	}
	for name := range known {
		bad(PackObject(name), "is gone from the bucket")
	}
	var done int64
	progress := make(chan int64, s.workers)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.workers + 1)
	g.Go(func() error {
		for range packs {
			select {
			case n := <-progress:
				if done += n; o.Progress != nil {
					o.Progress(done, total)
				}
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		return nil
	})
	for _, f := range packs {
		g.Go(func() error {
			var err error
			f.table, err = s.checkPack(gctx, f.info, o.ReadData)
			if err != nil && !errors.Is(err, ErrDamaged) {
				return err
			}
			f.wrong = err
			return send(gctx, progress, f.info.Size)
		})
	}
	if err := g.Wait(); err != nil {
		return report, fmt.Errorf("check store: %w", err)
	}
	for _, f := range packs {
		object := PackObject(f.info.Name)
		if f.wrong != nil {
			bad(object, "%v", f.wrong)
			continue
		}
		report.Packs++
		report.Bytes += f.info.Size
		report.Chunks += int64(len(f.table.Chunks))
		if f.info.ID == 0 {
			if _, err := s.index.AddPack(ctx, f.info.Name, f.info.Size, f.table); err != nil {
				return report, fmt.Errorf("adopt pack %s: %w", f.info.Name, err)
			}
			report.Adopted = append(report.Adopted, object)
			continue
		}
		if missing, err := s.unindexed(ctx, f.table); err != nil {
			return report, fmt.Errorf("check store: %w", err)
		} else if missing > 0 {
			if _, err := s.index.AddPack(ctx, f.info.Name, f.info.Size, f.table); err != nil {
				return report, fmt.Errorf("adopt pack %s: %w", f.info.Name, err)
			}
			report.Adopted = append(report.Adopted, object)
		}
	}
	return report, nil
}

// unindexed counts a pack's chunks that the index cannot find anywhere.
func (s *Store) unindexed(ctx context.Context, t *pack.Table) (int, error) {
	names := make([]chunk.Name, 0, locateBatch)
	out := make([]Location, locateBatch)
	missing := 0
	for i, c := range t.Chunks {
		names = append(names, c.Name)
		if len(names) < locateBatch && i+1 < len(t.Chunks) {
			continue
		}
		if err := s.index.Locate(ctx, names, out[:len(names)]); err != nil {
			return 0, err
		}
		for _, loc := range out[:len(names)] {
			if !loc.Held() {
				missing++
			}
		}
		names = names[:0]
	}
	return missing, nil
}

// checkPack opens a pack and, with data, reads all of it.
func (s *Store) checkPack(ctx context.Context, info PackInfo, data bool) (*pack.Table, error) {
	p, err := s.openPack(ctx, PackInfo{Name: info.Name, Size: info.Size})
	if err != nil {
		return nil, err
	}
	defer p.object.Close()
	if data {
		if err := verifyPack(ctx, p); err != nil {
			return nil, err
		}
	}
	return p.reader.Table(), nil
}

// verifyPack reads a pack: the ciphertext against the pack's name, every chunk
// against its own.
func verifyPack(ctx context.Context, p *openedPack) error {
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(p.object, 0, p.object.Size()), make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("read pack %s: %w", p.info.Name, err)
	}
	if pack.Name(sum.Sum(nil)) != p.info.Name {
		return fmt.Errorf("read pack %s: %w: its bytes are not what its name says", p.info.Name, ErrDamaged)
	}
	if err := p.reader.Verify(ctx, nil); err != nil {
		return damagedPack(p.info.Name, err)
	}
	return nil
}

// VerifyGuest reads a pack in quarantine: every chunk against its name. The
// ciphertext was hashed when it was put there.
func (s *Store) VerifyGuest(ctx context.Context, g Guest) error {
	object, err := s.bucket.Open(ctx, g.Object)
	if err != nil {
		return fmt.Errorf("open pack %s: %w", g.Name, err)
	}
	defer object.Close()
	reader, err := pack.Open(object, object.Size(), s.keys)
	if err != nil {
		return damagedPack(g.Name, err)
	}
	if err := reader.Verify(ctx, nil); err != nil {
		return damagedPack(g.Name, err)
	}
	return nil
}

// Adopt makes a guest part of the store. It may be repeated after a crash.
func (s *Store) Adopt(ctx context.Context, g Guest) error {
	object := PackObject(g.Name)
	err := bucket.Move(ctx, s.bucket, g.Object, object)
	switch {
	case errors.Is(err, bucket.ErrExist):
		// It was copied before; what is left is the guest's own name.
		if err := s.bucket.Delete(ctx, g.Object); err != nil {
			return fmt.Errorf("adopt pack %s: %w", g.Name, err)
		}
	case errors.Is(err, bucket.ErrNotExist):
		if _, err := s.bucket.Stat(ctx, object); err != nil {
			return fmt.Errorf("adopt pack %s: it is neither in quarantine nor in the store: %w", g.Name, err)
		}
	case err != nil:
		return fmt.Errorf("adopt pack %s: %w", g.Name, err)
	}
	p, err := s.openPack(ctx, PackInfo{Name: g.Name})
	if err != nil {
		return err
	}
	defer p.object.Close()
	if _, err := s.index.AddPack(ctx, g.Name, p.object.Size(), p.reader.Table()); err != nil {
		return fmt.Errorf("index pack %s: %w", g.Name, err)
	}
	return nil
}

// SetAside takes damaged packs out of the store: the index forgets them, so
// that their chunks can be stored again, and the objects move from packs/ to
// damaged/, where nothing reads or removes them. It reads every byte. Nothing
// else may use the store meanwhile.
func (s *Store) SetAside(ctx context.Context, progress func(done, total int64)) ([]pack.Name, error) {
	var names []PackInfo
	var done, total int64
	for info, err := range s.index.Packs(ctx) {
		if err != nil {
			return nil, fmt.Errorf("set damaged packs aside: %w", err)
		}
		names = append(names, info)
		total += info.Size
	}
	s.frames.drop()
	s.packs.drop()
	var aside []pack.Name
	for _, info := range names {
		_, err := s.checkPack(ctx, info, true)
		if done += info.Size; progress != nil {
			progress(done, total)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrDamaged) {
			return aside, fmt.Errorf("set damaged packs aside: %w", err)
		}
		// The index first: a crash between leaves a pack that check reports.
		if err := s.index.ReplacePack(ctx, info.Name, pack.Name{}, 0, nil); err != nil {
			return aside, fmt.Errorf("set pack %s aside: %w", info.Name, err)
		}
		err = bucket.Move(ctx, s.bucket, PackObject(info.Name), damagedPrefix+info.Name.String())
		if err != nil && !errors.Is(err, bucket.ErrNotExist) {
			return aside, fmt.Errorf("set pack %s aside: %w", info.Name, err)
		}
		aside = append(aside, info.Name)
	}
	return aside, nil
}

const damagedPrefix = "damaged/"

// Reindex adds every sound pack in the bucket to the index and returns how
// many there are, with the damaged ones as problems.
func (s *Store) Reindex(ctx context.Context, progress func(done, total int64)) (CheckReport, error) {
	return s.Check(ctx, CheckOptions{Progress: progress})
}
