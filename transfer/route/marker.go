package route

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"davit/store/bucket"
	"davit/transfer"
)

const (
	markerEnd   = ".ready"
	markerFirst = "# davit ready 1"
	markerMost  = 8 << 20 // bytes; a line for each of 99,999 volumes fits
	// markersMost bounds all markers of a folder together: they are held in
	// memory, and whoever writes to the folder may write many.
	markersMost = 16 << 20
)

// marker is a file that vouches for others.
type marker struct {
	info  fs.FileInfo
	ours  bool             // in the form of FORMAT.md
	lists map[string]int64 // files by name, with their size; -1 for any
}

func looksLikeMarker(name string) bool {
	return len(name) > len(markerEnd) && strings.EqualFold(name[len(name)-len(markerEnd):], markerEnd)
}

// parseMarker reads a marker. What is not in davit's own form vouches for the
// file whose name it bears, whatever is in it.
func parseMarker(name string, data []byte) (lists map[string]int64, ours bool) {
	alone := name[:len(name)-len(markerEnd)]
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	if string(bytes.TrimRight(first, "\r")) != markerFirst {
		if !looksLikeVolume(alone) || bytes.HasPrefix(first, []byte("# davit ready ")) {
			return nil, false // of a later version, or about something else
		}
		return map[string]int64{alone: -1}, false
	}
	lists = map[string]int64{}
	lines := bufio.NewScanner(bytes.NewReader(rest))
	for lines.Scan() {
		text, file, ok := strings.Cut(strings.TrimRight(lines.Text(), "\r"), " ")
		size, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil || size < 0 || !looksLikeVolume(file) {
			return nil, true // cut off, or changed: it says nothing that can be relied on
		}
		lists[file] = size
	}
	if lines.Err() != nil {
		return nil, true
	}
	return lists, true
}

// readMarker reads the marker that info describes. One that cannot be read
// vouches for nothing.
func readMarker(ctx context.Context, dir *bucket.Dir, name string, info fs.FileInfo) (*marker, error) {
	m := &marker{info: info}
	data, err := bucket.Get(ctx, dir, name, markerMost)
	var large *bucket.TooLargeError
	switch {
	case errors.As(err, &large), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, bucket.ErrName), errors.Is(err, bucket.ErrNotRegular):
		return m, nil
	case err != nil:
		return nil, fmt.Errorf("read marker: %w", err)
	}
	m.lists, m.ours = parseMarker(name, data)
	return m, nil
}

// marshalMarker writes lines for files in the order given.
func marshalMarker(files []string, sizes []int64) []byte {
	var b bytes.Buffer
	b.WriteString(markerFirst + "\n")
	for i, name := range files {
		fmt.Fprintf(&b, "%d %s\n", sizes[i], name)
	}
	return b.Bytes()
}

// markerName is the name of the marker for a bundle with these volumes.
func markerName(volumes []string) string {
	return volumes[0][:strings.LastIndexByte(volumes[0], '.')] + markerEnd
}

// Deliver exports a bundle and then lays the marker beside it that says to the
// other side that all of it is there. Without its marker a bundle is taken for
// ready a little later, so one that cannot be written is no failure.
func Deliver(ctx context.Context, site Exporter, req transfer.ExportRequest) (*transfer.ExportReport, error) {
	report, err := site.Export(ctx, req)
	if err != nil || report.Nothing != "" || report.DryRun || len(report.Files) == 0 {
		return report, err
	}
	sizes := make([]int64, len(report.Files))
	for i, name := range report.Files {
		info, err := req.Medium.Stat(ctx, name)
		if errors.Is(err, bucket.ErrNotExist) {
			return report, nil // the other side was faster
		}
		if err != nil {
			return report, nil
		}
		sizes[i] = info.Size
	}
	_ = bucket.Put(ctx, req.Medium, markerName(report.Files), marshalMarker(report.Files, sizes))
	return report, nil
}

// spent reports whether a marker of ours has nothing left to vouch for: its
// files are not in the folder, and at least one of them is where files go.
func (m *marker) spent(root *os.Root, volumes map[string]fs.FileInfo) bool {
	if !m.ours || len(m.lists) == 0 {
		return false
	}
	for name := range m.lists {
		if _, here := volumes[name]; here {
			return false
		}
	}
	for name := range m.lists {
		for _, dir := range []string{doneDir, failedDir} {
			if _, err := root.Lstat(dir + "/" + name); err == nil {
				return true
			}
		}
	}
	return false
}
