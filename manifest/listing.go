package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// treeHeader is the first line of every listing.
const treeHeader = `{"davit":"tree","version":1}`

// maxTreeLine is longer than any line can be: a path and a target of
// quotation marks only, each escaped, and what stands around them.
const maxTreeLine = 8 << 10

// TreeWriter writes the listing of a tree: a header and one line of JSON for
// each entry.
type TreeWriter struct {
	w     *bufio.Writer
	line  []byte
	check treeCheck
	begun bool
	err   error
}

// NewTreeWriter returns a TreeWriter that writes to w.
func NewTreeWriter(w io.Writer) *TreeWriter {
	return &TreeWriter{w: bufio.NewWriterSize(w, 64<<10)}
}

// Add writes one entry. Entries come in the order of ComparePaths, each
// directory before what is in it. After an error nothing more is written.
func (t *TreeWriter) Add(e TreeEntry) error {
	if t.err != nil {
		return t.err
	}
	if err := t.check.add(&e); err != nil {
		t.err = fmt.Errorf("write tree: %w", err)
		return t.err
	}
	t.line = appendTreeEntry(t.line[:0], &e)
	t.header()
	if _, err := t.w.Write(t.line); err != nil {
		t.err = fmt.Errorf("write tree: %w", err)
	}
	return t.err
}

func (t *TreeWriter) header() {
	if !t.begun {
		t.begun = true
		t.w.WriteString(treeHeader + "\n") // its error stays in the bufio.Writer
	}
}

// Close writes what is still held back. It does not close the writer below.
func (t *TreeWriter) Close() error {
	if t.err != nil {
		return t.err
	}
	t.header()
	if err := t.w.Flush(); err != nil {
		t.err = fmt.Errorf("write tree: %w", err)
		return t.err
	}
	t.err = errors.New("write tree: is closed")
	return nil
}

// Summary counts the entries so far.
func (t *TreeWriter) Summary() TreeSummary { return t.check.summary }

// CaseCollision returns the first two paths that a file system blind to case
// would take for one, if there are any.
func (t *TreeWriter) CaseCollision() (a, b string, ok bool) {
	return t.check.first, t.check.second, t.check.second != ""
}

// appendTreeEntry writes the one form a valid entry has. CheckTreePath leaves only
// the quotation mark to be escaped.
func appendTreeEntry(b []byte, e *TreeEntry) []byte {
	b = append(b, `{"path":"`...)
	b = appendQuoted(b, e.Path)
	b = append(b, `","type":"`...)
	b = append(b, e.Type...)
	switch e.Type {
	case TreeLink:
		b = append(b, `","target":"`...)
		b = appendQuoted(b, e.Target)
		return append(b, "\"}\n"...)
	case TreeDir:
		b = append(b, `","mode":`...)
		b = strconv.AppendUint(b, uint64(e.Mode), 10)
		return append(b, "}\n"...)
	}
	b = append(b, `","mode":`...)
	b = strconv.AppendUint(b, uint64(e.Mode), 10)
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, e.Size, 10)
	b = append(b, `,"sha256":"`...)
	const digits = "0123456789abcdef"
	for _, c := range e.SHA256 {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return append(b, "\"}\n"...)
}

func appendQuoted(b []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			return append(b, s...)
		}
		b = append(append(b, s[:i]...), `\"`...)
		s = s[i+1:]
	}
}

// TreeReader reads a listing, trusting nothing in it. It holds one line and
// what is needed to check the next.
type TreeReader struct {
	r     *bufio.Reader
	line  int64
	again []byte
	check treeCheck
	err   error
}

