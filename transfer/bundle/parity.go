package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"
)

// windowsInFlight is how many windows are in memory while writing: one is
// filled while the other is coded and written.
const windowsInFlight = 2

// parityPipeline writes all volumes of a bundle side by side, a window at a
// time:
//
//	write ▸ full ▸ run: digest ∥ (encode ▸ all volumes) ▸ free ▸ write
//	(the caller)   (one goroutine, which uses all cores, from the first Write
//	                to Seal or Abort)
//
// The caller only fills memory. When it goes faster than the medium, it waits
// for a free window.
type parityPipeline struct {
	w       *Writer
	codec   *codec
	options Options

	// Of the goroutine that calls Write and Seal.
	group  *errgroup.Group // nil until the first Write and after the end
	ctx    context.Context // of the group: done when it has failed
	cancel context.CancelFunc
	window *window // being filled, or nil
	filled int     // bytes of payload in it
	taken  int64   // bytes of payload in all
	free   chan *window
	full   chan *window

	// Of run, and after it has ended of Seal.
	digest hash.Hash // nil when no statement is wanted
	sums   *sumList
}

func newParityPipeline(w *Writer, o Options) (*parityPipeline, error) {
	h := w.common.volume(1)
	codec, err := newCodec(h.spread())
	if err != nil {
		return nil, err
	}
	p := &parityPipeline{w: w, codec: codec, options: o, sums: newSumList(codec.spread, o.TempDir)}
	if o.Statement != nil {
		p.digest = sha256.New()
	}
	return p, nil
}

// start creates all volumes and begins to work.
func (p *parityPipeline) start() error {
	if err := p.sums.open(); err != nil {
		return err
	}
	for n := 1; n <= p.codec.volumes; n++ {
		v, err := p.w.begin(n)
		if err != nil {
			return err
		}
		if _, err := v.out.Write(v.block); err != nil {
			return fmt.Errorf("write header of volume %d of %d: %w", n, p.codec.volumes, err)
		}
	}
	ctx, cancel := context.WithCancel(p.w.ctx)
	p.cancel = cancel
	p.group, p.ctx = errgroup.WithContext(ctx)
	p.free, p.full = make(chan *window, windowsInFlight), make(chan *window, windowsInFlight)
	for range min(windowsInFlight, p.codec.windows()) {
		p.free <- newWindow(p.codec.spread)
	}
	p.group.Go(p.run)
	return nil
}

// write takes the next bytes of the payload.
func (p *parityPipeline) write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if p.group == nil {
		if err := p.start(); err != nil {
			return 0, err
		}
	}
	done := 0
	for done < len(b) {
		if p.window == nil {
			select {
			case p.window = <-p.free:
			case <-p.ctx.Done():
				return done, p.end()
			}
			p.window.reset(p.taken / p.codec.windowPayload())
			p.filled = 0
		}
		cell := p.window.stripes * p.codec.Shard
		n := copy(p.window.cell(p.filled / cell)[p.filled%cell:], b[done:])
		done, p.filled, p.taken = done+n, p.filled+n, p.taken+int64(n)
		if p.filled == p.window.payloadSize() || p.taken == p.codec.payload {
			p.full <- p.window // never blocks: it has room for all windows
			p.window = nil
		}
	}
	return done, nil
}

// run works off the windows.
func (p *parityPipeline) run() error {
	for {
		select {
		case <-p.ctx.Done():
			return p.ctx.Err()
		case w, ok := <-p.full:
			if !ok {
				return nil
			}
			if err := p.process(w); err != nil {
				return err
			}
			p.free <- w
		}
	}
}

// process codes one window and writes its parts to the volumes.
func (p *parityPipeline) process(w *window) error {
	real := int(min(p.codec.payload-w.number*p.codec.windowPayload(), int64(w.payloadSize())))
	w.pad(real)
	g, ctx := errgroup.WithContext(p.ctx)
	if p.digest != nil {
		g.Go(func() error {
			for i, left := 0, real; left > 0; i++ {
				cell := w.cell(i)
				p.digest.Write(cell[:min(left, len(cell))])
				left -= len(cell)
			}
			return nil
		})
	}
	g.Go(func() error {
		if err := p.codec.encode(ctx, w); err != nil {
			return err
		}
		return writeWindow(ctx, w, p.w.begun, p.sums)
	})
	return g.Wait()
}

// pad fills what the payload leaves of the window with zeros.
func (w *window) pad(real int) {
	for i, at := 0, 0; i < w.Data; i++ {
		cell := w.cell(i)
		clear(cell[min(len(cell), max(0, real-at)):])
		at += len(cell)
	}
}

