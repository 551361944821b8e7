package delta

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// pages gives random access to a source of any size through a bounded number
// of pages in memory.
type pages struct {
	r    io.ReaderAt
	size int64
	slot []int32 // slot of each page of the source, counted from 1; 0: not here
	held []held
	hand int // of the clock that chooses which page gives way
	max  int
}

type held struct {
	data []byte
	page int64
	used bool
}

const pageSize = 64 << 10

func newPages(r io.ReaderAt, size int64, memory int) *pages {
	return &pages{r: r, size: size, slot: make([]int32, (size+pageSize-1)/pageSize), max: memory / pageSize}
}

// at returns the bytes from off to the end of their page, valid until the next
// call. off stands within the source.
func (p *pages) at(off int64) ([]byte, error) {
	no := off / pageSize
	i := p.slot[no] - 1
	if i < 0 {
		var err error
		if i, err = p.load(no); err != nil {
			return nil, err
		}
	}
	h := &p.held[i]
	h.used = true
	return h.data[off-no*pageSize:], nil
}

func (p *pages) load(no int64) (int32, error) {
	var i int
	if len(p.held) < p.max {
		i = len(p.held)
		p.held = append(p.held, held{data: make([]byte, pageSize)})
	} else {
		for p.held[p.hand].used {
			p.held[p.hand].used = false
			p.hand = (p.hand + 1) % len(p.held)
		}
		i = p.hand
		p.hand = (p.hand + 1) % len(p.held)
		if old := p.held[i].page; old >= 0 {
			p.slot[old] = 0
		}
	}
	h := &p.held[i]
	h.page = -1
	h.data = h.data[:min(pageSize, p.size-no*pageSize)]
	if n, err := p.r.ReadAt(h.data, no*pageSize); n < len(h.data) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("read source: %w", err)
	}
	h.page = no
	p.slot[no] = int32(i + 1)
	return int32(i), nil
}

// same counts the bytes of b that stand in the source from off on.
func (p *pages) same(off int64, b []byte) (int, error) {
	n := 0
	for n < len(b) && off < p.size {
		page, err := p.at(off)
		if err != nil {
			return 0, err
		}
		k := common(page, b[n:])
		n, off = n+k, off+int64(k)
		if k < len(page) {
			break
		}
	}
	return n, nil
}

// sameBefore counts the bytes at the end of b that stand in the source before off.
func (p *pages) sameBefore(off int64, b []byte) (int, error) {
	n := 0
	for n < len(b) && off > 0 {
		start := (off - 1) / pageSize * pageSize
		page, err := p.at(start)
		if err != nil {
			return 0, err
		}
		page = page[:off-start]
		k := 0
		for k < len(page) && k < len(b)-n && page[len(page)-1-k] == b[len(b)-n-1-k] {
			k++
		}
		n, off = n+k, off-int64(k)
		if k < len(page) {
			break
		}
	}
	return n, nil
}

// common returns how long a and b are the same.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// read fills b from off on.
func (p *pages) read(off int64, b []byte) error {
	for len(b) > 0 {
		page, err := p.at(off)
		if err != nil {
			return err
		}
		n := copy(b, page)
		b, off = b[n:], off+int64(n)
	}
	return nil
}
