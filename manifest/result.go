package manifest

import "davit/store/chunk"

// How a deployment, or a step of one, ended.
const (
	StatusSucceeded   = "succeeded"
	StatusFailed      = "failed"
	StatusTimedOut    = "timed out"
	StatusInterrupted = "interrupted"
)

// Result states what came of one deployment: what, where, by whom, when and
// how it ended, with its log. It is the predicate of an in-toto statement
// whose subjects are the packages that were deployed.
type Result struct {
	ID          string          `json:"id"` // 16 random bytes as hex, see NewRunID
	Project     string          `json:"project"`
	Version     string          `json:"version"`
	Release     Digest          `json:"release"`
	Site        string          `json:"site"`
	Environment string          `json:"environment"`
	Actor       string          `json:"actor"`
	Started     Time            `json:"started"`
	Ended       Time            `json:"ended"`
	Status      string          `json:"status"`
	Message     string          `json:"message,omitempty"`
	Steps       []ResultStep    `json:"steps,omitempty"` // those that were begun
	Log         ResultLog       `json:"log"`
	Packages    []ResultPackage `json:"packages"`
}

// ResultStep says how one step went.
type ResultStep struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
	Exit    int    `json:"exit"` // exit code; -1 when there was none
	Started Time   `json:"started"`
	Ended   Time   `json:"ended"`
}

// ResultLog points at the whole output of the deployment.
type ResultLog struct {
	Size    int64     `json:"size"`
	SHA256  Digest    `json:"sha256"`
	Content chunk.Ref `json:"content"`
}

// ResultPackage names a package that was deployed.
type ResultPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  Digest `json:"sha256"`
}
