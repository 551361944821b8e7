package deflate

import "math/bits"

// What RFC 1951 fixes.
const (
	minMatch = 3
	maxMatch = 258
	window   = 32 << 10

	endOfBlock  = 256
	numLitLen   = 286 // symbols that may occur
	numDist     = 30
	maxCodeBits = 15

	stored  = 0 // block types
	fixed   = 1
	dynamic = 2
)

// token is a literal, its byte, or a match: length<<16 | distance.
type token uint32

func match(length, distance int) token { return token(length)<<16 | token(distance) }

func (t token) length() int   { return int(t >> 16) } // 0 for a literal
func (t token) distance() int { return int(t & 0xffff) }

// span is how many plain bytes t stands for.
func (t token) span() int { return max(1, int(t>>16)) }

var (
	lengthBase, lengthExtra, lengthCode = lengths() // less minMatch; the last by length less minMatch
	distBase, distExtra, distCode       = distances()

	fixedLit, fixedDist = fixedCodes()

	// headerOrder is in which order the lengths of code length codes are sent.
	headerOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

// lengths returns the codes of lengths.
func lengths() (base [29]uint16, extra [29]uint8, byLength [256]uint8) {
	n := 0
	for c := range 28 {
		if c >= 8 {
			extra[c] = uint8(c/4 - 1)
		}
		base[c] = uint16(n)
		for range 1 << extra[c] {
			byLength[n] = uint8(c)
			n++
		}
	}
	base[28], byLength[255] = 255, 28 // 258 has a code of its own
	return base, extra, byLength
}

// distances returns the codes of distances; the last are by distance-1 when that
// is below 256, else by 256+(distance-1)>>7.
func distances() (base [numDist]uint16, extra [numDist]uint8, byDistance [512]uint8) {
	n := 0
	for c := range numDist {
		if c >= 4 {
			extra[c] = uint8(c/2 - 1)
		}
		base[c] = uint16(n)
		for range 1 << extra[c] {
			if n < 256 {
				byDistance[n] = uint8(c)
			} else {
				byDistance[256+n>>7] = uint8(c)
			}
			n++
		}
	}
	return base, extra, byDistance
}

// fixedCodes returns the codes of fixed blocks.
func fixedCodes() (lit, dist code) {
	var lens [288]uint8
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	lit.set(lens[:])
	var dists [32]uint8 // two of them never occur
	for i := range dists {
		dists[i] = 5
	}
	dist.set(dists[:])
	return lit, dist
}

func distSymbol(distance int) uint8 {
	d := distance - 1
	if d < 256 {
		return distCode[d]
	}
	return distCode[256+d>>7]
}

// code is a canonical Huffman code to write with.
type code struct {
	lens [288]uint8
	bits [288]uint16 // reversed, as they are sent
}

// set makes the code that lens says. Lengths that no code can have give bits of
// no meaning: who takes lengths from elsewhere checks them first.
func (c *code) set(lens []uint8) {
	c.lens = [288]uint8{}
	copy(c.lens[:], lens)
	var count, next [maxCodeBits + 2]uint16
	for _, l := range lens {
		if l > 0 {
			count[l]++
		}
	}
	sum := uint16(0)
	for l := 1; l <= maxCodeBits; l++ {
		sum = (sum + count[l-1]) << 1
		next[l] = sum
	}
	for i, l := range lens {
		if l > 0 {
			c.bits[i] = bits.Reverse16(next[l] << (16 - l))
			next[l]++
		}
	}
}