// NewTreeReader returns a TreeReader that reads from r.
func NewTreeReader(r io.Reader) *TreeReader {
	return &TreeReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Next returns the next entry, and io.EOF alone after the last. All that
// TreeWriter.Add refuses is refused here too, with an error that wraps
// ErrMalformed or ErrVersion. An error of the reader below is passed on.
func (t *TreeReader) Next() (TreeEntry, error) {
	if t.err != nil {
		return TreeEntry{}, t.err
	}
	e, err := t.next()
	if err != nil {
		if err != io.EOF {
			err = fmt.Errorf("read tree: line %d: %w", t.line, err)
		}
		t.err = err
		return TreeEntry{}, err
	}
	return e, nil
}

func (t *TreeReader) next() (TreeEntry, error) {
	var e TreeEntry
	if t.line == 0 {
		line, err := t.readLine()
		if err == io.EOF {
			err = fmt.Errorf("%w: empty", ErrMalformed)
		}
		if err != nil {
			return e, err
		}
		if err := checkTreeHeader(line); err != nil {
			return e, err
		}
	}
	line, err := t.readLine()
	if err != nil {
		return e, err
	}
	if e, err = parseTreeEntry(line); err != nil {
		return e, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := t.check.add(&e); err != nil {
		return e, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	// What has another spelling than ours is refused, so that a listing's
	// digest stands for its content.
	t.again = appendTreeEntry(t.again[:0], &e)
	if !bytes.Equal(t.again[:len(t.again)-1], line) {
		return e, fmt.Errorf("%w: not in canonical form", ErrMalformed)
	}
	return e, nil
}

// readLine returns a line without its end, valid until the next call. Only at
// the end of the listing the error is io.EOF.
func (t *TreeReader) readLine() ([]byte, error) {
	t.line++
	line, err := t.r.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err == io.EOF:
		return nil, fmt.Errorf("%w: cut short", ErrMalformed)
	case err == bufio.ErrBufferFull || err == nil && len(line) > maxTreeLine:
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, maxTreeLine)
	case err != nil:
		return nil, err
	}
	return line[:len(line)-1], nil
}

// Summary counts the entries so far.
func (t *TreeReader) Summary() TreeSummary { return t.check.summary }

// CaseCollision returns the first two paths so far that a file system blind to
// case would take for one, if there are any.
func (t *TreeReader) CaseCollision() (a, b string, ok bool) {
	return t.check.first, t.check.second, t.check.second != ""
}

func checkTreeHeader(line []byte) error {
	if string(line) == treeHeader {
		return nil
	}
	rest, ok := bytes.CutPrefix(line, []byte(`{"davit":"tree","version":`))
	version, ok2 := bytes.CutSuffix(rest, []byte("}"))
	if ok && ok2 && len(version) > 0 && len(version) < 20 && len(bytes.Trim(version, "0123456789")) == 0 {
		return fmt.Errorf("%w: listing of version %s", ErrVersion, version)
	}
	return fmt.Errorf("%w: does not begin with %s", ErrMalformed, treeHeader)
}

var errTreeLine = errors.New("not a line of a listing")

// parseTreeEntry reads a line that is nearly in the one form; the caller
// compares it with what appendTreeEntry makes of the entry.
func parseTreeEntry(line []byte) (e TreeEntry, err error) {
	p := lineParser{rest: line}
	p.skip(`{"path":"`)
	e.Path = p.quoted()
	p.skip(`,"type":"`)
	switch {
	case p.accept(`file","mode":`):
		e.Type = TreeFile
		e.Mode = uint32(p.number(0o777))
		p.skip(`,"size":`)
		e.Size = p.number(MaxSize)
		p.skip(`,"sha256":"`)
		if n := 2 * len(e.SHA256); len(p.rest) >= n && decodeHex(e.SHA256[:], string(p.rest[:n])) == nil {
			p.rest = p.rest[n:]
		} else {
			p.bad = true
		}
		p.skip(`"}`)
	case p.accept(`dir","mode":`):
		e.Type = TreeDir
		e.Mode = uint32(p.number(0o777))
		p.skip(`}`)
	case p.accept(`link","target":"`):
		e.Type = TreeLink
		e.Target = p.quoted()
		p.skip(`}`)
	default:
		p.bad = true
	}
	if p.bad || len(p.rest) > 0 {
		return TreeEntry{}, errTreeLine
	}
	return e, nil
}

// lineParser eats a line from the left. After the first thing that does not
// fit, bad is set and nothing more is found.
type lineParser struct {
	rest []byte
	bad  bool
}

func (p *lineParser) accept(s string) bool {
	if p.bad || len(p.rest) < len(s) || string(p.rest[:len(s)]) != s {
		return false
	}
	p.rest = p.rest[len(s):]
	return true
}

func (p *lineParser) skip(s string) {
	if !p.accept(s) {
		p.bad = true
	}
}

// quoted reads up to the closing quotation mark.
func (p *lineParser) quoted() string {
	i := bytes.IndexAny(p.rest, `"\`)
	if p.bad || i < 0 {
		p.bad = true
		return ""
	}
	if p.rest[i] == '"' { // nearly always
		s := string(p.rest[:i])
		p.rest = p.rest[i+1:]
		return s
	}
	var s []byte
	for {
		i := bytes.IndexAny(p.rest, `"\`)
		if i < 0 {
			break
		}
		s = append(s, p.rest[:i]...)
		if p.rest[i] == '"' {
			p.rest = p.rest[i+1:]
			return string(s)
		}
		if i+1 == len(p.rest) || p.rest[i+1] != '"' {
			break
		}
		s = append(s, '"')
		p.rest = p.rest[i+2:]
	}
	p.bad = true
	return ""
}

func (p *lineParser) number(most int64) int64 {
	n := 0
	for n < len(p.rest) && n < 17 && isDigit(p.rest[n]) {
		n++
	}
	v, err := strconv.ParseInt(string(p.rest[:n]), 10, 64)
	if p.bad || err != nil || v > most {
		p.bad = true
		return 0
	}
	p.rest = p.rest[n:]
	return v
}
