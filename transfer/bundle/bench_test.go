package bundle_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"davit/store/bucket"
	"davit/transfer/bundle"
)

// One payload to a folder and back: 1 GiB, or DAVIT_BENCH_MIB. Where the folder
// lies decides what is measured; TMPDIR chooses it. Besides MB/s of wall time
// each tells those of the processors' time, which other work does not disturb.
func benchMedium(b *testing.B) (medium *bucket.Dir, size int64) {
	size = 1 << 30
	if n, err := strconv.Atoi(os.Getenv("DAVIT_BENCH_MIB")); err == nil {
		size = int64(n) << 20
	}
	medium, err := bucket.OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { medium.Close() })
	b.SetBytes(size)
	b.ReportAllocs()
	return medium, size
}

// benchOptions are twelve volumes without parity, with it, and with a statement.
func benchOptions(size int64) map[string]bundle.Options {
	plain := bundle.Options{VolumeSize: size/12 + 1<<20}
	parity := bundle.Options{Parity: 0.1, VolumeSize: size/10 + 1<<20}
	return map[string]bundle.Options{"none": plain, "tenth": parity, "statement": signed(parity)}
}

var benchPiece = noise(1<<20, 1)

func benchWrite(b *testing.B, medium bucket.Bucket, size int64, o bundle.Options) *bundle.Writer {
	w, err := bundle.NewWriterWith(b.Context(), medium, testLabel(1), size, 1, o)
	if err != nil {
		b.Fatal(err)
	}
	for at := int64(0); at < size; at += int64(len(benchPiece)) {
		if _, err := w.Write(benchPiece); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Seal(); err != nil {
		b.Fatal(err)
	}
	return w
}

// measured runs loop and reports the processors' time and the largest heap.
func measured(b *testing.B, size int64, loop func()) {
	var most runtime.MemStats
	before := cpuTime()
	runs := 0
	for b.Loop() {
		loop()
		runs++
	}
	runtime.ReadMemStats(&most)
	if spent := cpuTime() - before; spent > 0 {
		b.ReportMetric(float64(size)*float64(runs)/1e6/spent.Seconds(), "MB/cpu-s")
	}
	b.ReportMetric(float64(most.HeapSys)/(1<<20), "heap-MiB")
}

func BenchmarkWrite(b *testing.B) {
	for _, name := range []string{"none", "tenth", "statement"} {
		b.Run(name, func(b *testing.B) {
			medium, size := benchMedium(b)
			measured(b, size, func() {
				if err := benchWrite(b, medium, size, benchOptions(size)[name]).Abort(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// slowMedium takes so many bytes a second, however many write at once.
type slowMedium struct {
	bucket.Bucket
	rate float64
	mu   sync.Mutex
	free time.Time
}

func (m *slowMedium) Create(ctx context.Context) (bucket.Writer, error) {
	w, err := m.Bucket.Create(ctx)
	return &slowWriter{w, m}, err
}

type slowWriter struct {
	bucket.Writer
	m *slowMedium
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.m.mu.Lock()
	now := time.Now()
	if w.m.free.Before(now) {
		w.m.free = now
	}
	w.m.free = w.m.free.Add(time.Duration(float64(len(p)) / w.m.rate * 1e9))
	wait := w.m.free.Sub(now)
	w.m.mu.Unlock()
	time.Sleep(wait)
	return w.Writer.Write(p)
}

// A medium of 200 MB/s: what parity costs there.
func BenchmarkWriteSlowly(b *testing.B) {
	for _, name := range []string{"none", "tenth", "statement"} {
		b.Run(name, func(b *testing.B) {
			medium, size := benchMedium(b)
			slow := &slowMedium{Bucket: medium, rate: 200e6}
			measured(b, size, func() {
				if err := benchWrite(b, slow, size, benchOptions(size)[name]).Abort(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// published is a bundle of which so many volumes were lost.
func published(b *testing.B, name string, lost int) (*bundle.Set, int64) {
	medium, size := benchMedium(b)
	w := benchWrite(b, medium, size, benchOptions(size)[name])
	if err := w.Publish(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, name := range w.Names()[2 : 2+lost] {
		if err := medium.Delete(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
	found, err := bundle.Scan(b.Context(), medium)
	if err != nil || len(found.Sets) != 1 {
		b.Fatal(found, err)
	}
	return found.Sets[0], size
}

func BenchmarkVerify(b *testing.B) {
	for _, name := range []string{"none", "tenth"} {
		b.Run(name, func(b *testing.B) {
			s, size := published(b, name, 0)
			measured(b, size, func() {
				if err := s.Verify(b.Context(), nil); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, test := range []struct {
		name string
		lost int
	}{{"none", 0}, {"tenth", 0}, {"tenth", 1}} {
		b.Run(fmt.Sprintf("%s-%dlost", test.name, test.lost), func(b *testing.B) {
			s, size := published(b, test.name, test.lost)
			buf := make([]byte, 1<<20)
			measured(b, size, func() {
				p, err := s.Open(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(p, 0, p.Size()), buf); n != size {
					b.Fatal(n, err)
				}
				p.Close()
			})
		})
	}
}

// The bundle's bytes a second while one of its volumes is written anew.
func BenchmarkRepair(b *testing.B) {
	s, size := published(b, "tenth", 1)
	to, _ := benchMedium(b)
	measured(b, size, func() {
		names, err := s.Repair(b.Context(), to, bundle.RepairOptions{Volumes: []int{3}})
		if err != nil {
			b.Fatal(err)
		}
		if err := to.Delete(b.Context(), names[0]); err != nil {
			b.Fatal(err)
		}
	})
}
