package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"davit/store/bucket"
	"davit/store/pack"
)

const (
	documentPrefix = "documents/"

	// MaxDocument bounds the plaintext of one document, in bytes.
	MaxDocument = 48 << 20
)

// PutDocument seals data and stores it as documents/NAME, durably. A document
// is never replaced: when the name is taken the error wraps bucket.ErrExist.
func (s *Store) PutDocument(ctx context.Context, name string, data []byte) error {
	if len(data) > MaxDocument {
		return fmt.Errorf("store document %s: it has %d bytes, more than %d", name, len(data), MaxDocument)
	}
	sealed, err := pack.Seal(data, s.keys)
	if err != nil {
		return fmt.Errorf("store document %s: %w", name, err)
	}
	if err := bucket.Put(ctx, s.bucket, documentPrefix+name, sealed); err != nil {
		return fmt.Errorf("store document %s: %w", name, err)
	}
	return nil
}

// Document returns a document's bytes. Absent: an error wrapping ErrMissing.
func (s *Store) Document(ctx context.Context, name string) ([]byte, error) {
	// Sealing adds a header a recipient and little else, so twice is ample.
	sealed, err := bucket.Get(ctx, s.bucket, documentPrefix+name, 2*MaxDocument)
	if errors.Is(err, bucket.ErrNotExist) {
		return nil, fmt.Errorf("read document %s: %w", name, ErrMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("read document %s: %w", name, err)
	}
	data, err := pack.Unseal(sealed, s.keys, MaxDocument)
	if errors.Is(err, pack.ErrWrongKey) {
		return nil, fmt.Errorf("read document %s: %w", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read document %s: %w: %w", name, ErrDamaged, err)
	}
	return data, nil
}

// HasDocument reports whether a document is there, without opening it.
func (s *Store) HasDocument(ctx context.Context, name string) (bool, error) {
	_, err := s.bucket.Stat(ctx, documentPrefix+name)
	if errors.Is(err, bucket.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for document %s: %w", name, err)
	}
	return true, nil
}

// Documents lists the names below prefix in lexical order.
func (s *Store) Documents(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for info, err := range s.bucket.List(ctx, documentPrefix+prefix) {
			if err != nil {
				yield("", fmt.Errorf("list documents %s: %w", prefix, err))
				return
			}
			if !yield(strings.TrimPrefix(info.Name, documentPrefix), nil) {
				return
			}
		}
	}
}
