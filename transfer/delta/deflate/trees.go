package deflate

// trees chooses how to send a block as zlib does: its Huffman codes, the header
// that describes them, and whether a stored or a fixed block is shorter. zlib
// builds codes with a heap whose ties go to the shallower tree, and repairs codes
// that become too long in a way of its own; all of it is followed here.
type trees struct {
	lit, dist, header tree

	litFreq  [numLitLen]int32
	distFreq [numDist]int32

	runs  []run // the code lengths, as the header sends them
	order int   // how many lengths of code length codes are sent

	dynamicBits int64 // of header and tokens, without the three bits in front
	fixedBits   int64
}

// run is a symbol of the header, with the extra bits that follow it.
type run struct{ symbol, extra, bits uint8 }

// tree is one Huffman code of a block.
type tree struct {
	freq []int32
	lens [numLitLen]uint8
	top  int // the highest symbol used

	weight [2*numLitLen + 1]int32
	parent [2*numLitLen + 1]int16
	depth  [2*numLitLen + 1]uint8
	length [2*numLitLen + 1]uint8
	heap   [2*numLitLen + 1]int16
	size   int
}

// less orders the heap: by weight, and by depth where weights are equal.
func (t *tree) less(a, b int16) bool {
	return t.weight[a] < t.weight[b] || t.weight[a] == t.weight[b] && t.depth[a] <= t.depth[b]
}

func (t *tree) down(k int) {
	v := t.heap[k]
	for j := k << 1; j <= t.size; j <<= 1 {
		if j < t.size && t.less(t.heap[j+1], t.heap[j]) {
			j++
		}
		if t.less(v, t.heap[j]) {
			break
		}
		t.heap[k] = t.heap[j]
		k = j
	}
	t.heap[k] = v
}

// build makes lens and top from freq. The code has at least two symbols, and no
// length beyond limit.
func (t *tree) build(freq []int32, limit int) {
	t.freq = freq
	elems := len(freq)
	t.size, t.top = 0, -1
	t.lens = [numLitLen]uint8{}
	for n, f := range freq {
		t.weight[n] = f
		if f > 0 {
			t.size++
			t.heap[t.size] = int16(n)
			t.top = n
			t.depth[n] = 0
		}
	}
	for t.size < 2 {
		node := 0
		if t.top < 2 {
			t.top++
			node = t.top
		}
		t.size++
		t.heap[t.size] = int16(node)
		t.weight[node] = 1
		t.depth[node] = 0
	}
	for n := t.size / 2; n >= 1; n-- {
		t.down(n)
	}
	// Join the two lightest until one is left. From the end of heap on stand
	// the nodes by falling weight.
	sorted := 2*elems + 1
	node := int16(elems)
	for {
		n := t.heap[1]
		t.heap[1] = t.heap[t.size]
		t.size--
		t.down(1)
		m := t.heap[1]
		sorted--
		t.heap[sorted] = n
		sorted--
		t.heap[sorted] = m
		t.weight[node] = t.weight[n] + t.weight[m]
		t.depth[node] = max(t.depth[n], t.depth[m]) + 1
		t.parent[n], t.parent[m] = node, node
		t.heap[1] = node
		node++
		t.down(1)
		if t.size < 2 {
			break
		}
	}
	sorted--
	t.heap[sorted] = t.heap[1]

	var count [maxCodeBits + 1]int
	over := 0
	t.length[t.heap[sorted]] = 0
	for _, n := range t.heap[sorted+1 : 2*elems+1] {
		l := int(t.length[t.parent[n]]) + 1
		if l > limit {
			l = limit
			over++
		}
		t.length[n] = uint8(l)
		if int(n) < elems && int(n) <= t.top {
			count[l]++
			t.lens[n] = uint8(l)
		}
	}
	if over == 0 {
		return
	}
	for ; over > 0; over -= 2 {
		l := limit - 1
		for count[l] == 0 {
			l--
		}
		count[l]--
		count[l+1] += 2
		count[limit]--
	}
	// The lightest leaves get the longest codes again.
	h := 2*elems + 1
	for l := limit; l > 0; l-- {
		for n := count[l]; n > 0; {
			h--
			if m := int(t.heap[h]); m < elems && m <= t.top {
				t.lens[m] = uint8(l)
				n--
			}
		}
	}
}

