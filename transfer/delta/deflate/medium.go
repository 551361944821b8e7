package deflate

// medium follows Intel's strategy between fast and lazy: it looks for the match
// after the present one, and lets that begin sooner when the present one can
// give way to a literal.
type medium struct {
	on    bool
	chunk int64 // bytes handed to the encoder at once; 0: all
	eager bool  // as before 2020: look for the next match even close to where it had read

	next   found // what comes after the present match, if length > 0
	queue  token // the token that comes next, when queued
	queued bool
	end    int64 // to where the encoder had read
	top    int   // the last string entered
	lost   bool  // a token came that was not predicted
}

// found is a match, or a literal with length 1.
type found struct {
	length, from, pos int
	org               int // strings before it are in the table already
}

// boundary returns to where the encoder has read when it is about to look at
// offset at: it reads more only when it sees less than it wants to.
func (m *matcher) boundary(at int64) int64 {
	b := int64(2 * window)
	if at+ahead > b {
		b += (at + ahead - b + window - 1) / window * window
	}
	if c := m.medium.chunk; c > 0 {
		b = min(b, (at+ahead+c-1)/c*c)
	}
	return min(b, m.size)
}

// enter puts the string at p into the table, even if it is there, and returns
// the one before.
func (m *matcher) enter(p int) int {
	head := &m.head[m.sum(p)]
	old := int(*head) - int(at(0))
	m.prev[uint16(p)] = enter(head, p)
	m.medium.top = max(m.medium.top, p)
	return old
}

// look enters the string at p and finds a match for it.
func (m *matcher) look(p int) found {
	f := found{length: 1, pos: p, org: p}
	var cand int
	if m.medium.lost && p <= m.medium.top {
		if d := int(m.prev[uint16(p)]); d > 0 {
			cand = p - d
		}
	} else if cand = m.enter(p); cand == p {
		cand-- // so the encoder has it when it lost sight of a match
	}
	m.medium.lost = false
	if cand > 0 && cand < p && p-cand <= maxDist {
		if n, from := m.chase(p, cand, minMatch-1); n >= minMatch && from >= 0 {
			f.length, f.from = n, from
		}
	}
	return f
}

// round finds the present match and the next, and queues the token for the
// first, if there is one.
func (m *matcher) round() {
	d := &m.medium
	at := m.offset()
	if b := m.boundary(at); b != d.end || b-at < ahead {
		d.end = b
		d.next.length = 0
	}
	seen := d.end - at
	var now found
	if d.next.length > 0 {
		now, d.next.length = d.next, 0
	} else if seen >= minMatch {
		now = m.look(m.pos)
	} else {
		now = found{length: 1, pos: m.pos, org: m.pos}
	}
	m.enterAll(now, seen)
	if seen-int64(now.length) > ahead || d.eager && seen > ahead {
		d.next = m.look(now.pos + now.length)
		if d.next.length >= minMatch {
			m.yield(&now, &d.next)
			if d.next.length == minMatch && d.next.pos-d.next.from > 12000 {
				d.next.length = 1
			}
		}
	}
	switch {
	case now.length == 0:
		return
	case now.length < minMatch:
		d.queue = token(m.buf[now.pos])
	default:
		d.queue = match(now.length, now.pos-now.from)
	}
	d.queued = true
}

// enterAll enters the strings within f.
func (m *matcher) enterAll(f found, seen int64) {
	if seen <= int64(f.length+minMatch) || f.length < minMatch {
		return
	}
	if f.length > 16*m.lazy {
		m.enter(f.pos + f.length - 1)
		return
	}
	for p := max(f.pos+1, f.org); p < f.pos+f.length; p++ {
		m.enter(p)
	}
}

// yield lets next begin sooner if that leaves at most a literal of now.
func (m *matcher) yield(now, next *found) {
	if now.length <= 1 || next.from-now.length+1 < 0 ||
		m.buf[next.from-now.length+1] != m.buf[next.pos-now.length+1] || next.from+next.length >= now.pos {
		return
	}
	c, n := *now, *next
	for n.from > 0 && m.buf[n.from-1] == m.buf[n.pos-1] && c.length >= 1 && n.length < 256 {
		n.pos--
		n.from--
		n.length++
		c.length--
	}
	if n.pos < next.pos && c.length <= 1 && n.length != 2 {
		n.org++
		*now, *next = c, n
	}
}

// predictMedium is predict for this strategy.
func (m *matcher) predictMedium() token {
	m.see(4 * ahead)
	for !m.medium.queued && m.err == nil {
		m.round()
	}
	return m.medium.queue
}

// acceptMedium is accept for this strategy.
func (m *matcher) acceptMedium(t token) {
	d := &m.medium
	right := d.queued && t == d.queue
	d.queued = false
	n := t.span()
	if !right {
		d.next.length = 0
		d.lost = true
		for p := max(d.top+1, m.pos); p < m.pos+n && p+minMatch <= m.n; p++ {
			m.enter(p)
		}
	}
	m.pos += n
}
