package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/bucket"
	"davit/store/pack"
	"davit/transfer"
	"davit/transfer/bundle"
	"davit/transfer/content"
	"davit/transfer/delta"
	"davit/transfer/route"
)

// Exit codes, a promise to scripts.
const (
	exitOK          = 0
	exitUnexpected  = 1
	exitUsage       = 2
	exitDamage      = 3
	exitIncomplete  = 4
	exitRefused     = 5
	exitConflict    = 6
	exitNoSpace     = 7
	exitUnreachable = 8
	exitDeployment  = 9
	exitNotFound    = 10
	exitBusy        = 11
	exitInterrupted = 130
)

// exitCodes explains them, for help and for JSON.
var exitCodes = []struct {
	code          int
	kind, meaning string
}{
	{exitOK, "ok", "done, or there was nothing to do"},
	{exitUnexpected, "unexpected", "something nobody thought of; please report it"},
	{exitUsage, "usage", "the command line or davit.yaml is wrong; nothing was done"},
	{exitDamage, "damage", "bytes are not what they were: on the medium, in the store or in the log"},
	{exitIncomplete, "incomplete", "volumes, a base release or parameter values are missing"},
	{exitRefused, "refused", "not allowed: signature, grant, recipient, fork, format version, content, or an older release without --allow-rollback"},
	{exitConflict, "conflict", "another release of that version exists, a name on the medium is taken, or a peer's keys have changed"},
	{exitNoSpace, "no space", "too little room; the message says how much is needed"},
	{exitUnreachable, "unreachable", "a medium, folder, file or store is not there or cannot be read"},
	{exitDeployment, "deployment failed", "a deployment ran and did not succeed; its result is recorded"},
	{exitNotFound, "not found", "there is no such release, peer, shipment or deployment, or no bundle for this site"},
	{exitBusy, "busy", "another davit process is at work on the same thing; try again"},
	{exitInterrupted, "interrupted", "stopped by a signal; the same command can be run again"},
}

// usageError is a mistake on the command line or in the config.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// usage makes any error one of usage; nil stays nil.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err.Error()}
}

// codeError is an error whose code is known where it is made.
type codeError struct {
	code int
	text string
}

func (e *codeError) Error() string { return e.text }

func failf(code int, format string, args ...any) error {
	return &codeError{code, fmt.Sprintf(format, args...)}
}

var errInterrupted = &codeError{exitInterrupted, "interrupted; nothing is lost, run the same command again"}

// classify gives an error its exit code and the word for it.
func classify(err error) (int, string) {
	code := codeOf(err)
	for _, c := range exitCodes {
		if c.code == code {
			return code, c.kind
		}
	}
	return code, "unexpected"
}

func codeOf(err error) int {
	var (
		own        *codeError
		refused    *transfer.RefusedError
		deployment *transfer.DeployFailedError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return own.code
	case is[*usageError](err), is[*transfer.RequestError](err):
		return exitUsage
	case errors.As(err, &deployment):
		if deployment.Result.Status == manifest.StatusInterrupted {
			return exitInterrupted
		}
		return exitDeployment
	case is[*bucket.NoSpaceError](err):
		return exitNoSpace
	case errors.As(err, &refused):
		switch refused.Cause {
		case manifest.CauseDamage:
			return exitDamage
		case manifest.CauseBase:
			return exitIncomplete
		}
		return exitRefused
	case is[*transfer.ConflictError](err), is[*transfer.KeyChangeError](err), is[*transfer.AmbiguousError](err), is[*bundle.ExistError](err), errors.Is(err, transfer.ErrAcknowledged):
		return exitConflict
	case is[*transfer.GrantError](err), is[*transfer.OlderError](err), is[*transfer.SourceError](err), is[*transfer.ValueError](err):
		return exitRefused
	case is[*transfer.WaitingError](err), is[*transfer.MissingValuesError](err):
		return exitIncomplete
	case errors.Is(err, manifest.ErrPassphrase), errors.Is(err, manifest.ErrWords):
		return exitUsage
	case errors.Is(err, transfer.ErrBusy), is[*route.BusyError](err):
		return exitBusy
	case errors.Is(err, transfer.ErrNotFound):
		return exitNotFound
	case isAny(err, store.ErrVersion, bundle.ErrVersion, pack.ErrVersion, content.ErrVersion, delta.ErrVersion, manifest.ErrVersion, index.ErrNewer):
		return exitRefused
	case isAny(err, pack.ErrWrongKey, manifest.ErrSignature):
		return exitRefused
	case isAny(err, store.ErrDamaged, store.ErrList, content.ErrContent, content.ErrDamaged, delta.ErrDamaged, pack.ErrDamaged, bundle.ErrDamaged, index.ErrDamaged, manifest.ErrMalformed),
		is[*index.ChainError](err):
		return exitDamage
	case errors.Is(err, bundle.ErrIncomplete):
		return exitIncomplete
	case errors.Is(err, store.ErrOccupied), errors.Is(err, fs.ErrExist):
		return exitConflict
	case errors.Is(err, store.ErrMissing):
		return exitDamage
	case errors.Is(err, store.ErrNoStore), errors.Is(err, bucket.ErrNotRegular), is[*fs.PathError](err):
		return exitUnreachable
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitUnexpected
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// severity orders what several bundles of one import came to; the worst is the
// import's.
var severity = []int{exitDamage, exitRefused, exitConflict, exitIncomplete}

// worst returns the code that decides.
func worst(codes []int) int {
	for _, s := range severity {
		for _, c := range codes {
			if c == s {
				return s
			}
		}
	}
	for _, c := range codes {
		if c != exitOK {
			return c
		}
	}
	return exitOK
}
