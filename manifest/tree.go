package manifest

// Types of tree entries.
const (
	TreeFile = "file"
	TreeDir  = "dir"
	TreeLink = "link"
)

// TreeEntry is one line of a tree's listing.
type TreeEntry struct {
	Path   string // slash-separated, below the tree's root
	Type   string
	Mode   uint32 // permission bits of files and directories
	Size   int64  // files only
	SHA256 Digest // files only
	Target string // links only
}
