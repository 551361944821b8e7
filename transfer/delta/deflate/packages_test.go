package deflate_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"davit/transfer/delta/deflate"
)

const packages = "../../../test/vectors/packages"

// producers says which model proves each package.
var producers = map[string]struct {
	encoder deflate.Encoder
	params  []byte
}{
	"buildah-1.28.2-blocks.tar.gz":                       {deflate.Pgzip, []byte{5, 0x80, 0x80, 0x40}},
	"go-containerregistry-0.21.9-go-1.26.8-layer.tar.gz": {deflate.Go126, []byte{1}},
	"go-containerregistry-0.21.9-go-1.27.3-layer.tar.gz": {deflate.Klauspost, []byte{1}},
	"gomod-xmod-0.43.0-go-1.26.8.zip":                    {deflate.Go126, []byte{5}},
	"gomod-xmod-0.43.0-go-1.27.3.zip":                    {deflate.Klauspost, []byte{5}},
	"goproxy-x-sync-0.25.0.zip":                          {deflate.Klauspost, []byte{5}},
	"helm-3.22.0-go-1.26.8.tgz":                          {deflate.Go126, []byte{6}},
	"helm-3.22.0-go-1.27.3.tgz":                          {deflate.Klauspost, []byte{6}},
	"jar-openjdk-17.jar":                                 {deflate.Zlib, []byte{6, 8}},
	"maven-jar-plugin-3.4.2.jar":                         {deflate.Zlib, []byte{6, 8}},
	"npm-11.19.1-node-20.tgz":                            {deflate.ZlibChromium, []byte{9, 8}},
	"npm-registry-nanoid-3.3.4.tgz":                      {deflate.ZlibCRC32C, []byte{9, 8}},
	"npm-registry-yallist-4.0.0.tgz":                     {deflate.Zlib, []byte{6, 8}},
	"nuget-2.8.7-mono-6.8.nupkg":                         {deflate.Zlib, []byte{9, 8}},
	"pip-23.2.1-wheel.whl":                               {deflate.Zlib, []byte{6, 8}},
	"python-build-sdist.tar.gz":                          {deflate.Zlib, []byte{9, 8}},
	"umoci-0.4.7-layer.tar.gz":                           {deflate.Pgzip, []byte{5, 0x80, 0x80, 0x40}},
}

// streamsOf finds all deflate streams of a package: of its gzip members, or of
// its zip members.
func streamsOf(t *testing.T, data []byte) (all [][]byte) {
	t.Helper()
	if bytes.HasPrefix(data, []byte("PK")) {
		z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			off, err := f.DataOffset()
			if err != nil {
				t.Fatal(err)
			}
			if f.Method == zip.Deflate {
				all = append(all, data[off:off+int64(f.CompressedSize64)])
			}
		}
		return all
	}
	const trailer = 8
	r := bytes.NewReader(data) // which gzip reads byte by byte, and no further than it must
	for r.Len() > 0 {
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		begin := len(data) - r.Len()
		z.Multistream(false)
		if _, err := io.Copy(io.Discard, z); err != nil {
			t.Fatal(err)
		}
		all = append(all, data[begin:len(data)-r.Len()-trailer])
	}
	return all
}

// TestPackages proves and rebuilds every stream of whole packages, as real
// producers made them. Small streams have several models that fit: the longest
// says which was found.
func TestPackages(t *testing.T) {
	entries, err := os.ReadDir(packages)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{"README.md": true}
	for _, entry := range entries {
		name := entry.Name()
		if seen[name] {
			continue
		}
		seen[name] = true
		t.Run(name, func(t *testing.T) {
			want, ok := producers[name]
			if !ok {
				t.Fatal("it is not known who made this package")
			}
			data, err := os.ReadFile(filepath.Join(packages, name))
			if err != nil {
				t.Fatal(err)
			}
			var long *deflate.Stream
			for i, stream := range streamsOf(t, data) {
				plain := plainOf(t, stream)
				s, err := deflate.Prove(context.Background(), section(stream), section(plain), nil, deflate.Options{})
				if err != nil {
					t.Fatalf("stream %d: %v", i, err)
				}
				if s.Corrections() > 0 {
					t.Errorf("stream %d: %s", i, s)
				}
				roundTrip(t, s, stream)
				if long == nil || s.Compressed > long.Compressed {
					long = s
				}
				// What proves the package proves each stream of it.
				if s, err = deflate.Prove(context.Background(), section(stream), section(plain), nil, deflate.Options{Encoders: []deflate.Encoder{want.encoder}}); err != nil {
					t.Fatalf("stream %d, by %s: %v", i, want.encoder, err)
				}
				roundTrip(t, s, stream)
			}
			if long == nil {
				t.Fatal("no stream was found")
			}
			if long.Encoder != want.encoder || !bytes.Equal(long.Params, want.params) {
				t.Errorf("%s was found, %s %x is expected", long, want.encoder, want.params)
			}
		})
	}
	for name := range producers {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}
