package deflate

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

// hashing is how an encoder of the zlib family finds earlier strings.
type hashing uint8

const (
	hashShift    hashing = iota // three bytes, shifted and combined: zlib as released
	hashMultiply                // four bytes × 66521: Chromium
	hashCRC                     // CRC32C of three bytes, or four below level 6
)

// effort is a row of zlib's table of levels.
type effort struct {
	good, lazy, nice, chain int
	slow                    bool // look at the next byte before a match is taken
}

var efforts = [10]effort{
	1: {4, 4, 8, 4, false},
	2: {4, 5, 16, 8, false},
	3: {4, 6, 32, 32, false},
	4: {4, 4, 16, 16, true},
	5: {8, 16, 32, 32, true},
	6: {8, 16, 128, 128, true},
	7: {8, 32, 128, 256, true},
	8: {32, 128, 258, 1024, true},
	9: {32, 258, 258, 4096, true},
}

const (
	maxDist = window - (maxMatch + minMatch + 1) // zlib looks no further back
	tooFar  = 4096                               // a match of 3 from further away is not worth its bits
	ahead   = maxMatch + minMatch + 1            // how much zlib wants to see before it decides

	matchBuffer = 8 * window
)

// matcher says which token zlib writes next, given the tokens so far, whether
// or not those were what it had said.
//
//	predict ▸ (compare, correct) ▸ accept ▸ predict …
//
// It follows zlib's hash table with all that depends on it: chains hold strings
// whose hashes merely collide, are followed for a limited number of steps, and
// in the fast levels lack what a long match passed over.
type matcher struct {
	effort
	hash     hashing
	hashBits uint
	shift    uint
	crc      *[4][256]uint32
	wide     bool // hashCRC: all four bytes
	whole    bool // all strings are entered, whatever the tokens are
	linked   bool // chains are so long that links help

	src   io.ReaderAt
	size  int64 // of all plain bytes
	start int64 // offset of buf[0]
	buf   []byte
	n     int // bytes in buf
	err   error

	medium medium

	pos      int           // the next token begins here
	inserted int           // strings from here on are not in the table
	head     []uint32      // the last string with a hash, as at says
	prev     *[ring]uint16 // how far back the string before is with the same hash; 0: none
	links    *links

	known            bool // the match at pos is length and from
	length, from     int
	nextLen, nextFro int // the match at pos+1, when predict looked
	looked           bool
}

// family are the parameters of an encoder of the zlib family.
type family struct {
	hash   hashing
	level  int
	memory int // zlib's memLevel
	rule   rule
	medium bool
	chunk  int64 // medium: how much is handed to the encoder at once
	eager  bool  // medium: as it was before 2020
}

// newMatcher makes a matcher, which needs set before begin.
func newMatcher() *matcher {
	return &matcher{
		head: make([]uint32, 1<<16),
		prev: new([ring]uint16),
		buf:  make([]byte, matchBuffer+512),
	}
}

// set makes m follow an encoder.
func (m *matcher) set(f family) {
	m.effort, m.hash = efforts[f.level], f.hash
	m.hashBits = uint(f.memory + 7)
	m.shift = (m.hashBits + minMatch - 1) / minMatch
	if f.hash == hashMultiply {
		m.hashBits = max(m.hashBits, 15)
	}
	if f.hash == hashCRC {
		m.crc, m.wide = crcTables(), f.level < 6
	}
	m.head = m.head[:1<<m.hashBits]
	m.medium = medium{on: f.medium, chunk: f.chunk, eager: f.eager}
	m.whole = m.slow && !f.medium
	if m.linked = m.whole && m.chain >= 128; m.linked && m.links == nil {
		m.links = new(links)
	}
}

var crcTables = sync.OnceValue(func() *[4][256]uint32 {
	var t [4][256]uint32
	for i := range 256 {
		c := uint32(i)
		for range 8 {
			c = c>>1 ^ 0x82f63b78&-(c&1)
		}
		t[0][i] = c
	}
	for i := range 256 {
		for k := 1; k < 4; k++ {
			t[k][i] = t[k-1][i]>>8 ^ t[0][t[k-1][i]&0xff]
		}
	}
	return &t
})

