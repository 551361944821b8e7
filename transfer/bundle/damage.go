package bundle

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrDamaged is what every damaged volume answers to.
	ErrDamaged = errors.New("volume is damaged")
	// ErrIncomplete is what a missing volume answers to.
	ErrIncomplete = errors.New("volumes are missing")
)

// BlockRange is a run of blocks of one volume, counted from 0 at the start of
// its data. Block n begins at byte HeaderSize + n*BlockSize of the file.
type BlockRange struct {
	First int64 `json:"first"`
	Count int64 `json:"count"`
}

// DamageError says what is wrong with one file. Blocks is empty when the
// damage lies outside the data or cannot be located.
type DamageError struct {
	File   string // "" when the caller knows
	Blocks []BlockRange
	Reason string
	Err    error // what reading failed with, if it did
}

func (e *DamageError) Error() string {
	var b strings.Builder
	b.WriteString("volume ")
	if e.File != "" {
		b.WriteString(e.File + " ")
	}
	b.WriteString("is damaged: " + e.Reason)
	for i, r := range e.Blocks {
		if i == 4 {
			fmt.Fprintf(&b, " and %d more places", len(e.Blocks)-i)
			break
		}
		sep := ","
		if i == 0 {
			sep = ":"
		}
		if r.Count == 1 {
			fmt.Fprintf(&b, "%s block %d", sep, r.First)
		} else {
			fmt.Fprintf(&b, "%s blocks %d to %d", sep, r.First, r.First+r.Count-1)
		}
	}
	return b.String()
}

// Is makes every DamageError an ErrDamaged.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

func (e *DamageError) Unwrap() error { return e.Err }

// MissingVolumeError says which volume a read would have needed.
type MissingVolumeError struct {
	Volume, Volumes int
	Name            string // the name the volume was written under
}

func (e *MissingVolumeError) Error() string {
	return fmt.Sprintf("volume %d of %d is missing: look for %s", e.Volume, e.Volumes, e.Name)
}

// Is makes every MissingVolumeError an ErrIncomplete.
func (e *MissingVolumeError) Is(target error) bool { return target == ErrIncomplete }

// IncompleteError lists all volumes that a bundle lacks.
type IncompleteError struct {
	Label   Label
	Volumes int
	Missing []int
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("%s lacks %s", e.Label, missingText(e.Missing, e.Volumes))
}

// Is makes every IncompleteError an ErrIncomplete.
func (e *IncompleteError) Is(target error) bool { return target == ErrIncomplete }

// missingText writes "volume 3 of 5" or "volumes 1, 3 to 5 of 9".
func missingText(missing []int, volumes int) string {
	var runs []string
	for i := 0; i < len(missing); {
		j := i
		for j+1 < len(missing) && missing[j+1] == missing[j]+1 {
			j++
		}
		switch {
		case len(runs) == 8:
			runs = append(runs, fmt.Sprintf("and %d more", len(missing)-i))
			j = len(missing) - 1
		case i == j:
			runs = append(runs, fmt.Sprint(missing[i]))
		default:
			runs = append(runs, fmt.Sprintf("%d to %d", missing[i], missing[j]))
		}
		i = j + 1
	}
	word := "volumes"
	if len(missing) == 1 {
		word = "volume"
	}
	return fmt.Sprintf("%s %s of %d", word, strings.Join(runs, ", "), volumes)
}

// ExistError says that a name on the medium is taken.
type ExistError struct {
	Name   string // of the file
	Holder string // what is in it
	Err    error  // bucket.ErrExist
}

func (e *ExistError) Error() string {
	return fmt.Sprintf("%s is on the medium already and holds %s", e.Name, e.Holder)
}

func (e *ExistError) Unwrap() error { return e.Err }
