package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"davit/manifest"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/test/bench/usage"
	"davit/transfer/delta"
)

// What package transfer goes by when it exports; the journey (journey.go) says
// when they have drifted apart.
const (
	deltaLeast   = 8 << 10
	deltaGain    = 3 << 10
	deltaBudget  = 10 * time.Minute // a GiB
	deltaPatient = time.Minute
)

const formChunks = "chunks"

// figures is what was measured of davit on one pair.
type figures struct {
	Form        string
	Bytes       int64 // sealed, or the chunks where they are no more
	Sealed      int64 // the delta, if there is one
	Plain       int64 // new chunks, compressed and sealed
	Result      delta.Result
	Parts       [len(partNames)]int64 // of the delta
	Make, Apply usage.Usage
	Reason      string
}

// partNames are the sections of a delta, short.
var partNames = [...]string{"operations", "addresses", "literals", "differences", "closings"}

// made is what the process that makes a delta says.
type made struct {
	delta.Result
	Parts [len(partNames)]int64
}

// measurer runs each half of a delta in a process of its own, so that memory
// and processor time are those of that half. Whatever takes memory is done so:
// the peak that the system tells of a process is at least that of the one that
// started it.
type measurer struct {
	self string // this program
	work string
	kept string // where figures of this very program are kept
	keys pack.Keys
}

func newMeasurer(cache, work string) (*measurer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	sum, _, err := hashFile(self)
	if err != nil {
		return nil, err
	}
	site, err := manifest.GenerateSiteKeys()
	if err != nil {
		return nil, err
	}
	keys, err := manifest.RecipientKeys([]string{site.Recipient()})
	return &measurer{self, work, filepath.Join(cache, "figures", sum[:16]), keys}, err
}

// pair measures a pair, unless this program has done so: a run that was broken
// off goes on where it was, and after any change to davit all is measured anew.
func (m *measurer) pair(ctx context.Context, p *pair) (*figures, error) {
	file := filepath.Join(m.kept, p.key())
	if data, err := os.ReadFile(file); err == nil {
		f := &figures{}
		if json.Unmarshal(data, f) == nil {
			return f, nil
		}
	}
	f, err := m.measure(ctx, p)
	if err != nil {
		return nil, err
	}
	return f, keep(file, f)
}