// writeWindow appends a window's parts to the volumes given, cell by cell, so
// that what is summed up is still in the cache when it is written.
func writeWindow(ctx context.Context, w *window, volumes []*volumeFile, sums *sumList) error {
	return parallel(ctx, len(volumes), func(n int) error {
		h := volumes[n].header
		all := make([]byte, 0, w.perVolume()*w.stripes*sumSize)
		for i := h.Volume - 1; i < w.shards(); i += w.volumes {
			if err := ctx.Err(); err != nil {
				return err
			}
			for d := range w.stripes {
				all = binary.BigEndian.AppendUint64(all, xxhash.Sum64(w.shard(d, i)))
			}
			if _, err := volumes[n].out.Write(w.cell(i)); err != nil {
				return fmt.Errorf("write volume %d of %d: %w", h.Volume, h.Volumes, err)
			}
		}
		return sums.put(h.Volume-1, w.firstBlock(w.number), all)
	})
}

// seal writes what is left, then the trailers, and makes all volumes durable.
func (p *parityPipeline) seal() error {
	close(p.full)
	if err := p.finish(); err != nil {
		return err
	}
	defer p.sums.close()
	var statement []byte
	if p.options.Statement != nil {
		made, err := p.options.Statement([32]byte(p.digest.Sum(nil)))
		if err != nil {
			return fmt.Errorf("make statement: %w", err)
		}
		if len(made) != p.options.StatementSize {
			return fmt.Errorf("make statement: it has %d bytes instead of the %d announced", len(made), p.options.StatementSize)
		}
		statement = made
	}
	return finishVolumes(p.w.ctx, p.w.begun, p.sums, statement)
}

// finishVolumes writes the trailers and waits until all is durable.
func finishVolumes(ctx context.Context, volumes []*volumeFile, sums *sumList, statement []byte) error {
	return parallel(ctx, len(volumes), func(i int) error {
		v := volumes[i]
		footer, err := writeParityTrailer(v.out, v.header, v.block, func() io.Reader { return sums.of(v.header.Volume - 1) }, statement)
		if err == nil {
			v.footer, v.block = footer, nil
			err = v.out.Close()
		}
		if err != nil {
			return fmt.Errorf("write volume %d of %d: %w", v.header.Volume, v.header.Volumes, err)
		}
		return nil
	})
}

// finish waits for the goroutine, and says why it failed if it did.
func (p *parityPipeline) finish() error {
	if p.group == nil {
		return nil
	}
	err := p.group.Wait()
	p.cancel()
	p.group, p.window = nil, nil
	return err
}

// end stops the goroutine and lets go of everything but the volumes.
func (p *parityPipeline) end() error {
	if p.group != nil {
		p.cancel()
	}
	err := p.finish()
	p.sums.close()
	return err
}

// sumsInMemory is how many bytes of sums are kept in memory: those of about
// 128 GiB. Those of more go to a temporary file. Tests change it.
var sumsInMemory int64 = 16 << 20

// sumList holds the sums of all volumes until the trailers are written. Its
// methods may be called for different volumes at once.
type sumList struct {
	spread
	dir    string
	memory []byte
	file   *os.File
}

func newSumList(s spread, dir string) *sumList { return &sumList{spread: s, dir: dir} }

// open makes room before the first sum is put.
func (l *sumList) open() (err error) {
	size := int64(l.volumes) * l.blocks() * sumSize
	if size <= sumsInMemory {
		l.memory = make([]byte, size)
	} else if l.file, err = os.CreateTemp(l.dir, "davit-sums-*"); err != nil {
		return fmt.Errorf("make temporary list of sums: %w", err)
	}
	return nil
}

func (l *sumList) put(volume int, block int64, sums []byte) error {
	at := (int64(volume)*l.blocks() + block) * sumSize
	if l.file == nil {
		copy(l.memory[at:], sums)
		return nil
	}
	if _, err := l.file.WriteAt(sums, at); err != nil {
		return fmt.Errorf("write temporary list of sums: %w", err)
	}
	return nil
}

// of reads all sums of a volume.
func (l *sumList) of(volume int) io.Reader {
	size := l.blocks() * sumSize
	if l.file == nil {
		return bytes.NewReader(l.memory[int64(volume)*size:][:size])
	}
	return io.NewSectionReader(l.file, int64(volume)*size, size)
}

func (l *sumList) close() {
	l.memory = nil
	if l.file != nil {
		l.file.Close()
		os.Remove(l.file.Name()) // only sums, which nobody needs any more
		l.file = nil
	}
}
