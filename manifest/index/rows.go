package index

import (
	"context"
	"database/sql"
	"encoding"
	"encoding/json"
	"fmt"
	"time"

	"davit/manifest"
)

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, q querier, scan func(*sql.Rows, *T) error, query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var t T
		if err := scan(rows, &t); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

// one reads the first row of a query; sql.ErrNoRows if there is none.
func one[T any](ctx context.Context, q querier, scan func(*sql.Rows, *T) error, query string, args ...any) (T, error) {
	all, err := collect(ctx, q, scan, query, args...)
	if err == nil && len(all) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		var none T
		return none, err
	}
	return all[0], nil
}

// snapshot runs fn on one state of the index.
func (x *Index) snapshot(ctx context.Context, fn func(q querier) error) error {
	tx, err := x.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return fn(tx)
}

// update runs fn in a transaction, durable when nil is returned.
func (x *Index) update(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := x.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// digestText is how a digest stands in a column.
func digestText(d manifest.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

// text scans a column into a value that reads itself from text; "" leaves it
// zero.
type text struct{ v encoding.TextUnmarshaler }

// Scan implements sql.Scanner.
func (t text) Scan(src any) error {
	s, ok := src.(string)
	if !ok {
		return fmt.Errorf("%w: a column holds %T instead of text", ErrDamaged, src)
	}
	if s == "" {
		return nil
	}
	if err := t.v.UnmarshalText([]byte(s)); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// moment scans seconds since 1970 into a time; 0 leaves it zero.
type moment struct{ t *time.Time }

// Scan implements sql.Scanner.
func (m moment) Scan(src any) error {
	s, ok := src.(int64)
	if !ok {
		return fmt.Errorf("%w: a column holds %T instead of a time", ErrDamaged, src)
	}
	if s != 0 {
		*m.t = time.Unix(s, 0).UTC()
	}
	return nil
}

// listText is how a list stands in a column.
func listText[T any](list []T) (string, error) {
	if len(list) == 0 {
		return "[]", nil
	}
	b, err := json.Marshal(list)
	return string(b), err
}

// list scans what listText made.
type list[T any] struct{ l *[]T }

// Scan implements sql.Scanner.
func (l list[T]) Scan(src any) error {
	s, ok := src.(string)
	if !ok {
		return fmt.Errorf("%w: a column holds %T instead of a list", ErrDamaged, src)
	}
	var v []T
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(v) > 0 {
		*l.l = v
	}
	return nil
}
