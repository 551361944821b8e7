package pack_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"filippo.io/age"
	"github.com/cespare/xxhash/v2"

	"davit/store/pack"
)

// vectors holds identity.txt, which opens them all but the ones for a wrong
// key; accept/NAME.age with its dump accept/NAME.txt; and
// reject/CLASS-NAME.age, where CLASS says which error the pack must give.
var vectors = filepath.Join("..", "..", "test", "vectors", "pack")

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

// example is the plaintext of the worked example in FORMAT.md: the frame at 0,
// the table at 22, the footer at 122.
func example(t tester) []byte {
	f := frame(t, []byte("hello, "), []byte("world\n"))
	return pack.AppendTail(bytes.Clone(f.Data), table(t, f))
}

// inside are the vectors by file name, without the encryption.
func inside(t tester) map[string][]byte {
	le := binary.LittleEndian
	// rehash makes the footer agree with a changed table.
	rehash := func(b []byte) {
		foot := b[len(b)-40:]
		size, offset := int(le.Uint32(foot[20:])), int(le.Uint64(foot[24:]))
		le.PutUint64(foot[32:], xxhash.Sum64(b[offset+8:][:size]))
	}
	put := func(at int, v uint32) []byte {
		b := example(t)
		le.PutUint32(b[at:], v)
		rehash(b)
		return b
	}
	foot := func(at int, v ...byte) []byte {
		b := example(t)
		copy(b[122+at:], v)
		return b
	}
	// holding is a pack whose one frame is data, said to hold a chunk.
	holding := func(data []byte, contents []byte) []byte {
		f := frame(t, contents)
		tab := *table(t, f)
		tab.Frames = []pack.FrameInfo{{Length: uint32(len(data)), Size: uint32(len(contents))}}
		return pack.AppendTail(bytes.Clone(data), &tab)
	}
	two := func() []byte {
		f, g := frame(t, []byte("hello, ")), frame(t, text(600, 1), []byte("world\n"))
		return pack.AppendTail(append(bytes.Clone(f.Data), g.Data...), table(t, f, g))
	}
	twoTable := bytes.Index(two(), []byte{0x5a, 0x2a, 0x4d, 0x18})
	putTwo := func(at int, v uint32) []byte {
		b := two()
		le.PutUint32(b[twoTable+at:], v)
		rehash(b)
		return b
	}
	wraps := put(82, 1<<32-1) // and 14 is 13 again, in 32 bits
	le.PutUint32(wraps[118:], 14)
	rehash(wraps)
	thousand := make([]byte, 1000)
	repeated := frame(t, []byte("same"), []byte("same"))
	ff := bytes.Repeat([]byte{0xff}, 8)

	return map[string][]byte{
		"accept/example.age":  example(t),
		"accept/two.age":      two(),
		"accept/repeated.age": pack.AppendTail(bytes.Clone(repeated.Data), table(t, repeated)),
		"accept/zeros.age":    holding(bomb(1<<20, 128<<10, 1), make([]byte, 128<<10)),

		"reject/damaged-empty-inside.age":          {},
		"reject/damaged-footer-alone.age":          example(t)[122:],
		"reject/damaged-no-footer.age":             example(t)[:122],
		"reject/damaged-footer-magic.age":          foot(8, 'd'),
		"reject/damaged-footer-skippable.age":      foot(0, 0x5c),
		"reject/damaged-footer-length.age":         foot(4, 33),
		"reject/version-0.age":                     foot(16, 0),
		"reject/version-2.age":                     foot(16, 2),
		"reject/damaged-table-hash.age":            foot(32, 0, 0),
		"reject/damaged-table-length.age":          foot(20, 91),
		"reject/damaged-table-length-huge.age":     foot(20, ff[:4]...),
		"reject/damaged-table-length-zero.age":     foot(20, 0, 0, 0, 0),
		"reject/damaged-table-offset.age":          foot(24, 21),
		"reject/damaged-table-offset-huge.age":     foot(24, ff...),
		"reject/damaged-table-offset-negative.age": foot(24, append([]byte{0, 0, 0, 0, 0, 0, 0}, 0x80)...),
		"reject/damaged-table-skippable.age":       put(22, 0x184D2A5B),
		"reject/damaged-table-length-twice.age":    put(26, 91),
		"reject/damaged-trailing-byte-inside.age":  append(example(t), 0),
		"reject/damaged-leading-byte-inside.age":   append([]byte{0}, example(t)...),

		"reject/damaged-frames-none.age":        put(30, 0),
		"reject/damaged-frames-huge.age":        put(30, 1<<32-1),
		"reject/damaged-chunks-none.age":        put(34, 0),
		"reject/damaged-chunks-fewer.age":       put(34, 1),
		"reject/damaged-chunks-huge.age":        put(34, 1<<32-1),
		"reject/damaged-frame-longer.age":       put(38, 23),
		"reject/damaged-frame-shorter.age":      put(38, 21),
		"reject/damaged-frame-length-zero.age":  put(38, 0),
		"reject/damaged-frame-length-huge.age":  put(38, 1<<32-1),
		"reject/damaged-frame-size.age":         put(42, 14),
		"reject/damaged-frame-size-zero.age":    put(42, 0),
		"reject/damaged-frame-size-huge.age":    put(42, 1<<32-1),
		"reject/damaged-frame-chunks-fewer.age": put(46, 1),
		"reject/damaged-frame-chunks-more.age":  put(46, 3),
		"reject/damaged-frame-chunks-huge.age":  put(46, 1<<32-1),
		"reject/damaged-chunk-length-zero.age":  put(82, 0),
		"reject/damaged-chunk-length-more.age":  put(82, 8),
		"reject/damaged-chunk-length-wraps.age": wraps,
		"reject/damaged-chunk-name.age":         put(50, 0),
		"reject/damaged-frames-overlap.age":     putTwo(16, 40), // the first reaches into the second
		"reject/damaged-frames-gap.age":         putTwo(16, 10),
		"reject/damaged-frame-empty.age":        putTwo(24, 0), // all chunks in the second

		"reject/damaged-bomb-blocks.age":       holding(bomb(1<<20, 1000, 64), thousand),
		"reject/damaged-bomb-size-unsaid.age":  holding(bomb(1<<20, -1, 64), thousand),
		"reject/damaged-bomb-size-said.age":    holding(bomb(1<<20, 8<<20, 64), thousand),
		"reject/damaged-bomb-window.age":       holding(bomb(1<<30, 1000, 1), thousand),
		"reject/damaged-bomb-second-frame.age": holding(append(pack.AppendRaw(nil, thousand), bomb(1<<20, -1, 64)...), thousand),
		"reject/damaged-frame-short.age":       holding(pack.AppendRaw(nil, thousand[1:]), thousand),
		"reject/damaged-frame-skippable.age":   holding([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0}, thousand),
		"reject/damaged-frame-not-zstd.age":    holding([]byte("hello, world\n"), []byte("hello, world\n")),
	}
}