// begin makes m stand at offset at of src, having seen up to 32 KiB before it.
func (m *matcher) begin(src io.ReaderAt, size, at int64) {
	clear(m.head)
	m.src, m.size, m.err = src, size, nil
	m.start = max(0, at-window)
	m.n = 0
	m.read()
	m.pos = int(at - m.start)
	m.inserted = 0
	if m.linked {
		m.links.clear()
	}
	if !m.whole {
		m.insertTo(m.pos)
	}
	m.known, m.looked = false, false
	m.medium = medium{on: m.medium.on, chunk: m.medium.chunk, eager: m.medium.eager, end: m.boundary(at), top: m.pos - 1}
}

// offset is where the next token begins.
func (m *matcher) offset() int64 { return m.start + int64(m.pos) }

// read fills buf. What lies behind the end of all is zero, as zlib has it at
// first.
func (m *matcher) read() {
	want := min(int64(matchBuffer), m.size-m.start)
	if got := int64(m.n); m.err == nil && got < want {
		k, err := m.src.ReadAt(m.buf[m.n:want], m.start+got)
		m.n += k
		if int64(m.n) < want {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			m.err = fmt.Errorf("read plain bytes: %w", err)
		}
	}
	clear(m.buf[m.n:min(m.n+512, len(m.buf))])
}

// see makes n bytes from pos on stand in buf, or all there are.
func (m *matcher) see(n int) {
	if m.n-m.pos < n && m.start+int64(m.n) < m.size {
		m.slide()
	}
}

// slide forgets what lies more than a window behind.
func (m *matcher) slide() {
	drop := (m.pos - window) &^ (ring - 1) // prev goes by position, and stays as it is
	if drop <= 0 {
		return
	}
	copy(m.buf, m.buf[drop:m.n])
	m.start += int64(drop)
	m.n -= drop
	m.pos -= drop
	m.inserted -= drop
	slide(m.head, uint32(drop))
	if m.linked {
		slide(m.links.short.head[:], uint32(drop))
		slide(m.links.long.head[:], uint32(drop))
	}
	m.nextFro -= drop
	m.from -= drop
	m.medium.top -= drop
	m.medium.next.pos -= drop
	m.medium.next.from -= drop
	m.medium.next.org -= drop
	m.read()
}

// left is how many plain bytes there are from pos on.
func (m *matcher) left() int64 { return m.size - m.offset() }

// insertTo enters the strings before end into the table, as far as three bytes
// are there.
func (m *matcher) insertTo(end int) {
	end = min(end, m.n-minMatch+1)
	i := m.inserted
	if i >= end {
		return
	}
	head, prev := m.head, m.prev
	switch m.hash {
	case hashShift:
		s := m.shift & 15
		b := m.buf[i : end+2]
		for k := 0; k+2 < len(b); k++ {
			h := int(uint32(b[k])<<(2*s)^uint32(b[k+1])<<s^uint32(b[k+2])) & (len(head) - 1)
			prev[uint16(i+k)] = enter(&head[h], i+k)
		}
	case hashMultiply:
		b := m.buf[i : end+3]
		for k := 0; k+3 < len(b); k++ {
			h := int((binary.LittleEndian.Uint32(b[k:])*66521+66521)>>16) & (len(head) - 1)
			prev[uint16(i+k)] = enter(&head[h], i+k)
		}
	case hashCRC:
		for ; i < end; i++ {
			prev[uint16(i)] = enter(&head[m.sum(i)], i)
		}
	}
	m.inserted = end
}

// sum is the hash of the string at p, made of CRC32C.
func (m *matcher) sum(p int) int {
	b := m.buf[p : p+4 : p+4]
	h := m.crc[3][b[0]] ^ m.crc[2][b[1]] ^ m.crc[1][b[2]]
	if m.wide {
		h ^= m.crc[0][b[3]]
	}
	return int(h) & (len(m.head) - 1)
}

// at is how the string at p stands in head, where 0 is none. None is further
// away than a match may be.
func at(p int) uint32 { return uint32(p + window + 1) }

