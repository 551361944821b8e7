package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
)

// The pipeline of Write. Every arrow is a bounded channel; what must stay in
// order (→) does, what need not (⇉) runs on all workers.
//
//	caller        cut into batches of about 1 MiB
//	  ⇉ hashers      SHA-256 of every chunk
//	  → digester     SHA-256 of every file of several chunks
//	  → collector    look up, keep the list, fill frames with what is new
//	      ⇉ compressors  zstd
//	      → packer       age, write
//	          → committer   fsync and rename, then the index
const batchSize = 1 << 20

// WriteStats counts what one Write took in and what it had to store.
type WriteStats struct {
	Bytes     int64 // plaintext taken in, lists included
	Chunks    int64
	NewBytes  int64 // plaintext of chunks that were not held before
	NewChunks int64
	Packs     int64
	Stored    int64 // bytes of the packs written
}

// FileSum is what a Stream found out about one file.
type FileSum struct {
	Size   int64
	SHA256 [sha256.Size]byte
}

// Writer takes streams into the store. It is used by one goroutine, one
// stream at a time.
type Writer struct {
	s       *Store
	ctx     context.Context
	cutter  *chunk.Cutter
	current *batch
	lists   []*Spool    // of all streams, closed in the end at the latest
	free    chan *batch // batches to use again

	ordered chan *batch // caller → digester
	unhash  chan *batch // caller ⇉ hashers
	digests chan *batch // digester → collector

	frame     *frameJob
	plain     chan *frameJob // collector ⇉ compressors
	framed    chan *frameJob // collector → packer
	freeFrame chan *frameJob
	full      chan *openPack // packer → committer

	mu      sync.Mutex
	pending map[chunk.Name]struct{} // chunks on their way into a pack the index does not know yet

	stats WriteStats // owned by the collector but for Packs and Stored, which the committer owns
}

// batch is a run of chunks of one stream, and what is to happen between them.
type batch struct {
	stream *Stream
	buf    []byte
	ends   []int // where each chunk ends in buf
	names  []chunk.Name
	marks  []mark
	hashed chan struct{} // one token when names are there
}

// mark stands between chunks: it says that a file ends there or that the
// caller waits for everything before it.
type mark struct {
	at      int // chunks of the batch before it
	done    func(FileSum) error
	sum     FileSum
	byName  bool // the file is the chunk before the mark: its name is its sum
	reached chan struct{}
}

// frameJob is one frame on its way to a pack.
type frameJob struct {
	plain   []byte
	entries []chunk.Entry
	data    []byte
	ready   chan struct{} // one token when data is there
}

// openPack is a pack that is complete but not committed.
type openPack struct {
	w   bucket.Writer
	sum pack.Summary
}