// keep writes what was measured to where it is looked for.
func keep(file string, figures any) error {
	data, err := json.Marshal(figures)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

func (m *measurer) measure(ctx context.Context, p *pair) (*figures, error) {
	f := &figures{Form: formChunks}
	cost, err := m.chunks(p, f)
	if err != nil {
		return nil, fmt.Errorf("cut chunks: %w", err)
	}
	f.Bytes = f.Plain
	if p.newSize < deltaLeast || cost < deltaGain {
		f.Reason = "too small for a delta"
		return f, nil
	}
	file, target := filepath.Join(m.work, "delta"), filepath.Join(m.work, "target")
	defer os.Remove(file)
	defer os.Remove(target)
	var said made
	if f.Make, err = m.run(ctx, &said, "make", p.oldFile, p.newFile, file, fmt.Sprint(cost)); err != nil {
		return nil, fmt.Errorf("make delta: %w", err)
	}
	f.Result, f.Parts, f.Reason = said.Result, said.Parts, said.Reason
	if f.Result.Form == formChunks {
		return f, nil
	}
	if f.Apply, err = m.run(ctx, nil, "apply", p.oldFile, file, target); err != nil {
		return nil, fmt.Errorf("apply delta: %w", err)
	}
	switch sum, _, err := hashFile(target); {
	case err != nil:
		return nil, err
	case sum != p.newSum:
		return nil, errors.New("apply delta: it gives another file")
	}
	if f.Sealed, err = pack.EncryptedSize(f.Result.Bytes, m.keys); err != nil {
		return nil, err
	}
	if f.Sealed < cost {
		f.Form, f.Bytes = f.Result.Form, f.Sealed
	}
	return f, nil
}

// run runs this program for one thing alone.
func (m *measurer) run(ctx context.Context, result any, args ...string) (usage.Usage, error) {
	cmd := exec.Command(m.self, append([]string{alone}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+m.work)
	var out bytes.Buffer
	cmd.Stdout = &out
	u, err := usage.Measure(ctx, cmd)
	if err == nil && result != nil {
		err = json.Unmarshal(out.Bytes(), result)
	}
	return u, err
}

// alone is the first argument of the process that run starts.
const alone = "alone"

// runAlone is that process.
func runAlone(ctx context.Context, args []string) error {
	// As davit sets them for itself.
	debug.SetMemoryLimit(180 << 20)
	debug.SetGCPercent(50)
	var (
		result any
		err    error
	)
	switch what, args := args[0], args[1:]; {
	case what == "open" && len(args) == 2:
		o := &opening{}
		result, err = o, o.open(args[0], args[1])
	case what == "make" && len(args) == 4:
		result, err = runMake(ctx, args[0], args[1], args[2], args[3])
	case what == "apply" && len(args) == 3:
		err = runApply(ctx, args[0], args[1], args[2])
	default:
		err = fmt.Errorf("run alone: %q with %d arguments", what, len(args))
	}
	if err != nil || result == nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// runMake has all the time it wants: what fits into the time of an export is
// another question (overtime), with another answer on each machine.
func runMake(ctx context.Context, base, target, to, limit string) (*made, error) {
	var o delta.Options
	if _, err := fmt.Sscan(limit, &o.Limit); err != nil {
		return nil, fmt.Errorf("parse limit: %w", err)
	}
	old, oldSize, err := openSized(base)
	if err != nil {
		return nil, err
	}
	defer old.Close()
	file, size, err := openSized(target)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	out, err := os.Create(to)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	result, err := delta.Make(ctx, old, oldSize, file, size, out, o)
	if errors.Is(err, delta.ErrNotWorth) || errors.Is(err, delta.ErrTooLarge) {
		if result == nil {
			result = &delta.Result{}
		}
		if result.Form = formChunks; result.Reason == "" {
			result.Reason = err.Error()
		}
		return &made{Result: *result}, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := delta.Inspect(out, result.Bytes)
	if err != nil {
		return nil, err
	}
	return &made{*result, [...]int64{v.Gaps.Packed + v.Copies.Packed, v.Addresses.Packed, v.Literals.Packed, v.Differs.Packed, v.Closings.Packed}}, nil
}

func runApply(ctx context.Context, base, file, to string) error {
	old, oldSize, err := openSized(base)
	if err != nil {
		return err
	}
	defer old.Close()
	from, size, err := openSized(file)
	if err != nil {
		return err
	}
	defer from.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(delta.Apply(ctx, old, oldSize, from, size, out, delta.Options{}), out.Close())
}

// budget is how long export proves streams of a file of this size.
func budget(size int64) time.Duration {
	return max(deltaPatient, time.Duration(float64(deltaBudget)*float64(size)/(1<<30)))
}

func openSized(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// chunks is what the new file's chunks take that the old one does not have: the
// bytes in a pack, and the compressed bytes alone, which is what a delta is held
// against.
func (m *measurer) chunks(p *pair, f *figures) (int64, error) {
	seen := map[chunk.Name]bool{}
	if err := cut(p.oldFile, func(name chunk.Name, _ []byte) { seen[name] = true }); err != nil {
		return 0, err
	}
	enc, err := pack.NewEncoder()
	if err != nil {
		return 0, err
	}
	var (
		frame, out []byte
		frames     []int
		n          int
		cost       int64
	)
	flush := func() {
		out = enc.Encode(out[:0], frame)
		frames, frame, cost = append(frames, len(out)), frame[:0], cost+int64(len(out))
	}
	err = cut(p.newFile, func(name chunk.Name, data []byte) {
		if seen[name] {
			return
		}
		seen[name] = true
		n++
		if frame = append(frame, data...); len(frame) >= pack.FrameTarget {
			flush()
		}
	})
	if err != nil {
		return 0, err
	}
	if len(frame) > 0 {
		flush()
	}
	f.Plain, err = pack.SealedSize(frames, n, m.keys)
	return cost, err
}

func cut(name string, each func(chunk.Name, []byte)) error {
	r, err := os.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	c, err := chunk.NewCutter(chunk.DefaultParams())
	if err != nil {
		return err
	}
	c.Reset(r)
	for {
		data, err := c.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		each(chunk.Name(sha256.Sum256(data)), data)
	}
}