// enter makes p the last string with a hash, and returns how far back the one
// before is, 0 if that is further than a match may be.
func enter(head *uint32, p int) uint16 {
	d := at(p) - *head
	*head = at(p)
	if d > window {
		d = 0
	}
	return uint16(d)
}

// predict returns the token that zlib writes here. There is at least one byte
// left.
func (m *matcher) predict() token {
	if m.medium.on {
		return m.predictMedium()
	}
	m.see(ahead + 2)
	p := m.pos
	if !m.slow {
		m.length, m.from = m.longest(p)
		if m.length >= minMatch {
			return match(m.length, p-m.from)
		}
		return token(m.buf[p])
	}
	if !m.known {
		m.length, m.from = m.longestLazy(p, minMatch-1)
	}
	m.looked = true
	m.nextLen = minMatch - 1
	if m.length < m.lazy {
		m.nextLen, m.nextFro = m.longestLazy(p+1, m.length)
	}
	if m.length >= minMatch && m.nextLen <= m.length {
		return match(m.length, p-m.from)
	}
	return token(m.buf[p])
}

// accept moves over t, which is no longer than what is left.
func (m *matcher) accept(t token) {
	if m.medium.on {
		m.acceptMedium(t)
		return
	}
	n := t.length()
	if n == 0 {
		m.known = m.looked && (m.length < minMatch || m.nextLen > m.length)
		m.length, m.from = m.nextLen, m.nextFro
		m.looked = false
		m.pos++
		return
	}
	m.known, m.looked = false, false
	if !m.slow {
		if n <= m.lazy && m.left()-int64(n) >= minMatch {
			m.insertTo(m.pos + n)
		} else {
			m.insertTo(m.pos + 1)
			m.inserted = m.pos + n
		}
	}
	m.pos += n
}

// over moves over n bytes whose tokens are not known.
func (m *matcher) over(n int64) {
	for n > 0 && m.err == nil {
		m.see(ahead + 2)
		k := min(n, int64(m.n-m.pos))
		if k == 0 {
			m.err = io.ErrUnexpectedEOF
			return
		}
		m.pos += int(k)
		if !m.whole {
			m.insertTo(m.pos)
			m.inserted = max(m.inserted, m.pos)
		}
		n -= k
	}
	m.known, m.looked = false, false
	m.medium.next.length, m.medium.queued, m.medium.lost = 0, false, true
	m.medium.top = max(m.medium.top, m.pos-1)
}

// longest looks for a match at p, which it enters into the table, for the fast
// levels. When there is none the length it returns is less than one has.
func (m *matcher) longest(p int) (length, from int) {
	m.insertTo(p + 1)
	if m.inserted <= p {
		return minMatch - 1, 0
	}
	back := int(m.prev[uint16(p)])
	if back == 0 || back > maxDist || back == p {
		return minMatch - 1, 0
	}
	return m.chase(p, p-back, minMatch-1)
}

// chase follows the chain from cand on.
func (m *matcher) chase(p, cand, best int) (length, from int) {
	left := m.n - p
	limit := max(0, p-maxDist)
	chain := m.chain
	if best >= m.good {
		chain >>= 2
	}
	nice := min(m.nice, left)
	most := min(maxMatch, left)
	buf, prev := m.buf, m.prev
	from = -1
	ends := buf[best:] // what would be the next byte of a match
	end, end1 := ends[p], buf[p+best-1]
	for {
		if ends[cand] == end && buf[cand+best-1] == end1 {
			if n := common(buf[p:], buf[cand:], most); n > best {
				from, best = cand, n
				if n >= nice {
					break
				}
				ends = buf[best:]
				end, end1 = ends[p], buf[p+best-1]
			}
		}
		back := int(prev[uint16(cand)])
		if cand -= back; cand <= limit || back == 0 {
			break
		}
		if chain--; chain == 0 {
			break
		}
	}
	return min(best, left), from
}

// common is how many bytes a and b have in common, at most n.
func common(a, b []byte, n int) int {
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)>>3
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}
