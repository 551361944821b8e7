package chunk_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"davit/store/chunk"
)

// vectors holds accept/NAME.list with its dump accept/NAME.txt, and
// reject/CLASS-NAME.list, where CLASS says which error the list must give.
var vectors = filepath.Join("..", "..", "test", "vectors", "chunk")

var update = flag.Bool("update", false, "write the test vectors anew")

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func encode(entries ...chunk.Entry) []byte {
	b := chunk.AppendListHeader(nil)
	for _, e := range entries {
		b = chunk.AppendEntry(b, e)
	}
	return b
}

func entry(s string) chunk.Entry {
	return chunk.Entry{Name: chunk.NameOf([]byte(s)), Length: uint32(len(s))}
}

// lists are the vectors by file name.
func lists() map[string][]byte {
	two := encode(entry("hello, "), entry("world\n"))
	with := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[at] = v
		return b
	}
	length := func(n uint32) []byte { return encode(entry("x"), chunk.Entry{Name: chunk.NameOf(nil), Length: n}) }
	return map[string][]byte{
		"accept/one.list":                   encode(entry("x")),
		"accept/two.list":                   two,
		"accept/repeated.list":              encode(entry("x"), entry("x"), entry("y"), entry("x")),
		"accept/longest.list":               length(chunk.MaxSize),
		"reject/damaged-empty-file.list":    {},
		"reject/damaged-no-entry.list":      encode(),
		"reject/damaged-half-header.list":   two[:11],
		"reject/damaged-magic.list":         with(two, 0, 'd'),
		"reject/damaged-half-entry.list":    two[:len(two)-1],
		"reject/damaged-trailing-byte.list": append(bytes.Clone(two), 0),
		"reject/damaged-length-zero.list":   length(0),
		"reject/damaged-length-above.list":  length(chunk.MaxSize + 1),
		"reject/damaged-length-huge.list":   length(1<<32 - 1),
		"reject/version-0.list":             with(two, 8, 0),
		"reject/version-2.list":             with(two, 8, 2),
		"reject/version-huge.list":          with(two, 11, 0xff),
	}
}

func TestVectors(t *testing.T) {
	if *update {
		for name, data := range lists() {
			write(t, filepath.Join(vectors, name), data)
			if text, ok := strings.CutSuffix(name, ".list"); ok && strings.HasPrefix(name, "accept/") {
				l, err := chunk.Inspect(bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				var dump bytes.Buffer
				l.Dump(&dump)
				write(t, filepath.Join(vectors, text+".txt"), dump.Bytes())
			}
		}
	}
	for _, kind := range []string{"accept", "reject"} {
		files, err := filepath.Glob(filepath.Join(vectors, kind, "*.list"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s vectors: %v", kind, err)
		}
		for _, file := range files {
			t.Run(kind+"/"+filepath.Base(file), func(t *testing.T) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				l, err := chunk.Inspect(bytes.NewReader(data))
				if kind == "reject" {
					class, _, _ := strings.Cut(filepath.Base(file), "-")
					want := map[string]error{"damaged": chunk.ErrDamaged, "version": chunk.ErrVersion}[class]
					if want == nil {
						t.Fatalf("no such class of error: %q", class)
					}
					if !errors.Is(err, want) {
						t.Fatalf("got %v, want %v", err, want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(encode(l.Chunks...), data) {
					t.Error("encodes to other bytes")
				}
				var dump bytes.Buffer
				if err := l.Dump(&dump); err != nil {
					t.Fatal(err)
				}
				want, err := os.ReadFile(strings.TrimSuffix(file, ".list") + ".txt")
				if err != nil {
					t.Fatal(err)
				}
				if dump.String() != string(want) {
					t.Errorf("dump:\n%swant:\n%s", &dump, want)
				}
			})
		}
	}
}

// The example in FORMAT.md is what the code writes.
func TestFormatExample(t *testing.T) {
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```hex\n")
	if !ok {
		t.Fatal("no example")
	}
	block, _, _ := strings.Cut(rest, "```")
	var digits string
	for line := range strings.Lines(block) {
		digits += regexp.MustCompile(`^([0-9a-f]{2} ?)+`).FindString(line)
	}
	got, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if want := encode(entry("hello, "), entry("world\n")); !bytes.Equal(got, want) {
		t.Fatalf("example is\n% x\nnot\n% x", got, want)
	}
}

func FuzzList(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(vectors, "*", "*.list"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := chunk.AppendListHeader(nil)
		for l := chunk.NewListReader(bytes.NewReader(data), 0); ; {
			e, err := l.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				if !errors.Is(err, chunk.ErrDamaged) && !errors.Is(err, chunk.ErrVersion) {
					t.Fatalf("error of no class: %v", err)
				}
				return
			}
			b = chunk.AppendEntry(b, e)
		}
		if !bytes.Equal(b, data) {
			t.Fatal("a list that was accepted encodes to other bytes")
		}
	})
}
