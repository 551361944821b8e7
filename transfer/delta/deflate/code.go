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
	lengthBase  [29]uint16 // less minMatch
	lengthExtra [29]uint8
	lengthCode  [256]uint8 // by length less minMatch
	distBase    [numDist]uint16
	distExtra   [numDist]uint8
	distCode    [512]uint8 // by distance-1 when below 256, else by 256+(distance-1)>>7

	fixedLit  code
	fixedDist code

	// headerOrder is in which order the lengths of code length codes are sent.
	headerOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

func init() {
	n := 0
	for c := range 28 {
		if c >= 8 {
			lengthExtra[c] = uint8(c/4 - 1)
		}
		lengthBase[c] = uint16(n)
		for range 1 << lengthExtra[c] {
			lengthCode[n] = uint8(c)
			n++
		}
	}
	lengthBase[28], lengthCode[255] = 255, 28 // 258 has a code of its own
	n = 0
	for c := range numDist {
		if c >= 4 {
			distExtra[c] = uint8(c/2 - 1)
		}
		distBase[c] = uint16(n)
		for range 1 << distExtra[c] {
			if n < 256 {
				distCode[n] = uint8(c)
			} else {
				distCode[256+n>>7] = uint8(c)
			}
			n++
		}
	}
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
	fixedLit.set(lens[:])
	var dists [32]uint8 // two of them never occur
	for i := range dists {
		dists[i] = 5
	}
	fixedDist.set(dists[:])
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
