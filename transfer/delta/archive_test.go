package delta_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"

	"davit/transfer/delta"
)

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func arOf(files ...file) []byte {
	b := []byte("!<arch>\n")
	for _, f := range files {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", f.name, 0, 0, 0, "100644", len(f.data))
		b = append(b, f.data...)
		if len(f.data)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

// rawZip makes a zip with headers that have sizes, stored members and what else
// h asks for.
func rawZip(t testing.TB, comment string, members ...zip.FileHeader) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, h := range members {
		data := prose(uint64(40+i), 4000)
		h.CRC32, h.UncompressedSize64 = crc32.ChecksumIEEE(data), uint64(len(data))
		if h.Method == zip.Deflate {
			z := gzipOf(t, data)
			data = z[10 : len(z)-8]
		}
		h.CompressedSize64 = uint64(len(data))
		fw, err := w.CreateRaw(&h)
		if err != nil {
			t.Fatal(err)
		}
		fw.Write(data)
	}
	w.SetComment(comment)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// overlapping is a zip whose second record names the first member again.
func overlapping(t testing.TB) []byte {
	z := zipOf(t, file{"a", prose(1, 3000)}, file{"b", prose(2, 3000)})
	i := bytes.LastIndex(z, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(z[i+42:], 0)
	return z
}

// archives are files of many shapes, and how many records they have for a base.
func archives(t testing.TB) map[string]struct {
	data    []byte
	records int
} {
	a, b := file{"dir/a.txt", prose(1, 5000)}, file{"dir/b.txt", prose(2, 3000)}
	plain := zipOf(t, a, b)
	jar := zipOf(t, file{"lib/inner.jar", zipOf(t, a, b)}, b)
	var named bytes.Buffer
	w := gzip.NewWriter(&named)
	w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
	w.Write(a.data)
	w.Close()
	gz := gzipOf(t, a.data)
	wrongSum := bytes.Clone(gz)
	wrongSum[len(gz)-6] ^= 1
	wrongCRC := bytes.Clone(plain)
	wrongCRC[bytes.Index(plain, []byte("PK\x01\x02"))+16] ^= 1
	big := prose(9, 3<<20)
	return map[string]struct {
		data    []byte
		records int
	}{
		"empty":              {nil, 0},
		"text":               {a.data, 0},
		"gzip":               {gz, 1},
		"gzip named":         {named.Bytes(), 1},
		"gzip twice":         {slices.Concat(gz, gz), 2},
		"gzip and junk":      {slices.Concat(gz, []byte("junk")), 1},
		"gzip cut":           {gz[:len(gz)-1], 0},
		"gzip header":        {gz[:10], 0},
		"gzip wrong sum":     {wrongSum, 0},
		"gzip of nothing":    {gzipOf(t, nil), 1},
		"gzip large":         {gzipOf(t, big), 1},
		"gzip in gzip":       {gzipOf(t, gz), 2},
		"gzip five times":    {gzipOf(t, gzipOf(t, gzipOf(t, gzipOf(t, gz)))), 3},
		"zip":                {plain, 2},
		"zip empty":          {zipOf(t), 0},
		"zip with folder":    {zipOf(t, file{"dir/", nil}, a, file{"dir/empty", nil}), 3},
		"zip in zip":         {jar, 4},
		"zip in tar in gzip": {gzipOf(t, tarOf(t, a, file{"x.jar", jar}, b)), 5},
		"gzip in tar":        {tarOf(t, a, file{"layer.tar.gz", gzipOf(t, tarOf(t, a, b))}), 1},
		"gzip in ar":         {arOf(file{"debian-binary", []byte("2.0\n")}, file{"control.tar.gz", gz}, file{"odd", []byte("x")}, file{"data.tar.gz", gz}), 2},
		"tar":                {tarOf(t, a, b), 0},
		"tar in gzip":        {gzipOf(t, tarOf(t, a, b)), 1},
		"zip cut":            {plain[:len(plain)-5], 0},
		"zip begun":          {plain[:len(plain)/2], 0},
		"zip junk before":    {append([]byte("#!/bin/sh\nexit\n"), plain...), 2},
		"zip junk after":     {append(bytes.Clone(plain), "junk"...), 2},
		"zip twice":          {slices.Concat(plain, plain), 2},
		"zip with comment":   {rawZip(t, "a comment", zip.FileHeader{Name: "x", Method: zip.Deflate}), 1},
		"zip with sizes":     {rawZip(t, "", zip.FileHeader{Name: "x/a", Method: zip.Deflate}, zip.FileHeader{Name: "x/b", Method: zip.Store, Extra: []byte{1, 0, 2, 0, 9, 9}, Comment: "c"}), 2},
		"zip other method":   {rawZip(t, "", zip.FileHeader{Name: "x", Method: 93}, zip.FileHeader{Name: "y", Method: zip.Deflate}), 2},
		"zip encrypted":      {rawZip(t, "", zip.FileHeader{Name: "x", Method: zip.Deflate, Flags: 1}, zip.FileHeader{Name: "y", Method: zip.Store}), 2},
		"zip wrong crc":      {wrongCRC, 2},
		"zip overlapping":    {overlapping(t), 0},
		"zip large":          {zipOf(t, file{"dir/gap", prose(1, 3000)}, file{"dir/big", big}, a), 3},
		"zip 65535":          {many(t), 0},
	}
}

// many is a zip64: it has as many members as a plain zip cannot say.
func many(t testing.TB) []byte {
	files := make([]file, 65535)
	for i := range files {
		files[i].name = fmt.Sprint(i)
	}
	return zipOf(t, files...)
}

// TestArchives makes deltas between versions of archives of every shape:
// whatever they are, they come back.
func TestArchives(t *testing.T) {
	for name, a := range archives(t) {
		t.Run(name, func(t *testing.T) {
			_, _, records, err := delta.OpenBase(bg, a.data, 3, delta.Options{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if records != a.records {
				t.Errorf("%d records instead of %d", records, a.records)
			}
			if len(a.data) == 0 {
				return
			}
			// The same again; from nothing; and from something that is like it.
			limit := int64(2*len(a.data) + 4000)
			d, r := makeApply(t, a.data, a.data, delta.Options{Limit: limit})
			if len(d) > 400 {
				t.Errorf("%d bytes for no difference: %+v", len(d), r)
			}
			if len(a.data) > 200_000 {
				return // takes long, and shows no more
			}
			makeApply(t, nil, a.data, delta.Options{Limit: limit})
			other := bytes.Clone(a.data)
			other[len(other)/3] ^= 0x10
			makeApply(t, other, a.data, delta.Options{Limit: limit})
			makeApply(t, a.data, other, delta.Options{Limit: limit})
		})
	}
}

// TestRenamed: a folder with the version in its name costs its name once.
func TestRenamed(t *testing.T) {
	var old, now []file
	for i := range 300 {
		data := prose(uint64(i), 2000)
		old = append(old, file{fmt.Sprintf("module@v1.0.0/dir/file%d.go", i), data})
		now = append(now, file{fmt.Sprintf("module@v1.0.1-rc.1/dir/file%d.go", i), data})
	}
	d, r := makeApply(t, zipOf(t, old...), zipOf(t, now...), delta.Options{})
	if r.Form != delta.Opened || r.Kept != 300 || len(d) > 300 {
		t.Errorf("%s delta of %d bytes: %+v", r.Form, len(d), r)
	}
}

// TestMoved: the order of members and their other header fields cost little,
// and their data nothing.
func TestMoved(t *testing.T) {
	var old, now []file
	for i := range 100 {
		data := prose(uint64(i), 2000)
		old = append(old, file{fmt.Sprintf("file%d", i), data})
		now = append(now, file{fmt.Sprintf("renamed/and moved%d", 99-i), data})
	}
	slices.Reverse(now)
	slices.SortStableFunc(now, func(a, b file) int { return bytes.Compare(a.data[:20], b.data[:20]) })
	d, r := makeApply(t, zipOf(t, old...), zipOf(t, now...), delta.Options{})
	if r.Form != delta.Opened || r.Kept != 100 || len(d) > 2000 {
		t.Errorf("%s delta of %d bytes: %+v", r.Form, len(d), r)
	}
}