// Write runs fn with a Writer and, when fn returns nil, makes everything it
// took in durable and findable before it returns. When fn or any step fails,
// what was stored by then stays as unreferenced chunks, which a later Write of
// the same bytes finds again.
func (s *Store) Write(ctx context.Context, fn func(*Writer) error) (WriteStats, error) {
	cutter, err := chunk.NewCutter(s.config.Chunk)
	if err != nil {
		return WriteStats{}, fmt.Errorf("write to store: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	depth := s.workers + 2
	w := &Writer{
		s: s, ctx: ctx, cutter: cutter,
		free:    make(chan *batch, 3*depth),
		ordered: make(chan *batch, depth), unhash: make(chan *batch, depth), digests: make(chan *batch, depth),
		plain: make(chan *frameJob, depth), framed: make(chan *frameJob, depth), freeFrame: make(chan *frameJob, 3*depth),
		full: make(chan *openPack), pending: map[chunk.Name]struct{}{},
	}
	g.Go(func() error {
		defer close(w.ordered)
		defer close(w.unhash)
		if err := fn(w); err != nil {
			return err
		}
		return w.push()
	})
	for range s.workers {
		g.Go(w.hashChunks)
		g.Go(w.compressFrames)
	}
	g.Go(func() error { defer close(w.digests); return w.digestFiles() })
	g.Go(func() error { defer close(w.framed); defer close(w.plain); return w.collect() })
	g.Go(func() error { defer close(w.full); return w.packFrames() })
	g.Go(w.commitPacks)
	err = g.Wait()
	for _, list := range w.lists {
		list.Close() // most are: only a failed Write leaves some open
	}
	if err != nil {
		return w.stats, fmt.Errorf("write to store: %w", err)
	}
	return w.stats, nil
}

// send passes v on unless the pipeline has failed.
func send[T any](ctx context.Context, c chan<- T, v T) error {
	select {
	case c <- v:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// await waits for a token unless the pipeline has failed.
func await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *Writer) batch(st *Stream) *batch {
	if w.current != nil {
		return w.current
	}
	select {
	case w.current = <-w.free:
	default:
		w.current = &batch{buf: make([]byte, 0, batchSize), hashed: make(chan struct{}, 1)}
	}
	w.current.stream = st
	return w.current
}

// push hands the current batch to the pipeline.
func (w *Writer) push() error {
	b := w.current
	if b == nil {
		return nil
	}
	w.current = nil
	if err := send(w.ctx, w.ordered, b); err != nil {
		return err
	}
	return send(w.ctx, w.unhash, b)
}

func (w *Writer) recycle(b *batch) {
	b.stream, b.buf, b.ends, b.names, b.marks = nil, b.buf[:0], b.ends[:0], b.names[:0], b.marks[:0]
	select {
	case w.free <- b:
	default:
	}
}

func (w *Writer) hashChunks() error {
	for b := range w.unhash {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		from := 0
		var last []byte
		for i, end := range b.ends {
			piece := b.buf[from:end]
			// In a hole one chunk is like the other; comparing is cheaper.
			if i > 0 && bytes.Equal(piece, last) {
				b.names = append(b.names, b.names[i-1])
			} else {
				b.names = append(b.names, chunk.NameOf(piece))
			}
			from, last = end, piece
		}
		b.hashed <- struct{}{}
	}
	return nil
}

// digestFiles computes the sums of files. A file of one chunk has the chunk's
// name as its sum, so only longer ones are hashed a second time.
func (w *Writer) digestFiles() error {
	var (
		sum  hash.Hash = sha256.New()
		size int64
		open bool // bytes of the current file are in sum
	)
	for b := range w.ordered {
		from, next := 0, 0
		for i, end := range b.ends {
			for ; next < len(b.marks) && b.marks[next].at == i; next++ {
				finishFile(&b.marks[next], sum, &size, &open)
			}
			piece := b.buf[from:end]
			from = end
			size += int64(len(piece))
			if !open && next < len(b.marks) && b.marks[next].at == i+1 && b.marks[next].done != nil {
				b.marks[next].byName = true
				continue
			}
			sum.Write(piece)
			open = true
		}
		for ; next < len(b.marks); next++ {
			finishFile(&b.marks[next], sum, &size, &open)
		}
		if err := send(w.ctx, w.digests, b); err != nil {
			return err
		}
	}
	return nil
}

func finishFile(m *mark, sum hash.Hash, size *int64, open *bool) {
	if m.done == nil {
		return
	}
	m.sum.Size = *size
	if !m.byName {
		sum.Sum(m.sum.SHA256[:0])
		sum.Reset()
	}
	*size, *open = 0, false
}

// collect looks chunks up, keeps each stream's list and fills frames with the
// chunks that are new.
func (w *Writer) collect() error {
	var (
		ask   []chunk.Name
		found []Location
		known []bool
	)
	for b := range w.digests {
		if err := await(w.ctx, b.hashed); err != nil {
			return err
		}
		// Pending first: a chunk leaves pending only after the index has it.
		ask, known = ask[:0], known[:0]
		w.mu.Lock()
		for _, name := range b.names {
			_, ok := w.pending[name]
			known = append(known, ok)
			if !ok {
				ask = append(ask, name)
			}
		}
		w.mu.Unlock()
		if len(ask) > 0 {
			if cap(found) < len(ask) {
				found = make([]Location, len(ask))
			}
			found = found[:len(ask)]
			if err := w.s.index.Locate(w.ctx, ask, found); err != nil {
				return err
			}
		}
		from, next, asked := 0, 0, 0
		for i, end := range b.ends {
			if err := w.pass(b, &next, i); err != nil {
				return err
			}
			e := chunk.Entry{Name: b.names[i], Length: uint32(end - from)}
			if err := b.stream.append(e); err != nil {
				return err
			}
			w.stats.Chunks++
			w.stats.Bytes += int64(e.Length)
			if !known[i] {
				held := found[asked].Held()
				asked++
				if !held {
					if err := w.store(e, b.buf[from:end]); err != nil {
						return err
					}
				}
			}
			from = end
		}
		if err := w.pass(b, &next, len(b.ends)); err != nil {
			return err
		}
		w.recycle(b)
	}
	return w.closeFrame()
}

// pass does what the marks before chunk i ask for.
func (w *Writer) pass(b *batch, next *int, i int) error {
	for ; *next < len(b.marks) && b.marks[*next].at == i; *next++ {
		m := &b.marks[*next]
		if m.reached != nil {
			close(m.reached)
		}
		if m.done == nil {
			continue
		}
		if m.byName {
			m.sum.SHA256 = b.names[i-1]
		}
		if err := m.done(m.sum); err != nil {
			return err
		}
	}
	return nil
}

// store puts a new chunk into the current frame, unless this batch did.
func (w *Writer) store(e chunk.Entry, data []byte) error {
	w.mu.Lock()
	_, twice := w.pending[e.Name]
	w.pending[e.Name] = struct{}{}
	w.mu.Unlock()
	if twice {
		return nil
	}
	w.stats.NewChunks++
	w.stats.NewBytes += int64(e.Length)
	if w.frame == nil {
		select {
		case w.frame = <-w.freeFrame:
		default:
			w.frame = &frameJob{plain: make([]byte, 0, pack.MaxFrame), ready: make(chan struct{}, 1)}
		}
	}
	w.frame.plain = append(w.frame.plain, data...)
	w.frame.entries = append(w.frame.entries, e)
	if len(w.frame.plain) >= pack.FrameTarget || len(w.frame.entries) >= MaxFrameChunks {
		return w.closeFrame()
	}
	return nil
}

// MaxFrameChunks bounds the chunks of a frame of tiny files. A pack is closed
// early when another such frame might not fit.
const MaxFrameChunks = 1 << 13

func (w *Writer) closeFrame() error {
	f := w.frame
	if f == nil {
		return nil
	}
	w.frame = nil
	if err := send(w.ctx, w.framed, f); err != nil {
		return err
	}
	return send(w.ctx, w.plain, f)
}

func (w *Writer) compressFrames() error {
	enc, err := pack.NewEncoder()
	if err != nil {
		return err
	}
	for f := range w.plain {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		f.data = enc.Encode(f.data[:0], f.plain)
		f.ready <- struct{}{}
	}
	return nil
}

func (w *Writer) packFrames() (err error) {
	var (
		object bucket.Writer
		pw     *pack.Writer
	)
	defer func() {
		if err != nil && object != nil {
			object.Abort()
		}
	}()
	finish := func() error {
		sum, err := pw.Close()
		if err != nil {
			return err
		}
		if err := send(w.ctx, w.full, &openPack{object, sum}); err != nil {
			return err
		}
		object, pw = nil, nil
		return nil
	}
	for f := range w.framed {
		if err := await(w.ctx, f.ready); err != nil {
			return err
		}
		if pw == nil {
			if object, err = w.s.bucket.Create(w.ctx); err != nil {
				return err
			}
			if pw, err = pack.NewWriter(object, w.s.keys); err != nil {
				return err
			}
		}
		if err := pw.Add(pack.Frame{Data: f.data, Size: len(f.plain), Chunks: f.entries}); err != nil {
			return err
		}
		f.plain, f.entries = f.plain[:0], f.entries[:0]
		select {
		case w.freeFrame <- f:
		default:
		}
		if pw.Size() >= w.s.size || pw.Chunks() > pack.MaxChunks-MaxFrameChunks {
			if err := finish(); err != nil {
				return err
			}
		}
	}
	// The channel closes early when the pipeline has failed: then the last
	// pack is not whole and must not be kept.
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if pw != nil {
		return finish()
	}
	return nil
}

func (w *Writer) commitPacks() error {
	for p := range w.full {
		if err := w.s.commitPack(w.ctx, p.w, p.sum); err != nil {
			p.w.Abort()
			return err
		}
		w.stats.Packs++
		w.stats.Stored += p.sum.Size
		w.mu.Lock()
		for _, c := range p.sum.Table.Chunks {
			delete(w.pending, c.Name)
		}
		w.mu.Unlock()
	}
	return nil
}

// commitPack makes a pack durable, then findable.
func (s *Store) commitPack(ctx context.Context, w bucket.Writer, sum pack.Summary) error {
	if err := w.Commit(ctx, PackObject(sum.Name)); err != nil {
		return fmt.Errorf("commit pack %s: %w", sum.Name, err)
	}
	if _, err := s.index.AddPack(ctx, sum.Name, sum.Size, sum.Table); err != nil {
		return fmt.Errorf("index pack %s: %w", sum.Name, err)
	}
	return nil
}

// Stream is one run of bytes going in: the content of a package. Files of a
// tree are added one after another; each starts a new chunk.
type Stream struct {
	w       *Writer
	list    *Spool // entries of the chunks so far; owned by the collector until Close has waited for it
	entries int64
	last    chunk.Entry
	size    int64
}

// NewStream starts a stream. One that is not closed, since something went
// wrong, goes when its Write has failed.
func (w *Writer) NewStream() *Stream {
	st := &Stream{w: w, list: NewSpool(w.s.temp)}
	w.lists = append(w.lists, st.list)
	return st
}

func (st *Stream) append(e chunk.Entry) error {
	if st.entries == 0 {
		if _, err := st.list.Write(chunk.AppendListHeader(nil)); err != nil {
			return err
		}
	}
	if st.entries++; st.entries > MaxEntries {
		return fmt.Errorf("%w: a package of more than %d chunks (about 2 TiB) is more than davit takes; split it", ErrTooManyChunks, MaxEntries)
	}
	st.last = e
	st.size += int64(e.Length)
	var b [chunk.EntrySize]byte
	_, err := st.list.Write(chunk.AppendEntry(b[:0], e))
	return err
}

// Add reads r to its end as the next file of the stream. done, if not nil, is
// called with the file's sums, in the order of Add, from another goroutine,
// at the latest before Close returns; its error stops the Write.
func (st *Stream) Add(r io.Reader, done func(FileSum) error) error {
	w := st.w
	w.cutter.Reset(r)
	for {
		piece, err := w.cutter.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		b := w.batch(st)
		if len(b.buf)+len(piece) > cap(b.buf) && len(b.buf) > 0 {
			if err := w.push(); err != nil {
				return err
			}
			b = w.batch(st)
		}
		b.buf = append(b.buf, piece...)
		b.ends = append(b.ends, len(b.buf))
	}
	if done == nil {
		done = func(FileSum) error { return nil }
	}
	b := w.batch(st)
	b.marks = append(b.marks, mark{at: len(b.ends), done: done})
	if len(b.marks) >= maxMarks {
		return w.push()
	}
	return nil
}

// Then calls fn in the order of Add, between the files before and after it.
func (st *Stream) Then(fn func() error) error {
	b := st.w.batch(st)
	b.marks = append(b.marks, mark{at: len(b.ends), done: func(FileSum) error { return fn() }})
	if len(b.marks) >= maxMarks {
		return st.w.push()
	}
	return nil
}

// Push sends on what waits to become a batch, so that many callbacks do not
// hold more memory than the caller wants.
func (st *Stream) Push() error { return st.w.push() }

// Refer adds a chunk whose bytes are elsewhere, or will be. It is called only
// within a callback of Add or Then of the same stream.
func (st *Stream) Refer(e chunk.Entry) error { return st.append(e) }

// maxMarks ends a batch of many empty files or small ones.
const maxMarks = 4096

// wait returns when the collector has seen all of the stream.
func (st *Stream) wait() error {
	b := st.w.batch(st)
	reached := make(chan struct{})
	b.marks = append(b.marks, mark{at: len(b.ends), reached: reached})
	if err := st.w.push(); err != nil {
		return err
	}
	return await(st.w.ctx, reached)
}

// AddFile takes r in as a stream of its own.
func (w *Writer) AddFile(r io.Reader) (chunk.Ref, FileSum, error) {
	var sum FileSum
	st := w.NewStream()
	if err := st.Add(r, func(s FileSum) error { sum = s; return nil }); err != nil {
		return chunk.Ref{}, FileSum{}, err
	}
	ref, err := st.Close()
	return ref, sum, err
}

// Close ends the stream, stores the list of its chunks and returns how to get
// the stream back.
func (st *Stream) Close() (chunk.Ref, error) {
	// After an error the pipeline may still be adding to the lists: Write closes
	// them. Once waited for, a list is nobody else's.
	if err := st.wait(); err != nil {
		return chunk.Ref{}, err
	}
	ref := chunk.Ref{Size: st.size}
	if st.entries == 0 {
		return ref, st.list.Close()
	}
	// A list that takes several chunks has a list of its own, and so on.
	for st.entries > 1 {
		upper := st.w.NewStream()
		r, err := st.list.Reader()
		if err != nil {
			return chunk.Ref{}, err
		}
		if err := upper.Add(r, nil); err != nil {
			return chunk.Ref{}, err
		}
		if err := upper.wait(); err != nil {
			return chunk.Ref{}, err
		}
		if err := st.list.Close(); err != nil {
			return chunk.Ref{}, err
		}
		st = upper
		ref.Depth++
	}
	ref.Root = st.last.Name
	return ref, st.list.Close()
}
