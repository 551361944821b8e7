// Package usage measures what a process takes: time, processor and memory. The
// benchmarks share it.
package usage

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Usage is what one process took.
type Usage struct {
	Wall time.Duration
	CPU  time.Duration // user and system
	Peak int64         // resident bytes; 0 where the system does not tell
}

// Measure runs cmd to its end. What cmd says is in the error when it fails, but
// for what goes to a Stdout of its own.
func Measure(ctx context.Context, cmd *exec.Cmd) (Usage, error) {
	if cmd == nil {
		return Usage{}, nil
	}
	var out bytes.Buffer
	cmd.Stderr = &out
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return Usage{}, err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return Usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.Bytes())
	}
	p := cmd.ProcessState
	return Usage{Wall: time.Since(began), CPU: p.UserTime() + p.SystemTime(), Peak: peakOf(p)}, nil
}

// FolderSize is the sum of the sizes of the files in a folder.
func FolderSize(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n += info.Size()
		return nil
	})
	return n, err
}

// MB is bytes in units of 10⁶.
func MB(n int64) float64 { return float64(n) / 1e6 }
