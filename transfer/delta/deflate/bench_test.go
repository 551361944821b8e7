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
	return plain[:min(len(plain), 24<<20)]
}

// write returns what the model makes of plain.
func (c candidate) write(b *testing.B, plain []byte) []byte {
	b.Helper()
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

// BenchmarkFamily says how fast each model is on one core, by processor time:
//
//	go test -run - -bench Family -plain package.tgz ./transfer/delta/deflate
func BenchmarkFamily(b *testing.B) {
	plain := plainForBench(b)
	ctx := context.Background()
	for _, e := range []Encoder{Zlib, ZlibChromium, ZlibCRC32C, Gzip, ZlibMedium} {
		levels := []byte{1, 4, 6, 9}
		if e == ZlibMedium {
			levels = []byte{6}
		}
		for _, level := range levels {
			c := candidate{encoder: e, params: string([]byte{level, 8})}
			if e == ZlibMedium {
				c.params = string([]byte{level, 0})
			}
			stream := c.write(b, plain)
			name := fmt.Sprintf("%s/%d/", e, level)
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
			b.Run(name+"prove", measure(func() error {
				_, err := Prove(ctx, compressed, section, nil, Options{Trust: true})
				return err
			}))
			b.Run(name+"prove-hint", measure(func() error {
				_, err := Prove(ctx, compressed, section, s, Options{Trust: true})
				return err
			}))
			b.Run(name+"rebuild", measure(func() error {
				return Rebuild(ctx, s, section, io.Discard, 1)
			}))
		}
	}
}

// cpu is how many seconds of processor time this process used.
func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
