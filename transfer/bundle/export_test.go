package bundle

// What the tests of the format need to see.

const (
	FooterSize  = footerSize
	MagicPrefix = magicPrefix
)

func (h Header) Encode() ([]byte, error)       { return h.encode() }
func ParseHeader(block []byte) (Header, error) { return parseHeader(block) }

func EncodeTrailer(header []byte, length int64, sums []uint64) []byte {
	return encodeTrailer(header, length, sums)
}

// ReencodeTrailer parses a trailer that belongs to a header block and writes
// it again.
func ReencodeTrailer(header, trailer []byte) ([]byte, error) {
	f, sums, err := parseTrailer(trailer)
	if err != nil {
		return nil, err
	}
	if err := f.match(Header{Length: f.length}, header); err != nil {
		return nil, err
	}
	return encodeTrailer(header, f.length, sums), nil
}
