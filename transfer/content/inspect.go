package content

import (
	"bufio"
	"io"

	"davit/transfer/delta"
)

// View is what the difference of two trees says of itself, for people.
type View struct {
	Head     int64       `json:"head"`     // bytes
	Listing  int64       `json:"listing"`  // bytes of the short listing
	Partners int         `json:"partners"` // files of the base that the delta builds on
	Loose    int         `json:"loose"`    // chunks that must come from elsewhere
	Delta    *delta.View `json:"delta"`
}

// Inspect reads the head of the difference of two trees, and that of its delta.
func Inspect(r io.ReaderAt, size int64) (*View, error) {
	h, start, err := readHead(bufio.NewReaderSize(io.NewSectionReader(r, 0, min(size, maxHead)), 64<<10))
	if err != nil {
		return nil, err
	}
	v := &View{Head: start, Listing: h.listing, Partners: len(h.partners), Loose: len(h.loose)}
	v.Delta, err = delta.Inspect(io.NewSectionReader(r, start, size-start), size-start)
	return v, err
}
