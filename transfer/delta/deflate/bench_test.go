//go:build unix

package deflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
)

var benchMost = flag.Int("most", 24<<20, "benchmarks: how much of it")

var benchPlain = flag.String("plain", "", "benchmarks: a gzip file whose content is encoded, instead of a vector")

// plainForBench returns plain bytes for benchmarks.
func plainForBench(b *testing.B) []byte {
	b.Helper()
	if *benchPlain == "" {
		stream, err := os.ReadFile("../../../test/vectors/deflate/zlib-1.2.13-python-level6-segments.deflate")
		if err != nil {
			b.Fatal(err)
		}
		plain, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
		if err != nil {
			b.Fatal(err)
		}
		return plain
	}
	f, err := os.Open(*benchPlain)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		b.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		b.Fatal(err)
	}
	return plain[:min(len(plain), *benchMost)]
}

// write returns what the model makes of plain.
func (c candidate) write(b *testing.B, plain []byte) []byte {
	b.Helper()
	if enc, done, ok := c.encoder.exact([]byte(c.params)); ok {
		defer done()
		var out bytes.Buffer
		enc.reset(&out)
		if _, err := enc.Write(plain); err != nil {
			b.Fatal(err)
		}
		if err := enc.Close(); err != nil {
			b.Fatal(err)
		}
		return out.Bytes()
	}
	f, ok := c.encoder.family([]byte(c.params))
	if !ok {
		b.Fatalf("%s %x", c.encoder, c.params)
	}
	w := takeWalker(f)
	defer giveWalker(w)
	size := int64(len(plain))
	w.begin(bytes.NewReader(plain), size, 0)
	if err := w.rebuild(context.Background(), &segment{plain: size}, true, 1<<50, nil); err != nil {
		b.Fatal(err)
	}
	out := bytes.Clone(w.out.buf)
	if w.out.whole(); w.out.held > 0 {
		out = append(bytes.Clone(w.out.buf), byte(w.out.acc))
	}
	return out
}

// benched are models to measure.
var benched = []candidate{
	{encoder: Zlib, params: "\x01\x08"}, {encoder: Zlib, params: "\x04\x08"}, {encoder: Zlib, params: "\x06\x08"}, {encoder: Zlib, params: "\x09\x08"},
	{encoder: ZlibChromium, params: "\x01\x08"}, {encoder: ZlibChromium, params: "\x04\x08"}, {encoder: ZlibChromium, params: "\x06\x08"}, {encoder: ZlibChromium, params: "\x09\x08"},
	{encoder: ZlibCRC32C, params: "\x01\x08"}, {encoder: ZlibCRC32C, params: "\x04\x08"}, {encoder: ZlibCRC32C, params: "\x06\x08"}, {encoder: ZlibCRC32C, params: "\x09\x08"},
	{encoder: Gzip, params: "\x01\x08"}, {encoder: Gzip, params: "\x06\x08"}, {encoder: Gzip, params: "\x09\x08"},
	{encoder: ZlibMedium, params: "\x04\x00"}, {encoder: ZlibMedium, params: "\x06\x00"},
	{encoder: Go126, params: "\x01"}, {encoder: Go126, params: "\x05"}, {encoder: Go126, params: "\x06"}, {encoder: Go126, params: "\x09"},
	{encoder: Klauspost, params: "\x01"}, {encoder: Klauspost, params: "\x05"}, {encoder: Klauspost, params: "\x09"},
	{encoder: Klauspost116, params: "\x05"},
}

// BenchmarkModels says how fast each model is on one core, by processor time:
//
//	go test -run - -bench Models -plain package.tgz ./transfer/delta/deflate
func BenchmarkModels(b *testing.B) {
	plain := plainForBench(b)
	ctx := context.Background()
	for _, c := range benched {
		b.Run(fmt.Sprintf("%s/%d", c.encoder, c.params[0]), func(b *testing.B) {
			stream := c.write(b, plain)
			compressed := io.NewSectionReader(bytes.NewReader(stream), 0, int64(len(stream)))
			section := io.NewSectionReader(bytes.NewReader(plain), 0, int64(len(plain)))
			s, err := Prove(ctx, compressed, section, nil, Options{Trust: true})
			if err != nil {
				b.Fatal(err)
			}
			measure := func(f func() error) func(*testing.B) {
				return func(b *testing.B) {
					start := cpu()
					for b.Loop() {
						if err := f(); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(b.N)*float64(len(plain))/1e6/(cpu()-start), "MB/cpu-s")
				}
			}
			b.Run("prove", measure(func() error {
				_, err := Prove(ctx, compressed, section, nil, Options{Trust: true})
				return err
			}))
			b.Run("prove-hint", measure(func() error {
				_, err := Prove(ctx, compressed, section, s, Options{Trust: true})
				return err
			}))
			b.Run("rebuild", measure(func() error {
				return Rebuild(ctx, s, section, io.Discard, 1)
			}))
		})
	}
}

// cpu is how many seconds of processor time this process used.
func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