// plan counts tokens and decides everything about a dynamic block of them.
func (t *trees) plan(tokens []token) {
	t.litFreq, t.distFreq = [numLitLen]int32{}, [numDist]int32{}
	for _, k := range tokens {
		if n := k.length(); n > 0 {
			t.litFreq[257+int(lengthCode[n-minMatch])]++
			t.distFreq[distSymbol(k.distance())]++
		} else {
			t.litFreq[k&0xff]++
		}
	}
	t.litFreq[endOfBlock] = 1
	t.lit.build(t.litFreq[:], maxCodeBits)
	t.dist.build(t.distFreq[:], maxCodeBits)

	t.runs = t.runs[:0]
	t.describe(t.lit.lens[:t.lit.top+1])
	t.describe(t.dist.lens[:t.dist.top+1])
	var freq [19]int32
	for _, r := range t.runs {
		freq[r.symbol]++
	}
	t.header.build(freq[:], 7)
	t.order = 19
	for t.order > 4 && t.header.lens[headerOrder[t.order-1]] == 0 {
		t.order--
	}

	t.dynamicBits = 14 + 3*int64(t.order)
	for _, r := range t.runs {
		t.dynamicBits += int64(t.header.lens[r.symbol] + r.bits)
	}
	t.fixedBits = 0
	for s, f := range t.litFreq {
		extra := 0
		if s > endOfBlock {
			extra = int(lengthExtra[s-257])
		}
		t.dynamicBits += int64(f) * int64(int(t.lit.lens[s])+extra)
		t.fixedBits += int64(f) * int64(int(fixedLit.lens[s])+extra)
	}
	for s, f := range t.distFreq {
		t.dynamicBits += int64(f) * int64(t.dist.lens[s]+distExtra[s])
		t.fixedBits += int64(f) * int64(5+distExtra[s])
	}
}

// describe appends the runs that send lens.
func (t *trees) describe(lens []uint8) {
	for i := 0; i < len(lens); {
		l := lens[i]
		n := 1
		for i+n < len(lens) && lens[i+n] == l {
			n++
		}
		i += n
		if l == 0 {
			for n > 0 {
				switch k := min(n, 138); {
				case k < 3:
					for range k {
						t.runs = append(t.runs, run{symbol: 0})
					}
					n -= k
				case k <= 10:
					t.runs = append(t.runs, run{17, uint8(k - 3), 3})
					n -= k
				default:
					t.runs = append(t.runs, run{18, uint8(k - 11), 7})
					n -= k
				}
			}
			continue
		}
		t.runs = append(t.runs, run{symbol: l})
		for n--; n > 0; {
			k := min(n, 6)
			if k < 3 {
				for range k {
					t.runs = append(t.runs, run{symbol: l})
				}
			} else {
				t.runs = append(t.runs, run{16, uint8(k - 3), 2})
			}
			n -= k
		}
	}
}

// choose returns the kind of block that zlib sends for plain bytes of this many.
func (t *trees) choose(plain int64) int {
	best, fixedBytes := (t.dynamicBits+3+7)>>3, (t.fixedBits+3+7)>>3
	best = min(best, fixedBytes)
	switch {
	case plain+4 <= best && plain <= 0xffff:
		return stored
	case fixedBytes == best:
		return fixed
	}
	return dynamic
}

// writeHeader writes the header of a dynamic block, without the three bits in
// front of it.
func (t *trees) writeHeader(w *bitWriter) {
	w.put(uint64(t.lit.top+1-257), 5)
	w.put(uint64(t.dist.top), 5)
	w.put(uint64(t.order-4), 4)
	for _, s := range headerOrder[:t.order] {
		w.put(uint64(t.header.lens[s]), 3)
	}
	var c code
	c.set(t.header.lens[:19])
	for _, r := range t.runs {
		w.put(uint64(c.bits[r.symbol])|uint64(r.extra)<<c.lens[r.symbol], uint(c.lens[r.symbol]+r.bits))
	}
}

// write writes tokens and the end of the block. It reports false if one of them
// has no code.
func (w *bitWriter) write(tokens []token, lit, dist *code) bool {
	whole := true
	for _, k := range tokens {
		n := k.length()
		if n == 0 {
			l := lit.lens[k&0xff]
			whole = whole && l > 0
			w.put(uint64(lit.bits[k&0xff]), uint(l))
			continue
		}
		c := lengthCode[n-minMatch]
		s := 257 + int(c)
		v, bits := uint64(lit.bits[s]), uint(lit.lens[s])
		whole = whole && bits > 0
		v |= uint64(n-minMatch-int(lengthBase[c])) << bits
		bits += uint(lengthExtra[c])
		d := distSymbol(k.distance())
		whole = whole && dist.lens[d] > 0
		v |= uint64(dist.bits[d]) << bits
		bits += uint(dist.lens[d])
		v |= uint64(k.distance()-1-int(distBase[d])) << bits
		bits += uint(distExtra[d])
		w.put(v, bits)
	}
	whole = whole && lit.lens[endOfBlock] > 0
	w.put(uint64(lit.bits[endOfBlock]), uint(lit.lens[endOfBlock]))
	return whole
}
