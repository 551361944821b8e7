package durable

import "errors"

// IsNoSpace tells whether err comes from a full disk or a used-up quota.
func IsNoSpace(err error) bool {
	for _, full := range noSpace {
		if errors.Is(err, full) {
			return true
		}
	}
	return false
}
