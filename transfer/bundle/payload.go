package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"davit/store/bucket"
)

// maxOpen is how many volume files a Payload holds open when nothing reads.
const maxOpen = 4

// Payload reads a bundle's payload from its volumes. It is safe for concurrent
// use.
//
// Without parity it does not check the block sums: what lies inside
// authenticates itself when it is decrypted, and Verify locates what does not.
// With parity it checks every shard, and repairs what is missing or damaged
// while it reads; what cannot be repaired is a *StripeError.
type Payload struct {
	ctx    context.Context
	set    *Set
	mender *mender        // nil without parity
	files  map[int]string // volume to file, as Present was when it was opened
	mu     sync.Mutex
	open   []*openVolume // guarded by mu; least recently used first
	closed bool          // guarded by mu
}

// openVolume is one open file. Its counters are guarded by Payload.mu.
type openVolume struct {
	volume  int
	name    string
	file    bucket.Object
	readers int
	retired bool // not in Payload.open any more; the last reader closes it
}

// Open gives the payload of the set, which need not be complete: reading what
// a missing volume holds is a *MissingVolumeError, unless parity replaces it.
// ctx governs all reading.
func (s *Set) Open(ctx context.Context) (*Payload, error) {
	if s.firstFile() == "" {
		return nil, s.incomplete()
	}
	if s.common.Version == parityVersion {
		m, err := newMender(ctx, s)
		if err != nil {
			return nil, err
		}
		return &Payload{ctx: ctx, set: s, mender: m}, nil
	}
	p := &Payload{ctx: ctx, set: s, files: make(map[int]string, len(s.Present))}
	for n, names := range s.Present {
		if len(names) > 0 {
			p.files[n] = names[0]
		}
	}
	return p, nil
}

// Size is the length of the payload.
func (p *Payload) Size() int64 { return p.set.common.Payload }

// DocumentsSize is the length of the documents part at its end.
func (p *Payload) DocumentsSize() int64 { return p.set.common.Documents }

// Documents reads the documents part alone.
func (p *Payload) Documents() *io.SectionReader {
	return io.NewSectionReader(p, p.Size()-p.DocumentsSize(), p.DocumentsSize())
}

// Repaired is how many shards had to be repaired so far. It grows each time a
// place is read again.
func (p *Payload) Repaired() int64 {
	if p.mender == nil {
		return 0
	}
	return p.mender.repaired.Load()
}

// ReadAt implements io.ReaderAt.
func (p *Payload) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errors.New("read payload: negative offset")
	}
	if p.mender != nil {
		return p.mender.readAt(b, at)
	}
	done := 0
	for done < len(b) {
		if at >= p.Size() {
			return done, io.EOF
		}
		n, err := p.readVolume(b[done:], at)
		done += n
		at += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readVolume reads up to the end of the volume that holds the byte at.
func (p *Payload) readVolume(b []byte, at int64) (int, error) {
	volume := int(at/p.set.common.Capacity) + 1
	h := p.set.common.volume(volume)
	v, err := p.acquire(volume)
	if err != nil {
		return 0, err
	}
	defer p.release(v)
	within := at - h.Offset
	b = b[:min(int64(len(b)), h.Length-within)]
	n, err := v.file.ReadAt(b, HeaderSize+within)
	if n == len(b) {
		return n, nil
	}
	if ctxErr := p.ctx.Err(); ctxErr != nil {
		return n, ctxErr
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return n, &DamageError{File: v.name, Reason: fmt.Sprintf("it ends at byte %d of its data", within+int64(n))}
	}
	return n, fmt.Errorf("read volume %s: %w", v.name, err)
}

func (p *Payload) acquire(volume int) (*openVolume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("read payload: it is closed")
	}
	if i := slices.IndexFunc(p.open, func(v *openVolume) bool { return v.volume == volume }); i >= 0 {
		v := p.open[i]
		p.open = append(slices.Delete(p.open, i, i+1), v)
		v.readers++
		return v, nil
	}
	v, err := p.openVolume(volume)
	if err != nil {
		return nil, err
	}
	v.readers++
	p.open = append(p.open, v)
	if len(p.open) > maxOpen {
		oldest := p.open[0]
		p.open = slices.Delete(p.open, 0, 1)
		oldest.retired = true
		if oldest.readers == 0 {
			oldest.file.Close() // read only: nothing can be lost
		}
	}
	return v, nil
}

func (p *Payload) release(v *openVolume) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v.readers--
	if v.retired && v.readers == 0 {
		v.file.Close()
	}
}

// openVolume opens the file of a volume and checks that it is still the one
// that Scan saw.
func (p *Payload) openVolume(volume int) (*openVolume, error) {
	c := p.set.common
	name, ok := p.files[volume]
	if !ok {
		return nil, &MissingVolumeError{Volume: volume, Volumes: c.Volumes, Name: c.Name(volume, c.Volumes)}
	}
	file, err := p.set.medium.Open(p.ctx, name)
	if errors.Is(err, bucket.ErrNotExist) {
		return nil, &MissingVolumeError{Volume: volume, Volumes: c.Volumes, Name: name}
	}
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", name, err)
	}
	if err := sameVolume(file, name, c.volume(volume)); err != nil {
		file.Close()
		return nil, err
	}
	return &openVolume{volume: volume, name: name, file: file}, nil
}

func sameVolume(file bucket.Object, name string, h Header) error {
	if want := h.fileSize(); file.Size() != want {
		return &DamageError{File: name, Reason: sizeText(file.Size(), want)}
	}
	want, err := h.encode()
	if err != nil {
		return err
	}
	if h.Version == parityVersion {
		return sameParityVolume(file, name, h, want)
	}
	have := make([]byte, HeaderSize)
	if err := readFull(file, have, 0); err != nil {
		return &DamageError{File: name, Reason: "its header cannot be read: " + err.Error(), Err: err}
	}
	if !bytes.Equal(have, want) {
		return &DamageError{File: name, Reason: "its header is not the one it had when the medium was looked through"}
	}
	return nil
}

// Close closes all files; readers that are under way finish first.
func (p *Payload) Close() error {
	if p.mender != nil {
		return p.mender.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, v := range p.open {
		v.retired = true
		if v.readers == 0 {
			errs = append(errs, v.file.Close())
		}
	}
	p.open = nil
	return errors.Join(errs...)
}
