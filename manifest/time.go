package manifest

import (
	"errors"
	"fmt"
	"time"
)

// Time is a moment as documents write it: UTC, whole seconds, RFC 3339, such
// as "2026-11-24T09:30:00Z". Make one with NewTime or Unix; then two equal
// moments are equal with == too.
type Time struct{ time.Time }

// timeLayout is RFC 3339 in UTC without fractions, the one spelling allowed.
const timeLayout = "2006-01-02T15:04:05Z"

// NewTime returns t in UTC, cut to the second.
func NewTime(t time.Time) Time { return Time{t.UTC().Truncate(time.Second)} }

// Unix returns the moment that many seconds after 1970.
func Unix(seconds int64) Time { return NewTime(time.Unix(seconds, 0)) }

// ParseTime reads the one spelling that String writes.
func ParseTime(s string) (Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return Time{}, fmt.Errorf("parse time: %q is not of the form %s", s, timeLayout)
	}
	v := NewTime(t)
	if v.String() != s {
		return Time{}, fmt.Errorf("parse time: %q is not of the form %s", s, timeLayout)
	}
	return v, v.Validate()
}

// String returns the moment as documents write it.
func (t Time) String() string { return t.UTC().Format(timeLayout) }

// Validate refuses the zero time and years that the format cannot hold.
func (t Time) Validate() error {
	switch {
	case t.IsZero():
		return errors.New("time is not set")
	case t.Unix() < 0:
		return fmt.Errorf("time %s is before 1970", t)
	case t.UTC().Year() > 9999:
		return errors.New("time is after the year 9999")
	}
	return nil
}

// MarshalText writes what String returns.
func (t Time) MarshalText() ([]byte, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return []byte(t.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (t *Time) UnmarshalText(text []byte) error {
	v, err := ParseTime(string(text))
	if err != nil {
		return err
	}
	*t = v
	return nil
}

// MarshalJSON writes a JSON string; it stands here because time.Time's own
// would be used otherwise.
func (t Time) MarshalJSON() ([]byte, error) {
	text, err := t.MarshalText()
	if err != nil {
		return nil, err
	}
	return append(append([]byte{'"'}, text...), '"'), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Time) UnmarshalJSON(data []byte) error {
	if len(data) < 2 || data[0] != '"' || data[len(data)-1] != '"' {
		return errors.New("parse time: not a string")
	}
	return t.UnmarshalText(data[1 : len(data)-1])
}
