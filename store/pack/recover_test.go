package pack_test

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"davit/store/pack"
)

// What is in a pack can be had back without this package, as FORMAT.md says:
//
//	age -d -i KEY PACK | zstd -d
//
// First with the libraries as they are, which needs nothing; then with the
// programs.
func TestRecoverByHand(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	k := pack.NewKeys([]age.Recipient{id.Recipient()}, []age.Identity{id})
	var want []byte
	var frames []pack.Frame
	for i, chunks := range [][][]byte{
		{text(200_000, 1), text(1, 2), random(60_000, 3)},
		{random(pack.MaxFrame, 4)},
		{make([]byte, 500_000)},
		{text(700, 5), text(300_000, 6)},
	} {
		frames = append(frames, frame(t, chunks...))
		want = append(want, bytes.Join(chunks, nil)...)
		if len(frames[i].Data) > pack.MaxCompressed {
			t.Fatal("frame too long")
		}
	}
	file, _ := seal(t, k, frames...)
	doc := text(100_000, 7)
	sealed, err := pack.Seal(doc, k)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("libraries", func(t *testing.T) {
		for name, c := range map[string][2][]byte{"pack": {file, want}, "document": {sealed, doc}} {
			plain, err := age.Decrypt(bytes.NewReader(c[0]), id)
			if err != nil {
				t.Fatal(err)
			}
			if got := unzstd(t, plain); !bytes.Equal(got, c[1]) {
				t.Errorf("%s: %d other bytes", name, len(got))
			}
		}
	})

	t.Run("programs", func(t *testing.T) {
		program := ageProgram(t)
		dir := t.TempDir()
		write(t, filepath.Join(dir, "key"), []byte(id.String()+"\n"))
		for name, c := range map[string][2][]byte{"pack": {file, want}, "document": {sealed, doc}} {
			path := filepath.Join(dir, name)
			write(t, path, c[0])
			decrypt := exec.Command(program, "-d", "-i", filepath.Join(dir, "key"), path)
			var stderr bytes.Buffer
			decrypt.Stderr = &stderr
			plain, err := decrypt.Output()
			if err != nil {
				t.Fatalf("age -d %s: %v\n%s", name, err, &stderr)
			}
			var got []byte
			if program, err := exec.LookPath("zstd"); err == nil {
				decompress := exec.Command(program, "-d", "-c")
				decompress.Stdin = bytes.NewReader(plain)
				stderr.Reset()
				decompress.Stderr = &stderr
				if got, err = decompress.Output(); err != nil {
					t.Fatalf("zstd -d < %s: %v\n%s", name, err, &stderr)
				}
			} else {
				t.Log("no zstd in PATH; its library decompresses")
				got = unzstd(t, bytes.NewReader(plain))
			}
			if !bytes.Equal(got, c[1]) {
				t.Errorf("%s: %d other bytes", name, len(got))
			}
		}
	})
}

func unzstd(t *testing.T, r io.Reader) []byte {
	t.Helper()
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ageProgram builds the age that go.mod names. That program is pinned there
// and is no part of this module, so a cached test cannot hide a change of it.
func ageProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "age")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	out, err := exec.Command("go", "build", "-o", program, "filippo.io/age/cmd/age").CombinedOutput()
	if err == nil {
		return program
	}
	if !strings.Contains(string(out), "missing go.sum entry") && !strings.Contains(string(out), "executable file not found") {
		t.Logf("go build: %v\n%s", err, out)
	}
	if found, err := exec.LookPath("age"); err == nil {
		return found
	}
	t.Skip("no age: `go get -tool filippo.io/age/cmd/age@v1.3.2` lets this test build it, or put it in PATH")
	return ""
}

// A reader of the bucket learns neither names nor lengths of chunks.
func TestNothingShows(t *testing.T) {
	k := newKeys(t)
	secret := []byte("a chunk that nobody may see")
	f := frame(t, secret)
	file, s := seal(t, k, f)
	name := s.Table.Chunks[0].Name
	for _, b := range [][]byte{secret, name[:], []byte(name.String()), []byte("DAVITPAK")} {
		if bytes.Contains(file, b) {
			t.Errorf("the pack shows %q", b)
		}
	}
}