// writeVectors makes them all from a fixed source of randomness.
func writeVectors(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(vectors, "identity.txt"), []byte("# opens the test vectors beside it and nothing else\n"+id.String()+"\n"))
	plain := inside(t)
	for _, name := range sortedKeys(plain) {
		write(t, filepath.Join(vectors, name), encrypt(t, plain[name], id.Recipient()))
	}
	other, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	file := encrypt(t, example(t), id.Recipient())
	tampered := bytes.Clone(file)
	tampered[len(tampered)-20] ^= 1
	for name, data := range map[string][]byte{
		"wrong-key.age":             encrypt(t, example(t), other.Recipient()),
		"version-age-2.age":         bytes.Replace(file, []byte("/v1\n"), []byte("/v2\n"), 1),
		"damaged-empty-file.age":    {},
		"damaged-header-alone.age":  file[:len(file)-len(example(t))-16],
		"damaged-cut-short.age":     file[:len(file)-1],
		"damaged-trailing-byte.age": append(bytes.Clone(file), 0),
		"damaged-byte-changed.age":  tampered,
		"damaged-not-age.age":       []byte("DAVITPAK, but in the clear\n"),
	} {
		write(t, filepath.Join(vectors, "reject", name), data)
	}
	k := vectorKeys(t)
	for name := range plain {
		if strings.HasPrefix(name, "accept/") {
			file, err := os.ReadFile(filepath.Join(vectors, name))
			if err != nil {
				t.Fatal(err)
			}
			var dump bytes.Buffer
			if err := open(t, file, k).Table().Dump(&dump); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(vectors, strings.TrimSuffix(name, ".age")+".txt"), dump.Bytes())
		}
	}
}

func sortedKeys(m map[string][]byte) []string {
	return slices.Sorted(maps.Keys(m))
}

func vectorKeys(t tester) pack.Keys {
	t.Helper()
	f, err := os.Open(filepath.Join(vectors, "identity.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids, err := age.ParseIdentities(f)
	if err != nil || len(ids) != 1 {
		t.Fatal("no test identity: ", err)
	}
	return pack.NewKeys(nil, ids)
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	k := vectorKeys(t)
	for _, kind := range []string{"accept", "reject"} {
		files, err := filepath.Glob(filepath.Join(vectors, kind, "*.age"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s vectors: %v", kind, err)
		}
		for _, path := range files {
			t.Run(kind+"/"+filepath.Base(path), func(t *testing.T) {
				file, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				r, err := pack.Open(bytes.NewReader(file), int64(len(file)), k)
				if err == nil {
					_, err = readAll(r)
				}
				if kind == "reject" {
					class, _, _ := strings.Cut(filepath.Base(path), "-")
					want := map[string]error{"damaged": pack.ErrDamaged, "version": pack.ErrVersion, "wrong": pack.ErrWrongKey}[class]
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
				var dump bytes.Buffer
				if err := r.Table().Dump(&dump); err != nil {
					t.Fatal(err)
				}
				want, err := os.ReadFile(strings.TrimSuffix(path, ".age") + ".txt")
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
	if want := example(t); !bytes.Equal(got, want) {
		t.Fatalf("example is\n% x\nnot\n% x", got, want)
	}
}
