package bundle

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"

	"davit/store/bucket"
)

// sumsRead bounds the sums of all files of a set that readers keep in memory.
const sumsRead = 64 << 20

// shardFiles reads shards from the files of a set, and takes none that does
// not match its sum. Where a volume is there several times, each shard comes
// from the first file in which it is whole. It is safe for concurrent use.
type shardFiles struct {
	ctx context.Context
	set *Set
	spread
	files [][]*shardFile // by volume, counted from 0
}

// shardFile is one file, opened when it is first needed and kept open.
type shardFile struct {
	name   string
	header Header
	keep   int64 // how many sums are read at once

	mu     sync.Mutex
	opened bool
	file   bucket.Object // guarded by mu until opened
	err    error         // why it cannot be opened
	first  int64         // guarded by mu, as is sums: they begin with this block's
	sums   []uint64
}

func newShardFiles(ctx context.Context, s *Set) *shardFiles {
	h := s.common.volume(1)
	f := &shardFiles{ctx: ctx, set: s, spread: h.spread(), files: make([][]*shardFile, s.Volumes)}
	count := 0
	for n := 1; n <= s.Volumes; n++ {
		count += len(s.filesOf(n))
	}
	keep := min(h.blocks(), max(512, sumsRead/sumSize/int64(max(1, count))))
	for n := 1; n <= s.Volumes; n++ {
		for _, name := range s.filesOf(n) {
			f.files[n-1] = append(f.files[n-1], &shardFile{name: name, header: s.common.volume(n), keep: keep})
		}
	}
	return f
}

// open opens the file the first time and checks that it is still the one that
// Scan saw.
func (f *shardFile) open(ctx context.Context, medium bucket.Reader) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opened {
		return f.err
	}
	file, err := medium.Open(ctx, f.name)
	if ctx.Err() != nil {
		if err == nil {
			file.Close()
		}
		return ctx.Err() // not for ever
	}
	f.opened = true
	if err != nil {
		f.err = fmt.Errorf("open volume %s: %w", f.name, err)
		return f.err
	}
	if f.err = sameVolume(file, f.name, f.header); f.err != nil {
		file.Close()
		return f.err
	}
	f.file = file
	return nil
}

// sum reads what the file says a shard's sum is, in its first list.
func (f *shardFile) sum(block int64) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := block - f.first; i >= 0 && i < int64(len(f.sums)) {
		return f.sums[i], nil
	}
	b := make([]byte, min(f.keep, f.header.blocks()-block)*sumSize)
	if err := readFull(f.file, b, f.trailer()+layTrailer(f.header.blocks(), 0).sums+block*sumSize); err != nil {
		return 0, err
	}
	f.first, f.sums = block, f.sums[:0]
	for i := range len(b) / sumSize {
		f.sums = append(f.sums, sumAt(b, int64(i)))
	}
	return f.sums[0], nil
}

// trailer is where the trailer begins.
func (f *shardFile) trailer() int64 { return HeaderSize + f.header.Length }

// secondSum reads a sum in the second list.
func (f *shardFile) secondSum(block int64) (uint64, error) {
	b := make([]byte, sumSize)
	err := readFull(f.file, b, f.trailer()+layTrailer(f.header.blocks(), 0).again+block*sumSize)
	return sumAt(b, 0), err
}

// sumAt is one of the sums as they stand in a file.
func sumAt(sums []byte, block int64) uint64 { return binary.BigEndian.Uint64(sums[block*sumSize:]) }

var errSum = errors.New("it does not match its sum")

// check compares a shard that was read.
func (f *shardFile) check(shard []byte, block int64) error {
	sum := xxhash.Sum64(shard)
	want, err := f.sum(block)
	if err == nil && want == sum {
		return nil
	}
	second, secondErr := f.secondSum(block)
	switch {
	case secondErr == nil && second == sum:
		return nil
	case err != nil && secondErr != nil:
		return fmt.Errorf("read sum: %w", err)
	}
	return errSum
}

// read fills b with consecutive shards, and calls bad for those that are not
// whole. The error is that of ctx.
func (f *shardFile) read(ctx context.Context, b []byte, block int64, bad func(i int, err error)) error {
	size := f.header.Geometry.Shard
	failed := readFull(f.file, b, HeaderSize+block*int64(size))
	for i := 0; i*size < len(b); i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		shard := b[i*size:][:size]
		if failed != nil { // somewhere in here: find where
			if err := readFull(f.file, shard, HeaderSize+(block+int64(i))*int64(size)); err != nil {
				bad(i, err)
				continue
			}
		}
		if err := f.check(shard, block+int64(i)); err != nil {
			bad(i, err)
		}
	}
	return ctx.Err()
}

