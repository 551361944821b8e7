package manifest

import "davit/store/chunk"

// Kinds of packages.
const (
	PackageFile = "file"
	PackageTree = "tree"
)

// Types of parameters.
const (
	ParameterString = "string"
	ParameterInt    = "int"
	ParameterBool   = "bool"
)

// Release is an immutable version of a project: what it consists of, how it is
// deployed, and the evidence for it. It is the predicate of an in-toto
// statement whose subjects are the packages.
type Release struct {
	Project     string       `json:"project"`
	Version     string       `json:"version"`
	Site        string       `json:"site"` // where it was created
	Created     Time         `json:"created"`
	Notes       string       `json:"notes,omitempty"`
	Packages    []Package    `json:"packages"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Parameters  []Parameter  `json:"parameters,omitempty"`
	Process     Process      `json:"process,omitzero"`
}

// Package is one file or one directory tree of a release.
type Package struct {
	Name      string     `json:"name"`
	Version   string     `json:"version"`
	MediaType string     `json:"mediaType,omitempty"`
	Path      string     `json:"path"` // where it is put in a materialized release
	Kind      string     `json:"kind"`
	Mode      uint32     `json:"mode,omitempty"` // permission bits, files only
	Size      int64      `json:"size"`           // bytes of all its files
	Files     int64      `json:"files"`          // number of its files; 1 for a file
	SHA256    Digest     `json:"sha256"`         // of a file's content, or of a tree's listing
	Content   chunk.Ref  `json:"content"`        // the file, or the tree's files in listing order
	Tree      *chunk.Ref `json:"tree,omitempty"` // the tree's listing
	// CaseSensitive says that the tree holds names that differ only in case,
	// so that it cannot be put on a file system that takes them for one.
	CaseSensitive bool `json:"caseSensitive,omitempty"`
}

// Attachment is evidence or paper that travels with a release.
type Attachment struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"` // sbom, attestation, licence, other …
	MediaType string    `json:"mediaType,omitempty"`
	Size      int64     `json:"size"`
	SHA256    Digest    `json:"sha256"`
	Content   chunk.Ref `json:"content"`
}

// Parameter declares a value that the deploying site may or must give.
type Parameter struct {
	Name         string            `json:"name"`
	Type         string            `json:"type"`
	Description  string            `json:"description,omitempty"`
	Default      *string           `json:"default,omitempty"`
	Required     bool              `json:"required,omitempty"`
	Sensitive    bool              `json:"sensitive,omitempty"`    // then no value may stand in the release
	Environments map[string]string `json:"environments,omitempty"` // defaults by environment
}

// Process says how a release is deployed: its steps, one after another.
type Process struct {
	Steps []Step `json:"steps,omitempty"`
}

// Step is one command of a process.
type Step struct {
	Name        string            `json:"name"`
	Run         []string          `json:"run"`                 // program and arguments; no shell
	Timeout     int64             `json:"timeout"`             // seconds
	Directory   string            `json:"directory,omitempty"` // in the materialized release
	Environment map[string]string `json:"environment,omitempty"`
}
