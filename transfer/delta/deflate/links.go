package deflate

import "encoding/binary"

// links are what makes the lazy levels fast. zlib walks the chain of strings with
// the same hash of three or four bytes, thousands of them where content repeats
// itself, most of which cannot be longer than the best match so far. A lazy level
// enters every string, so what it finds depends on the plain bytes alone:
//
//	the nearest of the longest, among the last strings of the chain, as many as
//	the level allows
//
// and any way to find that is as good. Once the best match has a few bytes, these
// links lead only to where its last bytes and the byte that would make it longer
// stand too. ord says how far down zlib's chain that is.
type links struct {
	ord   [ring]uint16 // which string of its chain this is, from anywhere, modulo 2^16
	short link
	long  link
}

// link leads from a string to the one before that begins with the same bytes, or
// has the same hash.
type link struct {
	head [1 << linkBits]uint32 // the last string with a hash, as at says
	back [ring]uint16
}

const (
	ring      = 2 * window // entries, by position modulo 2^16: a window, and what is entered ahead of it
	linkBits  = 15
	linkAhead = 8 << 10 // strings entered at once

	shortLink = 5 // bytes that strings share
	longLink  = 8
)

// enterAhead enters the strings up to p and some more.
func (m *matcher) enterAhead(p int) {
	end := min(p+linkAhead, m.n-8)
	if m.start+int64(m.n) == m.size {
		end = min(p+linkAhead, m.n-minMatch+1)
	}
	i := m.inserted
	if m.insertTo(end); !m.linked {
		return
	}
	l, prev := m.links, m.prev
	for ; i < end; i++ {
		x := binary.LittleEndian.Uint64(m.buf[i:])
		k := uint16(i)
		l.short.back[k] = enter(l.short.last(x<<(64-8*shortLink)), i)
		l.long.back[k] = enter(l.long.last(x), i)
		l.ord[k] = l.ord[k-prev[k]] + 1
	}
}

// last is where the last string that begins with x is kept.
func (l *link) last(x uint64) *uint32 {
	return &l.head[x*0x9e3779b97f4a7c15>>(64-linkBits)]
}

func (l *links) clear() {
	clear(l.short.head[:])
	clear(l.long.head[:])
}

// slide makes all positions less by drop.
func slide(head []uint32, drop uint32) {
	for i, p := range head {
		head[i] = max(p, drop) - drop
	}
}

// longestLazy is longest for the lazy levels.
func (m *matcher) longestLazy(p, best int) (length, from int) {
	if m.inserted <= p+maxMatch {
		m.enterAhead(p)
		if m.inserted <= p {
			return minMatch - 1, 0
		}
	}
	back := int(m.prev[uint16(p)])
	if back == 0 || back > maxDist || back == p || best >= min(maxMatch, m.n-p) {
		return minMatch - 1, 0
	}
	if m.linked {
		length, from = m.leap(p, back, best)
	} else {
		length, from = m.chase(p, p-back, best)
	}
	if length == minMatch && from >= 0 && p-from > tooFar {
		length = minMatch - 1
	}
	return length, from
}

// leap finds what chase finds, by links.
func (m *matcher) leap(p, back, best int) (length, from int) {
	first, atFirst := p-back, best
	limit := max(0, p-maxDist)
	if back == maxDist {
		limit-- // zlib lets the first string of a chain be so far away, and no other
	}
	chain := m.chain
	if best >= m.good {
		chain >>= 2
	}
	left := m.n - p
	nice, most := min(m.nice, left), min(maxMatch, left)
	buf, prev, l := m.buf, m.prev, m.links
	from = -1
	cand := first
	for n := chain; best < shortLink-1; n-- { // so short that there is no link
		if buf[cand+best] == buf[p+best] && buf[cand+best-1] == buf[p+best-1] {
			if k := common(buf[p:], buf[cand:], most); k > best {
				if from, best = cand, k; k >= nice {
					return best, from
				}
				if best >= shortLink-1 {
					break
				}
			}
		}
		back := int(prev[uint16(cand)])
		if cand -= back; cand <= limit || back == 0 || n == 1 {
			return best, from
		}
	}
	if from < 0 {
		cand = p // none was looked at
	}
	for steps := 0; best < most; {
		t, width := &l.short, shortLink
		if best >= longLink-1 {
			t, width = &l.long, longLink
		}
		spare := uint(64 - 8*width)
		// Any of the bytes will do: those that were there last are the rarest.
		off, far := 0, 0
		for i := best + 1 - width; ; i = max(0, i-longLink) {
			back := int(t.back[uint16(p+i)])
			if back == 0 {
				return best, from
			}
			if back > far {
				off, far = i, back
			}
			if i == 0 {
				break
			}
		}
		begin := binary.LittleEndian.Uint64(buf[p:]) << spare
		q := p + off
		for {
			back := int(t.back[uint16(q)])
			q -= back
			c := q - off
			if back == 0 || c <= limit {
				return best, from
			}
			if steps++; steps > chain {
				return m.chase(p, first, atFirst)
			}
			if c >= cand || buf[c+best] != buf[p+best] || binary.LittleEndian.Uint64(buf[c:])<<spare != begin {
				continue
			}
			if k := common(buf[p:], buf[c:], most); k > best {
				if int(l.ord[uint16(p)]-l.ord[uint16(c)]) > chain {
					return best, from
				}
				if from, best, cand = c, k, c; k >= nice {
					return best, from
				}
				break
			}
		}
	}
	return best, from
}
