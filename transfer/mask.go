package transfer

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
)

// masked stands where a secret stood.
const masked = "***"

// maskWriter writes what it is given with every secret replaced. Bytes that
// may be the beginning of a secret are held back until that is known.
type maskWriter struct {
	mu      sync.Mutex // a step's two outputs may write at once
	w       io.Writer
	secrets [][]byte // longest first, none empty
	held    []byte
}

// newMaskWriter masks the secrets and, as logs go line by line, each of the
// lines of a secret that has several.
func newMaskWriter(w io.Writer, secrets []string) *maskWriter {
	m := &maskWriter{w: w}
	for _, s := range secrets {
		parts := append([]string{s, strings.TrimSpace(s)}, strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })...)
		for _, p := range parts {
			if p != "" {
				m.secrets = append(m.secrets, []byte(p))
			}
		}
	}
	slices.SortFunc(m.secrets, func(a, b []byte) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return bytes.Compare(a, b)
	})
	m.secrets = slices.CompactFunc(m.secrets, bytes.Equal)
	return m
}

// Write takes the next bytes of the log.
func (m *maskWriter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.secrets) == 0 {
		return m.w.Write(p)
	}
	m.held = append(m.held, p...)
	if err := m.pass(false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes what is still held back. It does not close the writer below.
func (m *maskWriter) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pass(true)
}

// pass writes out what is sure: at the end all of it.
func (m *maskWriter) pass(end bool) error {
	var out []byte
	rest := m.held
next:
	for len(rest) > 0 {
		for _, s := range m.secrets {
			if bytes.HasPrefix(rest, s) {
				out = append(out, masked...)
				rest = rest[len(s):]
				continue next
			}
			if !end && len(rest) < len(s) && bytes.HasPrefix(s, rest) {
				break next
			}
		}
		out = append(out, rest[0])
		rest = rest[1:]
	}
	m.held = append(m.held[:0], rest...)
	if len(out) == 0 {
		return nil
	}
	_, err := m.w.Write(out)
	return err
}

// mask replaces the secrets in a message.
func (m *maskWriter) mask(s string) string {
	for _, secret := range m.secrets {
		s = strings.ReplaceAll(s, string(secret), masked)
	}
	return s
}
