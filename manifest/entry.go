package manifest

// Entry is one link of the audit log. Everything that changes a site's state
// is an entry, signed by the site and naming the entry before it; the index is
// a projection of the entries and the packs, and can be rebuilt from them.
type Entry struct {
	Version  int    `json:"version"`
	Sequence int64  `json:"sequence"` // 1 for the first
	Previous Digest `json:"previous"` // zero for the first alone
	Time     Time   `json:"time"`
	Actor    string `json:"actor"`
	Facts    []Fact `json:"facts"`
}
