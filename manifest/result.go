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

// Bounds of a result.
const (
	maxActor   = 256
	maxMessage = 16 << 10
)

// PayloadType implements Document.
func (r *Result) PayloadType() string { return PayloadInToto }

func (r *Result) predicateType() string { return PredicateResult }

func (r *Result) subjects() []subject {
	subjects := make([]subject, len(r.Packages))
	for i, p := range r.Packages {
		subjects[i] = subject{p.Name, subjectDigest{p.SHA256}}
	}
	return subjects
}

// Validate implements Document.
func (r *Result) Validate() error {
	if err := at("result",
		at("id", checkRunID(r.ID)),
		checkRef(r.Release, r.Project, r.Version),
		at("site", CheckSite(r.Site)),
		CheckEnvironment(r.Environment),
		at("actor", checkLine(r.Actor, 1, maxActor)),
		at("started", r.Started.Validate()),
		at("ended", r.Ended.Validate()), // may lie before started: clocks are set back
		at("status", checkStatus(r.Status)),
		at("message", checkText(r.Message, maxMessage)),
		list("steps", len(r.Steps), 0, MaxSteps),
		at("log", checkContent(r.Log.Size, r.Log.SHA256, r.Log.Content)),
		list("packages", len(r.Packages), 1, MaxPackages),
	); err != nil {
		return err
	}
	for i, s := range r.Steps {
		if err := item("result: step", i, s.Name,
			at("name", checkLine(s.Name, 1, maxStepName)),
			at("status", checkStatus(s.Status)),
			at("message", checkText(s.Message, maxMessage)),
			at("exit", between(int64(s.Exit), -1<<31, 1<<32-1)), // Windows has unsigned ones
			at("started", s.Started.Validate()),
			at("ended", s.Ended.Validate()),
		); err != nil {
			return err
		}
	}
	once := seen[string]{}
	for i, p := range r.Packages {
		if err := item("result: package", i, p.Name,
			CheckPackage(p.Name),
			CheckVersion(p.Version),
			at("sha256", present(p.SHA256)),
			once.add(p.Name),
		); err != nil {
			return err
		}
	}
	return nil
}

func checkStatus(s string) error {
	return oneOf(s, StatusSucceeded, StatusFailed, StatusTimedOut, StatusInterrupted)
}
