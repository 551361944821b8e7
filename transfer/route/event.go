package route

import (
	"time"

	"davit/transfer"
	"davit/transfer/bundle"
)

// Kind says what an Event is about.
type Kind string

const (
	Watching  Kind = "watching"     // a folder is watched from now on
	Held      Kind = "held"         // another process watches it; this one waits
	Gone      Kind = "gone"         // a folder cannot be reached
	Back      Kind = "back"         // it can again
	TakenIn   Kind = "taken in"     // a bundle was recorded by the site
	Repeat    Kind = "repeat"       // it had been before
	Refused   Kind = "refused"      // by the site, for good
	Damaged   Kind = "damaged"      // a whole file, inside
	Waiting   Kind = "waiting"      // files that are not whole, or volumes that are missing
	Changed   Kind = "changed"      // a file was replaced or written to while it was read
	Retry     Kind = "retry"        // something failed and is tried again
	Elsewhere Kind = "not for here" // a bundle for another site
	Odd       Kind = "odd name"     // a file that looks like a volume, with a name that davit does not take
	Sent      Kind = "sent"         // receipts and results were laid into an outbox
	Removed   Kind = "removed"      // files were kept in done/ long enough
	Stopped   Kind = "stopped"      // the folder is not watched any more
)

// State is where the files of a bundle are.
type State string

const (
	Incoming   State = "incoming"   // in the folder
	Quarantine State = "quarantine" // in done/, and in the site's inbox somebody must decide
	Done       State = "done"       // in done/
	Failed     State = "failed"     // in failed/
)

// Event is something that happened. What lasts is told once, and again when it
// changes.
type Event struct {
	Time   time.Time
	Kind   Kind
	Folder string
	Peer   string   // whose link it is, or who sent the bundle by its label
	Files  []string // as they were named in the folder
	Moved  []string // where they are now, below the folder; in the order of Files
	State  State    // of a bundle or file
	Reason string   // for people
	Err    error    // the same for scripts, where something is wrong

	Label    *bundle.Label           // of the bundle
	Bundle   *transfer.BundleOutcome // what the site made of it
	Accepted []transfer.Decision     // by the link, also of earlier bundles that became complete
	Sent     *transfer.ExportReport
}
