package deflate

import "fmt"

// Encoders returns the numbers that this build knows, in order: what a site
// says of itself to those who send to it.
func Encoders() []Encoder {
	return []Encoder{
		Zlib, ZlibChromium, ZlibCRC32C, Gzip, ZlibMedium, Go126, Klauspost, Pgzip, Klauspost116,
	}
}

// String names e for people.
func (e Encoder) String() string {
	switch e {
	case Zlib:
		return "zlib"
	case ZlibChromium:
		return "zlib-chromium"
	case ZlibCRC32C:
		return "zlib-crc32c"
	case Gzip:
		return "gzip"
	case ZlibMedium:
		return "zlib-medium"
	case Go126:
		return "go-1.26"
	case Klauspost:
		return "klauspost-1.18.6"
	case Klauspost116:
		return "klauspost-1.16"
	case Pgzip:
		return "pgzip"
	}
	return fmt.Sprintf("encoder-%d", uint16(e))
}

// family returns the parameters of an encoder of the zlib family: level, then
// memLevel.
func (e Encoder) family(params []byte) (family, bool) {
	if e == ZlibMedium {
		if len(params) != 2 || params[0] < 4 || params[0] > 6 || params[1] > 3 {
			return family{}, false
		}
		return family{level: int(params[0]), memory: 8, hash: hashCRC, medium: true,
			chunk: int64(params[1]&1) * 81920, eager: params[1]&2 != 0}, true
	}
	if len(params) != 2 || params[0] < 1 || params[0] > 9 || params[1] != 8 && params[1] != 9 {
		return family{}, false
	}
	f := family{level: int(params[0]), memory: int(params[1])}
	switch e {
	case Zlib:
		f.hash = hashShift
	case ZlibChromium:
		f.hash = hashMultiply
	case ZlibCRC32C:
		f.hash = hashCRC
	case Gzip:
		f.hash, f.rule = hashShift, ruleGzip
		return f, f.memory == 8
	default:
		return family{}, false
	}
	return f, true
}