// read fills b with consecutive shards of a volume from whichever file has
// them whole, and calls lost for those that none has.
func (f *shardFiles) read(volume int, b []byte, block int64, h *harm, lost func(i int)) error {
	size := f.Shard
	todo := make([]int, len(b)/size) // what is still wanted
	for i := range todo {
		todo[i] = i
	}
	for _, file := range f.files[volume] {
		if len(todo) == 0 {
			return nil
		}
		if err := file.open(f.ctx, f.set.medium); err != nil {
			if f.ctx.Err() != nil {
				return f.ctx.Err()
			}
			h.file(file.name, err)
			continue
		}
		var left []int
		for len(todo) > 0 {
			run := 1
			for run < len(todo) && todo[run] == todo[0]+run {
				run++
			}
			from := todo[0]
			err := file.read(f.ctx, b[from*size:(from+run)*size], block+int64(from), func(i int, err error) {
				left = append(left, from+i)
				h.shard(file.name, block+int64(from+i), err)
			})
			if err != nil {
				return err
			}
			todo = todo[run:]
		}
		todo = left
	}
	for _, i := range todo {
		lost(i)
	}
	return nil
}

// stripeError says that so many shards of a stripe are lost for good.
func (f *shardFiles) stripeError(stripe int64, lost int, h *harm) error {
	return &StripeError{
		Stripes: []BlockRange{{First: stripe, Count: 1}}, Lost: lost, Parity: f.Parity,
		Volumes: f.set.Volumes, Missing: f.set.gone(), Damaged: h.list(),
	}
}

// close closes all files.
func (f *shardFiles) close() error {
	var errs []error
	for _, files := range f.files {
		for _, file := range files {
			file.mu.Lock()
			if file.file != nil {
				errs = append(errs, file.file.Close())
			}
			file.opened, file.file, file.err = true, nil, errClosed
			file.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

var errClosed = errors.New("read payload: it is closed")

// harm collects what was found damaged, by file. It is safe for concurrent use.
type harm struct {
	mu    sync.Mutex
	files map[string]*DamageError
}

func (h *harm) of(name string) *DamageError {
	if h.files == nil {
		h.files = map[string]*DamageError{}
	}
	if h.files[name] == nil {
		h.files[name] = &DamageError{File: name, unit: "shard"}
	}
	return h.files[name]
}

// file notes that a file cannot be used at all.
func (h *harm) file(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.of(name)
	d.Reason, d.Err = err.Error(), err
	var inner *DamageError
	if errors.As(err, &inner) {
		d.Reason, d.Err = inner.Reason, inner.Err
	}
}

// shard notes a shard that is not whole.
func (h *harm) shard(name string, block int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.of(name)
	d.Reason = "not all of its shards match their sums"
	if !errors.Is(err, errSum) {
		d.Err = err
	}
	d.Blocks = append(d.Blocks, BlockRange{First: block, Count: 1})
}

// list gives the files in the order of their names, and their shards in runs.
func (h *harm) list() []*DamageError {
	var all []*DamageError
	for _, d := range h.files {
		blocks := d.Blocks
		slices.SortFunc(blocks, func(a, b BlockRange) int { return cmp.Compare(a.First, b.First) })
		d.Blocks = nil
		for _, b := range slices.Compact(blocks) { // a shard that was read twice
			for i := range b.Count {
				d.add(b.First + i)
			}
		}
		if d.Err != nil && len(d.Blocks) > 0 {
			d.Reason = fmt.Sprintf("not all of its shards can be read and match their sums (%v)", d.Err)
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *DamageError) int { return cmp.Compare(a.File, b.File) })
	return all
}

// sameParityVolume compares both headers of a file: one of them is enough.
func sameParityVolume(file bucket.Object, name string, h Header, block []byte) error {
	have := make([]byte, HeaderSize)
	err := readFull(file, have, 0)
	if err == nil && bytes.Equal(have, block) {
		return nil
	}
	second := HeaderSize + h.Length + layTrailer(h.blocks(), h.Statement).header
	if readFull(file, have, second) == nil && bytes.Equal(have, block) {
		return nil
	}
	if err != nil {
		return &DamageError{File: name, Reason: "its header cannot be read: " + err.Error(), Err: err}
	}
	return &DamageError{File: name, Reason: "its header is not the one it had when the medium was looked through"}
}
