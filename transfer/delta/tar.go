package delta

import (
	"bytes"
	"io"
	"strconv"
	"strings"
)

// What a region begins like.
type kind int

const (
	kindOther kind = iota
	kindGzip
	kindZip
	kindTar
	kindAr
)

const sniffSize = 512

func sniff(s *io.SectionReader) kind {
	var b [sniffSize]byte
	n, _ := s.ReadAt(b[:], 0) // what cannot be read is found out later
	return sniffBytes(b[:n])
}

func sniffBytes(b []byte) kind {
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b, 8}):
		return kindGzip
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		return kindZip
	case bytes.HasPrefix(b, []byte("!<arch>\n")):
		return kindAr
	case len(b) >= 262 && string(b[257:262]) == "ustar":
		return kindTar
	}
	return kindOther
}

// like reports whether a region is worth opening: a gzip, a zip, or a tar or ar
// that holds such.
func like(s *io.SectionReader, tower int) bool {
	switch k := sniff(s); k {
	case kindGzip, kindZip:
		return true
	case kindTar, kindAr:
		found := false
		if tower < maxTower {
			walkFiles(s, k, func(off, n int64) error {
				if found = like(io.NewSectionReader(s, off, n), tower+1); found {
					return io.EOF // enough
				}
				return nil
			})
		}
		return found
	}
	return false
}

// walkFiles calls fn with the place of each file of a tar or ar in order, up to
// where the archive does not parse.
func walkFiles(s *io.SectionReader, k kind, fn func(off, n int64) error) error {
	head, align, off := 512, int64(512), int64(0)
	if k == kindAr {
		head, align, off = 60, 2, 8
	}
	b := make([]byte, head)
	for off <= s.Size()-int64(head) {
		if _, err := s.ReadAt(b, off); err != nil {
			return err
		}
		off += int64(head)
		size, ok := int64(0), false
		if k == kindAr {
			size, ok = arFile(b)
		} else {
			size, ok = tarFile(b)
		}
		if !ok || size > s.Size()-off {
			return nil
		}
		if size > 0 {
			if err := fn(off, size); err != nil {
				return err
			}
		}
		off += (size + align - 1) / align * align
	}
	return nil
}

// tarFile returns how many bytes follow a tar header.
func tarFile(b []byte) (int64, bool) {
	if string(b[257:262]) != "ustar" {
		return 0, false
	}
	sum := 8 * int64(' ')
	for i, c := range b {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	if want, ok := digits(b[148:156], 8); !ok || want != sum {
		return 0, false
	}
	switch b[156] {
	case '1', '2', '3', '4', '5', '6': // links, devices, folders: no bytes whatever the size
		return 0, true
	}
	return digits(b[124:136], 8)
}

// arFile returns how many bytes follow an ar header.
func arFile(b []byte) (int64, bool) {
	if string(b[58:60]) != "`\n" {
		return 0, false
	}
	return digits(b[48:58], 10)
}

func digits(b []byte, base int) (int64, bool) {
	n, err := strconv.ParseUint(strings.Trim(string(b), " \x00"), base, 52)
	return int64(n), err == nil
}
