package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
)

// openDepth is as deep as davit looks.
const openDepth = 3

// opening is what a file holds when it is opened, for tools that cannot look
// into archives: the yardstick for a delta, which has to bring the archives'
// compressed form back as well.
//
//	gzip  what it decompresses to
//	tar   as it is, with its headers, its members opened where they lie
//	zip   of each member its name, a newline and its content, opened; its
//	      directory, times and modes are left out
//	else  the bytes
type opening struct {
	content  []byte
	Size     int64 // of the content
	Streams  int
	Deflated int64 // bytes of deflate streams, with what gzip puts around them
}

// open opens a file into another.
func (o *opening) open(name, to string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	o.add(data, openDepth)
	o.Size = int64(len(o.content))
	return os.WriteFile(to, o.content, 0o644)
}

func (o *opening) add(data []byte, depth int) {
	if depth > 0 {
		switch {
		case bytes.HasPrefix(data, []byte{0x1f, 0x8b, 8}):
			if r, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
				if plain, err := io.ReadAll(r); err == nil {
					o.Streams++
					o.Deflated += int64(len(data))
					o.add(plain, depth-1)
					return
				}
			}
		case bytes.HasPrefix(data, []byte("PK\x03\x04")):
			if z, err := zip.NewReader(bytes.NewReader(data), int64(len(data))); err == nil && o.addZip(z, depth) == nil {
				return
			}
		case len(data) > 262 && string(data[257:262]) == "ustar":
			o.addTar(data, depth)
			return
		}
	}
	o.content = append(o.content, data...)
}

// addZip takes back what it did when it fails.
func (o *opening) addZip(z *zip.Reader, depth int) error {
	before := *o
	for _, m := range z.File {
		r, err := m.Open()
		if err == nil {
			var plain []byte
			plain, err = io.ReadAll(r)
			err = errors.Join(err, r.Close())
			o.content = append(append(o.content, m.Name...), '\n')
			if m.Method == zip.Deflate {
				o.Streams++
				o.Deflated += int64(m.CompressedSize64)
			}
			o.add(plain, depth-1)
		}
		if err != nil {
			*o = before
			return err
		}
	}
	return nil
}

func (o *opening) addTar(data []byte, depth int) {
	at := bytes.NewReader(data)
	t := tar.NewReader(at)
	done := int64(0)
	for {
		h, err := t.Next()
		if err != nil {
			break // what is left is taken as it is
		}
		pos := int64(len(data)) - int64(at.Len())
		if pos < done || h.Typeflag != tar.TypeReg || pos+h.Size > int64(len(data)) {
			continue
		}
		if member := data[pos : pos+h.Size]; bytes.HasPrefix(member, []byte{0x1f, 0x8b, 8}) || bytes.HasPrefix(member, []byte("PK\x03\x04")) {
			o.content = append(o.content, data[done:pos]...)
			o.add(member, depth-1)
			done = pos + h.Size
		}
	}
	o.content = append(o.content, data[done:]...)
}

func hashFile(name string) (string, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
