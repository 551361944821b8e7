package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Bounds of documents, checked before anything is decoded.
const (
	MaxPayload  = 16 << 20 // bytes of any document
	maxCard     = 64 << 10
	maxReceipt  = 8 << 20
	maxResult   = 8 << 20
	maxObjects  = 250_000   // JSON objects and arrays in a payload
	maxElements = 1_000_000 // members and elements in a payload
)

// Payload types of the documents.
const (
	PayloadCard    = "application/vnd.davit.card+json"
	PayloadBundle  = "application/vnd.davit.bundle+json"
	PayloadReceipt = "application/vnd.davit.receipt+json"
	PayloadEntry   = "application/vnd.davit.entry+json"
	PayloadSeal    = "application/vnd.davit.seal+json"
	PayloadInToto  = "application/vnd.in-toto+json" // releases and results
)

// Predicate types of the in-toto statements.
const (
	StatementType    = "https://in-toto.io/Statement/v1"
	PredicateRelease = "urn:davit:release:1"
	PredicateResult  = "urn:davit:result:1"
)

var (
	// ErrMalformed is wrapped when bytes are not what the format allows.
	ErrMalformed = errors.New("malformed")

	// ErrVersion is wrapped when a document is of a version or predicate that
	// this program does not know.
	ErrVersion = errors.New("unknown format version")

	// ErrKind is wrapped when a document is of another kind than the one asked
	// for. It is an ErrMalformed too.
	ErrKind = fmt.Errorf("another kind of document: %w", ErrMalformed)
)

// Document is implemented by pointers to Card, Release, Bundle, Receipt, Result
// and Entry.
type Document interface {
	// PayloadType is the type of the DSSE payload.
	PayloadType() string
	// Validate says what is wrong with the document, if anything is. It looks
	// at nothing outside the document.
	Validate() error
}

// predicate is a document that is written as an in-toto statement.
type predicate interface {
	Document
	predicateType() string
	subjects() []subject
}

// statement is an in-toto statement, version 1. Its subjects repeat what the
// predicate says of the packages, for tools that know in-toto and not davit;
// since they are derived when writing and compared when reading, the two
// cannot disagree.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     any       `json:"predicate"`
}

type subject struct {
	Name   string        `json:"name"`
	Digest subjectDigest `json:"digest"`
}

type subjectDigest struct {
	SHA256 Digest `json:"sha256"`
}

// EncodeDocument validates d and returns its canonical bytes.
func EncodeDocument(d Document) ([]byte, error) {
	kind := kindOf(d)
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	data, err := encode(d)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	// What is written here must be readable everywhere, for ever.
	if err := decode(data, reflect.New(reflect.TypeOf(d).Elem()).Interface().(Document)); err != nil {
		return nil, fmt.Errorf("encode %s: cannot be read back: %w", kind, err)
	}
	return data, nil
}

// DecodeDocument reads canonical bytes into d and validates it. It verifies no
// signature: see Open.
func DecodeDocument(data []byte, d Document) error {
	if err := decode(data, d); err != nil {
		return fmt.Errorf("decode %s: %w", kindOf(d), err)
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("decode %s: %w: %w", kindOf(d), ErrMalformed, err)
	}
	return nil
}

// encode writes the canonical form: members in the order of the Go structs, no
// spaces, no escapes but those JSON needs.
func encode(d Document) ([]byte, error) {
	var v any = d
	if p, ok := d.(predicate); ok {
		v = statement{StatementType, p.subjects(), p.predicateType(), p}
	}
	return encodeJSON(v)
}

func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// decode reads the canonical form and nothing else: what it accepts it would
// write the same way.
func decode(data []byte, d Document) error {
	if most := maxPayload(d); len(data) > most {
		return fmt.Errorf("%w: %d bytes, at most %d allowed", ErrMalformed, len(data), most)
	}
	if err := weigh(data, maxObjects, maxElements); err != nil {
		return err
	}
	var err error
	if p, ok := d.(predicate); ok {
		if err = checkPredicate(data, p.predicateType()); err != nil {
			return err
		}
		err = decodeJSON(data, &statement{Predicate: d})
	} else {
		if err = checkVersion(data); err != nil {
			return err
		}
		err = decodeJSON(data, d)
	}
	if err != nil {
		return err
	}
	again, err := encode(d)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, data) {
		return notCanonical(data, again)
	}
	return nil
}

func decodeJSON(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// notCanonical says where the first difference is.
func notCanonical(got, want []byte) error {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Errorf("%w: not in canonical form at byte %d of %d", ErrMalformed, i, len(got))
}

// checkVersion reads the version, which stands first so that it can be read
// before anything else.
func checkVersion(data []byte) error {
	rest, ok := bytes.CutPrefix(data, []byte(`{"version":`))
	if !ok {
		return fmt.Errorf("%w: does not begin with its version", ErrMalformed)
	}
	n := 0
	for n < len(rest) && n < 20 && isDigit(rest[n]) {
		n++
	}
	switch version := string(rest[:n]); version {
	case "":
		return fmt.Errorf("%w: its version is not a number", ErrMalformed)
	case "1":
		return nil
	default:
		return fmt.Errorf("%w: version %s", ErrVersion, version)
	}
}

// checkPredicate reads what kind of statement it is.
func checkPredicate(data []byte, want string) error {
	var head struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case head.Type != StatementType && strings.HasPrefix(head.Type, "https://in-toto.io/Statement/"):
		return fmt.Errorf("%w: statement of type %q", ErrVersion, clip(head.Type))
	case head.Type != StatementType:
		return fmt.Errorf("%w: not an in-toto statement", ErrMalformed)
	case head.PredicateType == want:
		return nil
	case head.PredicateType == PredicateRelease || head.PredicateType == PredicateResult:
		return fmt.Errorf("%w: predicate %s, not %s", ErrKind, head.PredicateType, want)
	default:
		return fmt.Errorf("%w: predicate %q", ErrVersion, clip(head.PredicateType))
	}
}

// weigh refuses JSON that is small on the wire and large in memory, such as a
// list of millions of empty objects, before it is decoded.
func weigh(data []byte, objects, elements int) error {
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			objects--
		case ',':
			elements--
		}
		if objects < 0 || elements < 0 {
			return fmt.Errorf("%w: too many members", ErrMalformed)
		}
	}
	return nil
}

func maxPayload(d Document) int {
	switch d.(type) {
	case *Card, *Seal:
		return maxCard
	case *Receipt:
		return maxReceipt
	case *Result:
		return maxResult
	}
	return MaxPayload
}

// kindOf names a document for people.
func kindOf(d Document) string {
	return strings.ToLower(reflect.TypeOf(d).Elem().Name())
}

// clip shortens hostile text for an error.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "?") + "…"
	}
	return s
}
