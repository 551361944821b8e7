package bundle

import (
	"cmp"
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
// its data. Block n begins at byte HeaderSize + n*BlockSize of the file; with
// parity the blocks are shards, and have the geometry's size instead.
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

	unit string // what Blocks are: "" means block
}

func (e *DamageError) Error() string {
	var b strings.Builder
	b.WriteString("volume ")
	if e.File != "" {
		b.WriteString(e.File + " ")
	}
	b.WriteString("is damaged: " + e.Reason)
	unit := cmp.Or(e.unit, "block")
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
			fmt.Fprintf(&b, "%s %s %d", sep, unit, r.First)
		} else {
			fmt.Fprintf(&b, "%s %ss %d to %d", sep, unit, r.First, r.First+r.Count-1)
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

// StripeError says what was lost for good: of a stripe more shards are missing
// or damaged than parity replaces.
type StripeError struct {
	Stripes []BlockRange // in the order of the payload
	Lost    int          // shards of the first of them
	Parity  int          // so many may be lost
	Volumes int
	Missing []int          // volumes of which no file is there
	Damaged []*DamageError // files, and what of them was found damaged
}

func (e *StripeError) Error() string {
	var b strings.Builder
	for i, r := range e.Stripes {
		switch {
		case i == 4:
			fmt.Fprintf(&b, " and in %d more places", len(e.Stripes)-i)
		case i > 4:
		case r.Count == 1:
			fmt.Fprintf(&b, "%sstripe %d", sepOf(i), r.First)
		default:
			fmt.Fprintf(&b, "%sstripes %d to %d", sepOf(i), r.First, r.First+r.Count-1)
		}
	}
	fmt.Fprintf(&b, " cannot be repaired: %d shards are lost, and parity replaces %d", e.Lost, e.Parity)
	if len(e.Missing) > 0 {
		fmt.Fprintf(&b, "; missing: %s", missingText(e.Missing, e.Volumes))
	}
	for i, d := range e.Damaged {
		if i == 4 {
			fmt.Fprintf(&b, "; and %d more files", len(e.Damaged)-i)
			break
		}
		fmt.Fprintf(&b, "; %v", d)
	}
	return b.String()
}

func sepOf(i int) string {
	if i == 0 {
		return ""
	}
	return ", "
}

// Is makes it an ErrIncomplete when volumes are missing, and an ErrDamaged
// when it is all due to damage. If reading failed, what it failed with decides:
// see Unwrap.
func (e *StripeError) Is(target error) bool {
	switch target {
	case ErrIncomplete:
		return len(e.Missing) > 0
	case ErrDamaged:
		return len(e.Damaged) > 0 && len(e.Unwrap()) == 0
	}
	return false
}

// Unwrap gives what reading failed with.
func (e *StripeError) Unwrap() []error {
	var all []error
	for _, d := range e.Damaged {
		if d.Err != nil {
			all = append(all, d.Err)
		}
	}
	return all
}

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
