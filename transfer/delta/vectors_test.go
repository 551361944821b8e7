package delta_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"davit/transfer/delta"
	"davit/transfer/delta/deflate"
)

var update = flag.Bool("update", false, "write vectors that are not there")

// TestPairs makes deltas between versions of packages by real producers.
func TestPairs(t *testing.T) {
	for name, pair := range pairs(t) {
		d, r := makeApply(t, pair[0], pair[1], delta.Options{})
		t.Logf("%-8s %5d of %5d bytes, %+v", name, len(d), len(pair[1]), *r)
		if r.Form != delta.Opened || r.Kept+r.Proven != r.Streams {
			t.Errorf("%s: %+v", name, r)
		}
		if len(d) > len(pair[1])/4 {
			t.Errorf("%s: %d of %d bytes", name, len(d), len(pair[1]))
		}
	}
}

// TestAccept applies deltas that were made before: they apply for ever.
func TestAccept(t *testing.T) {
	dir := filepath.Join(vectors, "accept")
	if *update {
		for name, pair := range pairs(t) {
			d, _ := makeApply(t, pair[0], pair[1], delta.Options{})
			write(t, filepath.Join(dir, name+".delta"), d)
		}
		base := archives(t)
		for _, name := range []string{"zip in tar in gzip", "zip with sizes", "zip junk before", "zip junk after", "gzip twice", "gzip in ar"} {
			path := filepath.Join(dir, "made-"+strings.ReplaceAll(name, " ", "-"))
			write(t, path+".base", base[name].data)
			b := read(t, path+".base")
			d, _ := makeApply(t, b, append(b[:len(b):len(b)], "and more"...), delta.Options{})
			write(t, path+".delta", d)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.delta"))
	if err != nil || len(files) < 12 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".delta")
		base, err := os.ReadFile(strings.TrimSuffix(path, "delta") + "base")
		if err != nil {
			base = pairs(t)[name][0]
		}
		d := read(t, path)
		v, err := delta.Inspect(bytes.NewReader(d), int64(len(d)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := apply(t, base, d)
		if sum := sha256.Sum256(got); hex.EncodeToString(sum[:]) != v.Target.SHA256 {
			t.Errorf("%s: other bytes", name)
		}
		if pair, ok := pairs(t)[name]; ok && !bytes.Equal(got, pair[1]) {
			t.Errorf("%s: another target", name)
		}
	}
}

// TestReject: the first word of a vector's name is the reason.
func TestReject(t *testing.T) {
	dir := filepath.Join(vectors, "reject")
	base := pairs(t)["jar"][0]
	if *update {
		d, _ := makeApply(t, base, pairs(t)["jar"][1], delta.Options{})
		resealed := func(at int, with ...byte) []byte {
			return delta.Reseal(d, func(h []byte) []byte { return slices.Replace(h, at, at+1, with...) })
		}
		turned := bytes.Clone(d)
		turned[len(d)-3] ^= 1
		rewritten := func(section int, change func([]byte) []byte) []byte {
			b, err := delta.Rewrite(base, d, false, func(s [][]byte) { s[section] = change(s[section]) })
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for name, b := range map[string][]byte{
			"damaged-empty":            {},
			"damaged-magic":            append([]byte("DAVITDLX"), d[8:]...),
			"damaged-cut":              d[:len(d)-1],
			"damaged-longer":           append(bytes.Clone(d), 0),
			"damaged-header-sum":       slices.Replace(bytes.Clone(d), 12, 13, d[12]^1),
			"damaged-bit":              turned,
			"damaged-number-not-short": resealed(9, 0x82, 0),
			"damaged-gaps-more":        rewritten(0, func(b []byte) []byte { return append(b, 4) }),
			"damaged-copies-more":      rewritten(1, func(b []byte) []byte { return append(b, 4) }),
			"damaged-copies-less":      rewritten(1, func(b []byte) []byte { return b[1:] }),
			"damaged-literals-more":    rewritten(3, func(b []byte) []byte { return append(b, 'x') }),
			"damaged-literals-less":    rewritten(3, func(b []byte) []byte { return b[1:] }),
			"damaged-closings-more":    rewritten(5, func(b []byte) []byte { return append(b, 0) }),
			"damaged-closings-none":    rewritten(5, func(b []byte) []byte { return nil }),
			"version-2":                resealed(8, 2),
			"version-form-3":           resealed(9, 3),
			"base-other":               slices.Concat(delta.Reseal(d, func(h []byte) []byte { h[20] ^= 1; return h })),
			"encoder-unknown":          delta.WithEncoder(d, 0x3ff0),
		} {
			write(t, filepath.Join(dir, name+".delta"), b)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.delta"))
	if err != nil || len(files) < 16 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		err := refused(t, base, read(t, path))
		var encoder *delta.EncoderError
		reasons := map[string]bool{
			"damaged": errors.Is(err, delta.ErrDamaged),
			"version": errors.Is(err, delta.ErrVersion),
			"base":    errors.Is(err, delta.ErrWrongBase),
			"encoder": errors.As(err, &encoder),
		}
		for reason, is := range reasons {
			if is != strings.HasPrefix(name, reason+"-") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return // what was once written does not change
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestExample is the example of FORMAT.md.
func TestExample(t *testing.T) {
	base, target := []byte("0123456789"), []byte("23x547")
	baseSum, targetSum := sha256.Sum256(base), sha256.Sum256(target)
	b := []byte("DAVITDLT\x01\x01\x0a")
	b = append(b, baseSum[:]...)
	b = append(append(b, 6), targetSum[:]...)
	b = binary.BigEndian.AppendUint64(append(b, 10), xxhash.Sum64(base))
	b = append(b, "\x06\x00\x00\x03\x03\x01\x01\x02\x00\x03\x03\x01\x01\x02\x00\x00"...)
	b = binary.BigEndian.AppendUint64(b, xxhash.Sum64(b))
	if len(b) != 109 {
		t.Errorf("header has %d bytes", len(b))
	}
	b = append(b, "\x00\x02\x05\x05\x00\x02\x04x\x00\xfe"...)
	if got := apply(t, base, b); !bytes.Equal(got, target) {
		t.Errorf("%q", got)
	}
}

// TestReceiverLacks: what the receiver cannot close is carried as it is, and the
// result says so.
func TestReceiverLacks(t *testing.T) {
	pair := pairs(t)["jar"]
	for name, o := range map[string]delta.Options{
		"encoders": {Encoders: []deflate.Encoder{}},
		"time":     {Budget: 1},
	} {
		d, r := makeApply(t, pair[0], pair[1], o)
		if r.Proven > 0 || r.Unproven == 0 || r.Reason == "" || len(r.Encoders) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
		if name == "time" && !strings.Contains(r.Reason, "time") {
			t.Error(r.Reason)
		}
		v, err := delta.Inspect(bytes.NewReader(d), int64(len(d)))
		if err != nil || len(v.Encoders) > 0 {
			t.Errorf("%+v, %v", v, err)
		}
	}
	one := delta.Options{Encoders: []deflate.Encoder{deflate.Zlib}}
	if _, r := makeApply(t, pair[0], pair[1], one); r.Proven == 0 || len(r.Encoders) != 1 {
		t.Errorf("%+v", r)
	}
}
